"""An answer goes out in one write, and nothing is ever held back for longer than the loop's turn."""

from __future__ import annotations

import asyncio

from system.kernel.http.serving import Joined

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Socket:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.get_extra_info = self.is_closing = self.pause_reading = self.resume_reading = lambda *_: None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.written.append(b"<closed>")

    def abort(self) -> None:
        self.written.append(b"<aborted>")


def written(*steps) -> list[bytes]:
    """Return the writes that `steps` lead to: bytes are written, None lets the loop turn, a name is called."""
    async def run():
        socket = Socket()
        joined = Joined(socket, asyncio.get_running_loop())
        for step in steps:
            if step is None:
                await asyncio.sleep(0)
            elif isinstance(step, str):
                getattr(joined, step)()
            else:
                joined.write(step)
        await asyncio.sleep(0)
        return socket.written

    return asyncio.run(run())


def test_head_and_body_are_one_write():
    """That is what it is for."""
    assert written(HEAD, b"ok") == [HEAD + b"ok"]


def test_two_answers_on_one_connection_are_two_writes():
    """A pipelined answer does not wait for the next one."""
    assert written(HEAD, b"ok", HEAD, b"ok") == [HEAD + b"ok", HEAD + b"ok"]


def test_a_head_whose_body_comes_later_goes_out_at_the_next_turn():
    """A streamed answer begins when it begins."""
    assert written(HEAD, None, b"ok") == [HEAD, b"ok"]


def test_a_body_that_comes_in_parts_loses_none():
    """Only the head waits."""
    assert written(HEAD, b"a", b"b", None, b"c") == [HEAD + b"a", b"b", b"c"]


def test_an_answer_without_a_body_goes_out_before_the_end():
    """`close` writes what is held first; uvicorn writes an empty body for 204."""
    assert written(HEAD, "close") == [HEAD, b"<closed>"]
    assert written(HEAD, b"") == [HEAD]


def test_an_end_in_anger_drops_what_is_held():
    """After `abort` nothing may be written; a flush that comes later finds a closed transport, which ignores it."""
    assert written(HEAD, b"ok", "abort") == [HEAD + b"ok", b"<aborted>"]
