"""A response is sent in one write, and nothing is held longer than one iteration of the loop."""

from __future__ import annotations

import asyncio

from system.kernel.http.serving import CoalescingTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Socket:
    """Records writes."""

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
    """Return the resulting writes of `steps`: bytes are written, None yields to the loop, a name is called."""
    async def run():
        socket = Socket()
        transport = CoalescingTransport(socket, asyncio.get_running_loop())
        for step in steps:
            if step is None:
                await asyncio.sleep(0)
            elif isinstance(step, str):
                getattr(transport, step)()
            else:
                transport.write(step)
        await asyncio.sleep(0)
        return socket.written

    return asyncio.run(run())


def test_head_and_body_are_one_write():
    """Head and body are joined."""
    assert written(HEAD, b"ok") == [HEAD + b"ok"]


def test_two_responses_on_one_connection_are_two_writes():
    """A pipelined response does not wait for the next one."""
    assert written(HEAD, b"ok", HEAD, b"ok") == [HEAD + b"ok", HEAD + b"ok"]


def test_a_head_whose_body_comes_later_is_sent_in_the_next_iteration():
    """A streamed response is not delayed."""
    assert written(HEAD, None, b"ok") == [HEAD, b"ok"]


def test_a_body_in_parts_is_sent_completely():
    """Only the head waits."""
    assert written(HEAD, b"a", b"b", None, b"c") == [HEAD + b"a", b"b", b"c"]


def test_a_response_without_a_body_is_sent_before_the_close():
    """`close` flushes first; uvicorn writes an empty body for 204."""
    assert written(HEAD, "close") == [HEAD, b"<closed>"]
    assert written(HEAD, b"") == [HEAD]


def test_an_abort_drops_held_bytes():
    """After `abort` nothing may be written; a later flush finds a closed transport, which ignores it."""
    assert written(HEAD, b"ok", "abort") == [HEAD + b"ok", b"<aborted>"]
