"""Named points at which a test can hold the system, to force an interleaving that matters.

In production each point costs one dictionary lookup and never waits. The names in use are listed in
`docs/correctness.md`; each belongs to a race that loses or revives data if its rule is broken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

Hook = Callable[..., Awaitable[None]]

_hooks: dict[str, Hook] = {}


async def reached(name: str, **facts: object) -> None:
    """Report that the point `name` was reached; wait until an installed hook returns."""
    hook = _hooks.get(name)
    if hook is not None:
        await hook(**facts)


@contextmanager
def at(name: str, hook: Hook) -> Iterator[None]:
    """Run `hook(**facts)` whenever `name` is reached inside the block (this process only)."""
    before = _hooks.get(name)
    _hooks[name] = hook
    try:
        yield
    finally:
        if before is None:
            _hooks.pop(name, None)
        else:
            _hooks[name] = before
