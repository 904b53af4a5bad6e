"""Waits for the first of several things, and leaves nothing of the others behind.

`wait_mirror` waits so for a change or for time to pass, `operator` for its turn or the end, `cli_connect` for work or
somebody who has had enough.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable


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
