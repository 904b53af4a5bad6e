"""Runs several things at a time, and leaves nothing of them behind: asyncio's own pieces, as chronik needs them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from chronik.errors import first_or_all_forbidden

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

T = TypeVar("T")
Item = TypeVar("Item")


async def first_of(*things: Awaitable[object]) -> None:
    """Wait until one of several things is done or has failed, and give up the others; nothing is raised."""
    tasks = [asyncio.ensure_future(each) for each in things]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(*tasks)


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks that still run, and wait until all have ended, however they do."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Let something run while the block does."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def gathered(*work: Awaitable[T]) -> list[T]:
    """Do all at once, and return what came of each; of several failures, raise the first in order.

    Missing rights are told together. No work is still under way then, so that connections can be closed in peace.
    """
    found = await asyncio.gather(*work, return_exceptions=True)
    failures = [each for each in found if isinstance(each, BaseException)]
    if failures:
        raise first_or_all_forbidden(failures)
    return [each for each in found if not isinstance(each, BaseException)]


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Let tasks run, and wait until all have ended; if one fails, the others are cancelled.

    What is raised is that failure itself, with its cause and traceback, where asyncio's own raises a group of it. If
    several failed, it is the first, and the others are its notes.
    """
    failures: BaseExceptionGroup | None = None
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as raised:
        failures = raised
    if failures is not None:  # raised out here, so that it keeps the context that it has
        first, *others = failures.exceptions
        for each in others:
            first.add_note(f"at the same time: {type(each).__name__}: {each}")
        raise first


async def side_by_side(work: Callable[[Item], Awaitable[T]], items: Sequence[Item], limit: int) -> list[T]:
    """Do the same about all items, at most `limit` at a time, and return what came of each, in order."""
    free = asyncio.Semaphore(limit)

    async def one(each: Item) -> T:
        async with free:
            return await work(each)

    async with task_group() as group:
        tasks = [group.create_task(one(each)) for each in items]
    return [task.result() for task in tasks]
