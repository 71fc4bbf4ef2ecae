"""The read side that services have in common: one place that builds it from ports and policies.

Each reader is built at its first use, so a service never touches a port that it does not name in `NEEDS`.
"""

from __future__ import annotations

from functools import cached_property

from system.kernel.policies import Policies
from system.ports import Ports
from system.services.shared.list_rebuild import CachedLists
from system.services.shared.media_includes import MediaIncludes
from system.services.shared.public_metrics import PublicMetrics
from system.services.shared.read_through import Profiles, Tweets, Usernames
from system.services.shared.visibility import Visibility


class Reads:
    """Readers of one process, one of each kind: what two handlers share, they share here."""

    def __init__(self, ports: Ports, policies: Policies) -> None:
        self._ports, self._policies = ports, policies
        self._coalesce = bool(policies.coalesce.misses)

    @cached_property
    def tweets(self) -> Tweets:
        """Tweets by id. Ports: hot, tweets."""
        return Tweets(self._ports.hot, self._ports.tweets, self._coalesce)

    @cached_property
    def profiles(self) -> Profiles:
        """Users by id. Ports: users, hot."""
        return Profiles(self._ports.users, self._policies.cache.profile_ttl_s, self._ports.hot, self._coalesce)

    @cached_property
    def usernames(self) -> Usernames:
        """Ids of users by name. Ports: users, hot."""
        return Usernames(self._ports.users, self._ports.hot)

    @cached_property
    def visibility(self) -> Visibility:
        """Who may see whose tweets. Ports: users."""
        return Visibility(self._ports.users, self._policies.cache.privacy_ttl_s)

    @cached_property
    def lists(self) -> CachedLists:
        """Cached lists, rebuilt where they are absent. Ports: timelines, hot, tweets, users."""
        ports = self._ports
        return CachedLists(ports.timelines, ports.hot, ports.tweets, ports.users, self._policies.timeline, self._coalesce)

    @cached_property
    def media(self) -> MediaIncludes:
        """`includes.media` of a response. Ports: media, edge."""
        return MediaIncludes(self._ports, self._policies.media.link_s)

    @cached_property
    def metrics(self) -> PublicMetrics:
        """`public_metrics` of tweets. Ports: likes, like_counts."""
        return PublicMetrics(self._ports.likes, self._ports.like_counts)
