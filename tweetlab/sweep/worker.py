"""A worker process of a sweep: reads pickled tasks from stdin, writes pickled answers to stdout, until stdin ends.

The first object is the calibration. An answer is ("row", row) or ("error", text). Only the sweep that started the process
writes to its stdin.
"""

from __future__ import annotations

import os
import pickle
import sys

from tweetlab.sweep import replicate


def main() -> None:
    """Answer tasks until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not end up among the answers
    tasks = sys.stdin.buffer
    calibration = pickle.load(tasks)
    while True:
        try:
            task = pickle.load(tasks)
        except EOFError:
            return
        try:
            answer: tuple[str, object] = ("row", replicate.play(task, calibration))
        except Exception as problem:
            answer = ("error", f"{type(problem).__name__}: {problem}")
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    main()
