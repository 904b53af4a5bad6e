"""What `chronik federation status` shows: a line for each federation and each of its members, or the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.report.page import BOLD, GREEN, RED, YELLOW, Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.manifest import Manifest

_HEAD = ("MEMBER", "STATE", "REVISION", "CLUSTER", "MESSAGE")
_COLOURS = {
    **dict.fromkeys(("Ready", "Complete"), GREEN),
    **dict.fromkeys(("Failed", "Unreachable", "Blocked", "Halted", "Invalid", "Reverted"), RED),
    **dict.fromkeys(("Pending", "Paused"), ""),
}
_ILL = frozenset({"Halted", "Reverting", "Reverted", "Invalid"})


def goes_well(documents: Sequence[Manifest]) -> bool:
    """Return whether no federation was halted, taken back or refused."""
    return all(_status(each).get("phase") not in _ILL for each in documents)


def federation_table(documents: Sequence[Manifest], *, width: int | None, color: bool) -> str:
    """Return the state of each federation in a line, and a table of its members."""
    page = Page(width, color=color)
    for number, document in enumerate(documents):
        status, metadata = _status(document), document["metadata"]
        phase = str(status.get("phase") or "not seen by a hub yet")
        head = f"{metadata['namespace']}/{metadata['name']}: "
        ready = f", {status['ready']} ready" if status.get("ready") else ""
        wave = f", wave {status['wave']}" if "wave" in status else ""
        if number:
            page.line()
        page.line(head, (phase, _COLOURS.get(phase, YELLOW)), f"{ready}{wave}")
        why = _why(status)
        if why:
            page.line("  ", why)
        rows = [[(cell, BOLD) for cell in _HEAD]]
        rows += [_row(each) for each in status.get("members") or ()]
        if len(rows) > 1:
            page.columns(rows, cut=True)
    return page.text


def _row(member: Mapping[str, Any]) -> list[tuple[str, str]]:
    at = member.get("at") or {}
    phase = str(member["phase"])
    cells = (
        str(member["name"]),
        phase,
        str(member.get("revision") or "-"),
        f"{at.get('namespace', '')}/{at.get('cluster', '')}",
        str(member.get("message") or "-"),
    )
    return [(cell, _COLOURS.get(phase, YELLOW)) for cell in cells]


def _why(status: Mapping[str, Any]) -> str:
    """Return what stands in the way of all, if anything does."""
    found = {each["type"]: each for each in status.get("conditions") or ()}
    stalled = found.get("Stalled") or {}
    return str(stalled["message"]) if stalled.get("status") == "True" else ""


def federation_data(documents: Sequence[Manifest]) -> dict[str, Any]:
    """Return the same for programs."""
    keys = ("phase", "ready", "revision", "wave", "revertedFrom", "members", "conditions")
    return {
        "federations": [
            {
                "namespace": each["metadata"]["namespace"],
                "name": each["metadata"]["name"],
                **{key: _status(each)[key] for key in keys if key in _status(each)},
            }
            for each in documents
        ]
    }


def _status(document: Manifest) -> Mapping[str, Any]:
    return document.get("status") or {}
