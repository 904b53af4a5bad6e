"""What `chronik federation status` shows: a line for each federation and each of its members, or the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS
from chronik.report.page import BOLD, GREEN, RED, YELLOW, Page, fitting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.manifest import Manifest

_HEAD = ("MEMBER", "STATE", "REVISION", "PODS", "READY", "OPERATOR", "IMAGES", "CLUSTER", "MESSAGE")
_LEFT_OUT = (
    ("READY",),
    ("PODS",),
    ("PODS", "OPERATOR"),
    ("PODS", "OPERATOR", "CLUSTER"),
    ("PODS", "OPERATOR", "CLUSTER", "IMAGES"),
)
"""What makes room for the messages: PODS says by component what READY says in a number."""
_WHAT_RUNS = ("PODS", "READY", "OPERATOR", "IMAGES")
"""Columns that are not there if no member has anything in them."""
_COLOURS = {
    **dict.fromkeys(("Ready", "Complete"), GREEN),
    **dict.fromkeys(("Failed", "Unreachable", "Blocked", "Halted", "Invalid", "Reverted"), RED),
    **dict.fromkeys(("Pending", "Paused"), ""),
}
_DIGEST = len("sha256:") + 12
"""Characters that are shown of a digest."""
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
        members = [_cells(each) for each in status.get("members") or ()]
        if members:
            empty = {name for name, *column in zip(_HEAD, *members, strict=True) if {*column} == {"-"}}
            choices = [{*left_out, *empty.intersection(_WHAT_RUNS)} for left_out in _LEFT_OUT]
            titles, *rows = fitting([_HEAD, *members], choices, width)
            styled = [[(cell, BOLD) for cell in titles]]
            page.columns(styled + [[(cell, _colour(row[1])) for cell in row] for row in rows], cut=True)
    return page.text


def _colour(phase: str) -> str:
    return _COLOURS.get(phase, YELLOW)


def _cells(member: Mapping[str, Any]) -> tuple[str, ...]:
    at = member.get("at") or {}
    ready, wanted = (member.get(name) or {} for name in ("readyReplicas", "replicas"))
    counts = {
        each.plural.removesuffix(" nodes"): (ready.get(each.count_field, 0), wanted[each.count_field])
        for each in COMPONENTS.values()
        if wanted.get(each.count_field)
    }
    both = [sum(numbers) for numbers in zip(*counts.values(), strict=True)]
    return (
        str(member["name"]),
        str(member["phase"]),
        str(member.get("revision") or "-"),
        ", ".join(f"{there}/{of} {words}" for words, (there, of) in counts.items()) or "-",
        "/".join(map(str, both)) or "-",
        str(member.get("version") or "-"),
        _tags(member.get("images") or {}) or "-",
        f"{at.get('namespace', '')}/{at.get('cluster', '')}",
        str(member.get("message") or "-"),
    )


def _tags(images: Mapping[str, Sequence[str]]) -> str:
    """Return the tags of images, each once: what one looks for is who runs another version."""
    return ", ".join(sorted({_tag(image) for found in images.values() for image in found}))


def _tag(image: str) -> str:
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag or digest[:_DIGEST] or "latest"


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
