"""How often those who play a controller look: each look costs a real server 5 ms of CPU, and most find nothing new."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.manifest import Manifest

FASTEST, SLOWEST = 0.1, 0.4
_GROWTH = 1.3


class Pace:
    """A rest between two looks, which becomes longer as long as they find the same."""

    def __init__(self) -> None:
        self._found: Any = None
        self._pause = FASTEST

    async def rest(self, found: Iterable[Manifest]) -> None:
        """Rest after a look that found these objects."""
        versions = [(each["metadata"]["uid"], each["metadata"]["resourceVersion"]) for each in found]
        self._pause = min(SLOWEST, self._pause * _GROWTH) if versions == self._found else FASTEST
        self._found = versions
        await asyncio.sleep(self._pause)
