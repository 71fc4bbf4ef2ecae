"""Removes metadata from pictures without re-encoding them: ExifTool, as a process of its own.

Removed: EXIF, XMP, IPTC, comments, thumbnails, text chunks, trailers. Kept: the coded picture, its ICC profile
and its orientation; without these two it would look different. The result depends on the bytes alone, so two
concurrent finalizes of one upload store the same object.

ExifTool parses what strangers upload, so it runs outside the service: its memory is limited, it is killed if a
picture takes too long, it reads no configuration and no file but the picture, and it dies with the service. One
process handles one picture after the other (`-stay_open`), because Perl takes longer to start than to strip.
The picture is passed as an anonymous file in memory and returned through a pipe: nothing is written to disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
from typing import Protocol

import orjson

from system.kernel.errors import CouldNotRun, Overloaded, WrongInput
from system.services.media import containers, policy

MEMORY_BYTES = 512 * 2**20  # address space; Perl with ExifTool loaded takes 60 MiB, a picture of 5 MiB a few times its size
TIMEOUT_S = 5.0             # a picture of 5 MiB takes 0.1 s; longer means a stuck process or a starved machine
OUTPUT_BYTES = 2 * policy.MAX_BYTES  # stripping removes bytes; anything close to this is not a picture
ATTEMPTS = 2                # a process that dies may have been killed by somebody else: once more, then the picture is to blame
PACKAGE = "libimage-exiftool-perl"

_SHOW = ("-j", "-n", "-fast", "-FileType", "-ImageWidth", "-ImageHeight", "-FrameCount", "-AnimationFrames", "-Error")
# `-m`: damaged metadata are no reason to refuse a picture, they are removed anyway. JFIF decides how a JPEG's colors
# are read.
_STRIP = ("-m", "-all=", "--icc_profile:all", "--jfif:all", "-tagsfromfile", "@", "-orientation", "-o", "-")


class Stripper(Protocol):
    """Removes metadata from pictures."""

    async def strip(self, data: bytes) -> bytes:
        """Return the picture without metadata; equal input gives equal output.

        Raises WrongInput if it is unreadable or too large to decode, Overloaded (definite) if it took too long.
        """
        ...


def require() -> str:
    """Return the path of ExifTool. Raises CouldNotRun if it is not installed."""
    path = shutil.which("exiftool")
    if path is None:
        raise CouldNotRun(f"exiftool is not installed; pictures cannot be stripped. To fix: apt-get install {PACKAGE}.")
    return path


class ExifTool:
    """`Stripper` over one ExifTool process, started at its first use. Shared by all tasks of one event loop."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, timeout_s: float = TIMEOUT_S) -> None:
        self._memory_bytes, self._timeout_s = memory_bytes, timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._numbers = itertools.count(1)

    async def strip(self, data: bytes) -> bytes:
        picture = os.memfd_create("picture")
        try:
            pixels = await asyncio.to_thread(_prepare, picture, data)
            async with self._lock:
                stripped = await self._strip(f"/proc/{os.getpid()}/fd/{picture}")
            return await asyncio.to_thread(lambda: containers.essential(containers.with_pixels(stripped, pixels)))
        finally:
            os.close(picture)

    async def close(self) -> None:
        """End the process. Safe to repeat."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _strip(self, path: str) -> bytes:
        for _ in range(ATTEMPTS):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._exchange(path)
            except TimeoutError:
                await self.close()
                raise Overloaded(f"The picture was not processed within {self._timeout_s:g} s; finalize it again.",
                                 retry_after_s=1.0) from None
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
                await self.close()
            except asyncio.CancelledError:  # the pipes still hold the rest of this picture
                await self.close()
                raise
        raise WrongInput(f"The picture needs more than {self._memory_bytes // 2**20} MiB to be processed; send a simpler one.")

    async def _exchange(self, path: str) -> bytes:
        """Have one picture described and stripped; return its bytes. Raises WrongInput if either fails."""
        process = self._process or await self._start()
        assert process.stdin and process.stdout and process.stderr
        shown, stripped = next(self._numbers), next(self._numbers)
        process.stdin.write(_job(shown, (*_SHOW, path)) + _job(stripped, (*_STRIP, path)))
        await process.stdin.drain()
        (description, data), (_, problems) = await asyncio.gather(
            _outputs(process.stdout, shown, stripped), _outputs(process.stderr, shown, stripped))
        policy.check_pixels(_described(description))
        if not data or b"Error: " in problems:  # after an error the output may end early
            raise policy.unreadable(problems.decode(errors="replace").rpartition("Error: ")[2])
        return data

    async def _start(self) -> asyncio.subprocess.Process:
        # setpriv: killed with this process; ExifTool waits for input even after its pipe was closed.
        limits = ("setpriv", "--pdeathsig", "KILL", "prlimit", f"--as={self._memory_bytes}", "--core=0")
        self._process = await asyncio.create_subprocess_exec(
            *limits, require(), "-config", "", "-stay_open", "True", "-@", "-", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=OUTPUT_BYTES, cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
        return self._process


def _prepare(descriptor: int, data: bytes) -> bytes:
    """Write what ExifTool has to read; return the pixels that it does not."""
    rest, pixels = containers.without_pixels(data)
    view = memoryview(rest)
    while view:
        view = view[os.write(descriptor, view):]
    return pixels


def _job(number: int, arguments: tuple[str, ...]) -> bytes:
    # The marker ends the output on stdout (`-execute`) and on stderr (`-echo4`).
    return "\n".join((*arguments, "-echo4", f"{{ready{number}}}", f"-execute{number}", "")).encode()


async def _outputs(stream: asyncio.StreamReader, *numbers: int) -> list[bytes]:
    """Return what each of these jobs wrote to the stream."""
    outputs = []
    for marker in (f"{{ready{number}}}\n".encode() for number in numbers):
        outputs.append((await stream.readuntil(marker))[:-len(marker)])
    return outputs


def _described(text: bytes) -> dict[str, object]:
    try:
        (described,) = orjson.loads(text)
    except ValueError:
        return {}
    return dict(described)
