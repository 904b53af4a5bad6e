"""The shape of `spec.bootstrap`, with all defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if not TYPE_CHECKING:
    from chronik.api.sections.shapes import TypedDict
else:
    from typing import TypedDict


class RecoverySource(TypedDict):
    """`spec.bootstrap.recovery.from`."""

    backup: str | None
    cluster: str | None
    targetTime: str | None


Recovery = TypedDict(
    "Recovery",
    {
        "from": RecoverySource,
        "metastore": Literal["Restore", "Exact", "Skip"],
        "nodes": Literal["Same", "Fewer", "More"],
    },
)
"""`spec.bootstrap.recovery`; `from` is a word of Python."""


class Bootstrap(TypedDict):
    """`spec.bootstrap`."""

    recovery: Recovery
