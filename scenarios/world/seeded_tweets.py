"""The tweets that the stores hold before a run, and the words of their texts: functions of the seed.

Their timestamps end at a fixed time (`END_MS`), so the same scenario has the same seeded data, with the same
hash, whenever it is run. Texts have three to nine words of a small invented language; 40 % have a hashtag.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from system.kernel import ids

Int64s = NDArray[np.int64]
END_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z: before any run
DAYS = 30  # the seeded tweets are spread over these days before END_MS
WORKER = ids.MAX_WORKER  # worker number in seeded ids: the highest; leases start at 0
WORDS = 1500
TAGS = 60
LONGEST_TEXT = 9  # words

_ONSETS = [*"bdfgklmnprstvz", "br", "dr", "fl", "gr", "kl", "pr", "sk", "st", "tr"]
_VOWELS = [*"aeiou", "ai", "ou"]
_CODAS = ["", "n", "r", "l", "s", "m"]


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Return the WORDS words of the invented language, most used first. Identical on every machine."""
    random = np.random.default_rng(20_06)
    words: dict[str, None] = {}
    while len(words) < WORDS:
        syllables = [str(random.choice(_ONSETS)) + str(random.choice(_VOWELS)) for _ in range(int(random.integers(2, 4)))]
        words["".join(syllables) + str(random.choice(_CODAS))] = None
    return tuple(words)


def word_shares() -> NDArray[np.float64]:
    """Return the relative frequency of each word: Zipf with exponent 1, float64, shape (WORDS,)."""
    weights = 1 / np.arange(1, WORDS + 1)
    return np.asarray(weights / weights.sum())


def text_of(words: NDArray[np.int64] | list[int], tag: int) -> str:
    """Return the text of the words with these indexes. `tag`: index of the hashtag to append, -1 for none."""
    known = vocabulary()
    text = " ".join([known[index] for index in words])
    return f"{text} #{known[tag]}" if tag >= 0 else text


@dataclass(frozen=True)
class History:
    """The seeded tweets. Texts are generated on demand.

    `tweet_ids`: int64, shape (n,), ascending. `authors`: int64, shape (n,).
    """

    tweet_ids: Int64s
    authors: Int64s
    seed: int

    def __len__(self) -> int:
        return len(self.tweet_ids)

    def texts(self, start: int, stop: int) -> Iterator[str]:
        """Yield the texts of tweets `start` to `stop` (exclusive). Texts do not depend on the slice."""
        block = 4096
        for base in range(start - start % block, stop, block):
            words, lengths, tags = self._block(base // block, block)
            for row in range(max(start - base, 0), min(stop - base, block)):
                yield text_of(words[row][:lengths[row]], tags[row])

    def _block(self, number: int, size: int) -> tuple[list[list[int]], list[int], list[int]]:
        random = np.random.default_rng([self.seed, 3, number])
        words = random.choice(WORDS, (size, LONGEST_TEXT), p=word_shares())
        lengths = random.integers(3, LONGEST_TEXT + 1, size)
        tags = np.where(random.random(size) < 0.4, random.integers(0, TAGS, size), -1)
        return words.tolist(), lengths.tolist(), tags.tolist()

    def sha256(self) -> str:
        """Return the SHA-256 of ids, authors and (through the seed) texts."""
        digest = hashlib.sha256(self.tweet_ids.tobytes())
        digest.update(self.authors.tobytes())
        digest.update(str(self.seed).encode())
        return digest.hexdigest()


def generate(users: int, per_user: int, seed: int) -> History:
    """Draw `users * per_user` tweets.

    The mean is `per_user` per user; users with more followers (low ids) write more.
    """
    count = users * per_user
    random = np.random.default_rng([seed, 2])
    offsets_ms = np.sort(random.integers(0, DAYS * 86_400_000, count))
    sequence = np.arange(count) - np.searchsorted(offsets_ms, offsets_ms)  # earlier tweets of the same millisecond
    wall_ms = END_MS - DAYS * 86_400_000 + offsets_ms
    tweet_ids = (wall_ms - ids.EPOCH_MS << ids.TIME_SHIFT) | WORKER << ids.SEQUENCE_BITS | sequence
    # Users with more followers write more, by a factor of about 10 over 2,000 users.
    weights = np.arange(1, users + 1) ** -0.3
    authors = random.choice(users, count, p=weights / weights.sum()) + 1
    return History(tweet_ids.astype(np.int64), authors.astype(np.int64), seed)
