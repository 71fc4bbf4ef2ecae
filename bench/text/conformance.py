"""`twitter_text_conformance`: the share of Twitter's own cases that our text rules pass.

The cases are the files `extract.yml` and `validate.yml` of the folder `conformance` of the public repository
twitter/twitter-text; `CASES` names a folder that holds them. They are read, and not part of this repository.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from system.kernel.errors import CouldNotRun
from system.kernel.text import entities, urls, weight

Case = dict[str, Any]


class NotRun(Exception):
    """The cases were not given. It is no failure of the bench."""


OTHER_CONFIGURATION = {
    ("validate", "WeightedTweetsCounterTest"): "version 2 of the configuration: counts each code point of an emoji",
}
"""Groups that do not apply -> why."""
EXCEPTIONS = {
    "Invalid Tweet: 141 characters": "version 1 of the configuration: a tweet has 140 characters",
    "Invalid Tweet: 141 characters (due to newline)": "version 1 of the configuration: a tweet has 140 characters",
}
"""Cases that fail, by their description -> why."""


def _values(found: list[entities.Entity]) -> list[str]:
    return [entity.value for entity in found]


def _placed(found: list[entities.Entity], key: str) -> list[Case]:
    return [{key: entity.value, "indices": [entity.start, entity.end]} for entity in found]


def _lists(text: str) -> list[Case]:
    found = [(entity, *entity.value.partition("/")) for entity in entities.mentions(text, lists=True)]
    return [{"screen_name": name, "list_slug": slash + slug, "indices": [entity.start, entity.end]}
            for entity, name, slash, slug in found]


def _urls(text: str) -> list[str]:
    return [url.url for url in urls.urls(text)]


def _placed_urls(text: str) -> list[Case]:
    return [{"url": url.url, "indices": [url.start, url.end]} for url in urls.urls(text)]


def _one(found: list[entities.Entity], text: str) -> bool:
    return [(entity.start, entity.end) for entity in found] == [(0, len(text))]


def _is_list(text: str) -> bool:
    return _one(entities.mentions(text, lists=True), text) and "/" in text


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _counts(text: str) -> Case:
    found = weight.measure(text)
    end = _units(found.composed[:found.valid_end]) + _units(text) - _units(found.composed)
    return {"weightedLength": found.weight, "valid": found.valid, "permillage": found.weight * 1000 // weight.MAX_WEIGHT,
            "displayRangeStart": 0, "displayRangeEnd": _units(text) - 1, "validRangeStart": 0, "validRangeEnd": end - 1}


GROUPS: dict[tuple[str, str], Callable[[str], Any]] = {
    ("extract", "mentions"): lambda text: _values(entities.mentions(text)),
    ("extract", "mentions_with_indices"): lambda text: _placed(entities.mentions(text), "screen_name"),
    ("extract", "mentions_or_lists_with_indices"): _lists,
    ("extract", "replies"): entities.reply_to,
    ("extract", "urls"): _urls,
    ("extract", "urls_with_indices"): _placed_urls,
    ("extract", "urls_with_directional_markers"): _placed_urls,
    ("extract", "tco_urls_with_params"): _urls,
    ("extract", "hashtags"): lambda text: _values(entities.hashtags(text)),
    ("extract", "hashtags_from_astral"): lambda text: _values(entities.hashtags(text)),
    ("extract", "hashtags_with_indices"): lambda text: _placed(entities.hashtags(text), "hashtag"),
    ("extract", "cashtags"): lambda text: _values(entities.cashtags(text)),
    ("extract", "cashtags_with_indices"): lambda text: _placed(entities.cashtags(text), "cashtag"),
    ("validate", "tweets"): lambda text: weight.measure(text).valid,
    ("validate", "usernames"): lambda text: _one(entities.mentions(text), text),
    ("validate", "lists"): _is_list,
    ("validate", "hashtags"): lambda text: _one(entities.hashtags(text), text),
    ("validate", "urls"): urls.is_url,
    ("validate", "urls_without_protocol"): lambda text: urls.is_url(text, protocol=False),
    ("validate", "WeightedTweetsWithDiscountedEmojiCounterTest"): _counts,
    ("validate", "UnicodeDirectionalMarkerCounterTest"): _counts,
}
"""(file, group) -> what our rules return for a text."""


def failures(folder: Path) -> Iterator[tuple[str, str, Case, Any]]:
    """Yield (file, group, case, our result) of each case of `folder`; the result is the expected one where it passes.

    Raises CouldNotRun if a file is missing, or has a group that is unknown here.
    """
    for name in ("extract", "validate"):
        path = folder / f"{name}.yml"
        if not path.exists():
            raise CouldNotRun(f"CASES is {folder}, which has no {name}.yml; it must be a folder with the conformance files of "
                              "twitter/twitter-text: extract.yml and validate.yml.")
        for group, cases in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"].items():
            if (name, group) in OTHER_CONFIGURATION:
                continue
            if (name, group) not in GROUPS:
                raise CouldNotRun(f"{path} has the group {group!r}, which is not known; add it to bench/text/conformance.py.")
            for case in cases:
                yield name, group, case, GROUPS[name, group](case["text"])


def share() -> float:
    """Return the share of the cases in `CASES` that pass; print those that do not. Raises NotRun without `CASES`."""
    folder = os.environ.get("CASES", "")
    if not folder:
        raise NotRun("set CASES to a folder with extract.yml and validate.yml of twitter/twitter-text")
    total = failed = 0
    for name, group, case, result in failures(Path(folder)):
        total += 1
        if result != case["expected"]:
            failed += 1
            why = EXCEPTIONS.get(case["description"], "not expected to fail")
            print(f"  {name} {group}: {case['description']} ({why})")
    return (total - failed) / total
