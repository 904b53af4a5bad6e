"""The shape of CPU and memory, wherever a spec names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict


Quantity = str | int


class Resources(TypedDict):
    """`spec.resources.<component>`."""

    cpu: Quantity | None
    memory: Quantity | None
    cpuLimit: Quantity | None
    memoryLimit: Quantity | None
