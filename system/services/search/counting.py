"""How the counts of a search are divided by time. Pure: reads no clock, no store.

The intervals of Twitter's API: whole minutes, hours or days of UTC, the first and the last cut to the requested
time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from system.kernel.errors import WrongInput
from system.services.shared import paging, shapes
from system.services.shared.shapes import Json

GRANULARITIES = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}  # ms
FIELDS = ("end", "start", "tweet_count")
DEFAULT_MS = 7 * 86_400_000  # Twitter's recent counts
MAX_INTERVALS = 10_081       # seven days of minutes, the first and the last cut


def times_of(params: Mapping[str, str], now_ms: int) -> list[int]:
    """Return the bounds of the requested intervals, in ms since 1970, ascending; at least two.

    Without `end_time` they end now, without `start_time` they begin 7 days before the end. Raises WrongInput.
    """
    name = params.get("granularity", "hour")
    if name not in GRANULARITIES:
        raise WrongInput(f"`granularity` is {name[:40]!r}; it must be {', '.join(GRANULARITIES)}.")
    unknown = [part for part in params.get("search_count.fields", "").split(",") if part and part not in FIELDS]
    if unknown:
        raise WrongInput(f"`search_count.fields` names {unknown[0][:40]!r}; it may name {', '.join(FIELDS)}.")
    end = paging.moment_ms(params["end_time"], "end_time") if "end_time" in params else now_ms
    start = paging.moment_ms(params["start_time"], "start_time") if "start_time" in params else end - DEFAULT_MS
    step = GRANULARITIES[name]
    if start >= end:
        raise WrongInput(f"`start_time` is {shapes.timestamp(start)} and `end_time` {shapes.timestamp(end)}; the start must be "
                         "before the end.")
    if (end - start) // step + 2 > MAX_INTERVALS:
        raise WrongInput(f"The time between `start_time` and `end_time` has more than {MAX_INTERVALS} intervals of one {name}; "
                         "request a shorter time or a longer `granularity`.")
    return [start, *range(start - start % step + step, end, step), end]


def body(times_ms: Sequence[int], counts: Sequence[int]) -> Json:
    """Return the response, oldest interval first."""
    data = [{"start": shapes.timestamp(start), "end": shapes.timestamp(end), "tweet_count": count}
            for (start, end), count in zip(pairwise(times_ms), counts, strict=True)]
    return {"data": data, "meta": {"total_tweet_count": sum(counts)}}
