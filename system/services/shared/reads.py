"""The read side that services have in common: one place that builds it from ports and policies.

Each reader is built at its first use, so a service never touches a port that it does not name in `NEEDS`.
"""

from __future__ import annotations

from functools import cached_property

from system.kernel.policies import Policies
from system.ports import Ports
from system.services.shared.bodies import Bodies
from system.services.shared.list_rebuild import CachedLists
from system.services.shared.public_metrics import PublicMetrics, TweetCounts
from system.services.shared.read_through import Profiles, Tweets, Usernames
from system.services.shared.visibility import Visibility


class Reads:
    """Readers of one process, one of each kind: what two handlers share, they share here."""

    def __init__(self, ports: Ports, policies: Policies) -> None:
        self.ports, self._policies = ports, policies
        self._coalesce = bool(policies.coalesce.misses)

    @cached_property
    def tweets(self) -> Tweets:
        """Tweets by id. Ports: hot, tweets."""
        return Tweets(self.ports.hot, self.ports.tweets, self._coalesce)

    @cached_property
    def profiles(self) -> Profiles:
        """Users by id. Ports: users, hot."""
        return Profiles(self.ports.users, self._policies.cache.profile_ttl_s, self.ports.hot, self._coalesce)

    @cached_property
    def usernames(self) -> Usernames:
        """Ids of users by name. Ports: users, hot."""
        return Usernames(self.ports.users, self.ports.hot)

    @cached_property
    def visibility(self) -> Visibility:
        """Who may see whose tweets. Ports: users."""
        return Visibility(self.ports.users, self._policies.cache.privacy_ttl_s)

    @cached_property
    def lists(self) -> CachedLists:
        """Cached lists, rebuilt where they are absent. Ports: timelines, hot, tweets, users."""
        ports = self.ports
        return CachedLists(ports.timelines, ports.hot, ports.tweets, ports.users, self._policies.timeline, self._coalesce)

    @cached_property
    def bodies(self) -> Bodies:
        """Bodies of responses with tweets. Ports: hot, tweets, users; with expansions also media, edge."""
        return Bodies(self, self.ports.tweets, self._policies.media.link_s)

    @cached_property
    def metrics(self) -> PublicMetrics:
        """`public_metrics` of tweets. Ports: likes, like_counts, tweets."""
        return PublicMetrics(self.ports.likes, self.ports.like_counts, self.ports.tweets)

    @cached_property
    def tweet_counts(self) -> TweetCounts:
        """How many tweets users have. Ports: tweets."""
        return TweetCounts(self.ports.tweets)
