"""What members had before a change by hand, and how it is given back to them: `onFailure: Revert` without a hub.

A hub keeps the last good template in its status. From the command line there is no such place but the members: what one
had goes with the change, in one write, as an annotation, so whoever is killed in between has lost nothing. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chronik.federation.document import (
    BEFORE_ANNOTATION,
    FEDERATION_MANAGER,
    OWN_ANNOTATIONS,
    of_federation,
)
from chronik.plan.drift import applied_fields
from chronik.plan.managed_fields import extracted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from chronik.federation.document import Federation
    from chronik.manifest import Manifest

_LONGEST = 128 * 1024
"""Characters that a record may have: half of what all annotations of an object may."""


@dataclass(frozen=True, slots=True)
class Before:
    """What a member had: metadata and spec, as a federation's template has them."""

    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The same as a text, as the annotation has it."""
        return json.dumps({"metadata": self.metadata, "spec": self.spec}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def of_text(cls, text: str) -> Before | None:
        """Return what a text says, None if it is no such record."""
        try:
            found = json.loads(text)
            return cls(dict(found["metadata"]), dict(found["spec"])) if found["spec"] else None
        except (ValueError, TypeError, KeyError):
            return None


def recorded(live: Manifest | None) -> Before | None:
    """Return what a member's annotation says that it had before the change that it has now."""
    annotations = (live or {}).get("metadata", {}).get("annotations") or {}
    return Before.of_text(annotations.get(BEFORE_ANNOTATION, ""))


def had(live: Manifest | None, federation: str) -> Before | None:
    """Return what a federation has given to a member: what its field manager owns there, but for the hub's own marks.

    None if there is nothing, if it is another's, or if it is too much to be kept.
    """
    if live is None or of_federation(live) != federation:
        return None
    fields = applied_fields(live, FEDERATION_MANAGER) or {}
    found = extracted(live, {name: fields[name] for name in ("f:metadata", "f:spec") if name in fields})
    metadata = {name: dict(found.get("metadata", {}).get(name) or {}) for name in ("labels", "annotations")}
    for name in OWN_ANNOTATIONS:
        metadata["annotations"].pop(name, None)
    before = Before({name: texts for name, texts in metadata.items() if texts}, found.get("spec") or {})
    return before if before.spec and len(before.text) <= _LONGEST else None


def last_good(live: Manifest | None, federation: str, *, unfinished: bool) -> Before | None:
    """Return what to keep of a member that is about to get a change.

    It is what it has, unless that is an `unfinished` change itself: then what it had before that.
    """
    return (recorded(live) if unfinished else None) or had(live, federation)


def taken_back(federation: Federation, got: Collection[str], good: Mapping[str, Before]) -> Federation | str:
    """Return a federation that gives those who `got` the change what they had, or why there is none, in a sentence.

    The others keep what they have. It has no budget: whoever can be reached gets it.
    """
    lacking = [each.name for each in federation.ordered if each.name in got and each.name not in good]
    if lacking:
        return f"nothing is taken back, since it is not known what {lacking[0]} had before"
    metadata = [good[name].metadata for name in got]
    if any(each != metadata[0] for each in metadata):
        return "nothing is taken back, since the members had different labels or annotations"
    members = tuple(
        replace(each, overrides=good[each.name].spec, paused=False)
        if each.name in got
        else replace(each, overrides={}, paused=True)
        for each in federation.members
    )
    template = {"metadata": dict(metadata[0]) if metadata else {}, "spec": {}}
    endless = replace(federation.rollout, failure_budget=len(members), on_failure="Halt")
    return replace(federation, template=template, members=members, rollout=endless)
