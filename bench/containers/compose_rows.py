"""Rows about the lab in containers: time to the first tweet, size of our image."""

from __future__ import annotations

import os
import statistics
import subprocess
import time

from system.kernel.errors import CouldNotRun
from system.platform.containers import contract, engine, images, stand_ins
from tweetlab import home
from tweetlab.run import smoke

REPEATS = 3
PORT = 18_742


async def compose_small_up_s() -> float:
    """Return the median seconds from `docker compose up` on empty volumes to the first tweet that is read back."""
    found = engine.find()
    times = []
    for _ in range(REPEATS):
        _compose(found, "down", "--volumes")
        began = time.monotonic()
        try:
            _compose(found, "up", "--no-build", "--wait")
            await _tweet_read_back(f"http://127.0.0.1:{PORT}")
            times.append(time.monotonic() - began)
        finally:
            _compose(found, "down", "--volumes")
    return statistics.median(times)


def services_image_mib() -> float:
    """Return the uncompressed size of the image of our services, in MiB."""
    found = engine.find()
    image = images.table()["services"]
    done = subprocess.run(["docker", "image", "inspect", "--format", "{{.Size}}", image.tag()], env=found.environment(),
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CouldNotRun(contract.missing(image, image.tag()))
    return int(done.stdout) / 2**20


async def _tweet_read_back(base_url: str) -> None:
    steps = await smoke.journey(base_url, last=smoke.FOLLOWER_READS)
    if failed := [f"{step.name}: {step.detail}" for step in steps if not step.ok]:
        raise CouldNotRun(f"The lab is up and does not serve a tweet: {failed[0]}")


def _compose(found: engine.Found, *words: str) -> None:
    chosen = "ours" if images.chosen_set() == "ours" or stand_ins.has(found, images.table()["redis"].ours) else "official"
    files = stand_ins.FILES if chosen == "ours" else stand_ins.FILES[:1]
    named = [word for file in files for word in ("-f", str(home.ROOT / file))]
    env = {**found.environment(), "TWEETLAB_RANGE": str(home.lab_range()), "TWEETLAB_PORT": str(PORT)}
    done = subprocess.run(["docker", "compose", *named, "--profile", "small", *words], env=env, cwd=os.sep, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise CouldNotRun(f"docker compose {' '.join(words)} failed with exit code {done.returncode}:\n{end}")
