"""Short turns: asked for by the platform, kept by the kernel, inherited by threads."""

from __future__ import annotations

import os
import platform
import subprocess
import threading

import pytest

from system.platform import turns
from system.platform.blueprint import BEHIND, BLUEPRINTS, REQUEST_SLICE_US

KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])
needs_slices = pytest.mark.skipif(KERNEL < (6, 12), reason="a slice for each thread came with Linux 6.12")


@needs_slices
def test_a_process_keeps_the_turns_it_was_given():
    """The kernel tells back what was asked; a process that was not asked has its default."""
    with subprocess.Popen(["sleep", "30"]) as process:
        try:
            before = turns.slice_us(process.pid)
            assert turns.shorten(process.pid, 200)
            assert turns.slice_us(process.pid) == 200 != before
        finally:
            process.kill()


@needs_slices
def test_what_it_starts_inherits_them():
    """A server's threads and children take the same turns as it does."""
    script = "import threading, time; threading.Thread(target=time.sleep, args=(30,), daemon=True).start(); time.sleep(30)"
    with subprocess.Popen(["/bin/sh", "-c", f"read go; exec python3 -c '{script}'"], stdin=subprocess.PIPE) as process:
        try:
            assert turns.shorten(process.pid, 300)
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
            waited = threading.Event()
            for _ in range(100):
                threads = os.listdir(f"/proc/{process.pid}/task")
                if len(threads) > 1:
                    break
                waited.wait(0.05)
            assert len(threads) > 1
            assert {turns.slice_us(int(thread)) for thread in threads} == {300}
        finally:
            process.kill()


def test_a_process_that_is_gone_takes_no_wish():
    """The caller goes on: turns are a wish, never a reason not to start."""
    process = subprocess.Popen(["true"])
    process.wait()
    assert not turns.shorten(process.pid, 200)
    assert turns.slice_us(process.pid) == 0


def test_what_a_request_waits_for_takes_short_turns_and_what_works_behind_it_does_not():
    """The blueprint declares it, so the record of a run tells it."""
    told = {node.kind: node.running.slice_us for node in BLUEPRINTS["small"].nodes}
    assert {kind for kind, slice_us in told.items() if not slice_us} == set(BEHIND)
    assert {slice_us for slice_us in told.values() if slice_us} == {REQUEST_SLICE_US}
