"""What becomes of a cluster's volumes when it is deleted, where the garbage collector does not see to it.

A StatefulSet whose retention policy says Delete owns its claims, and they go with it. While volumes grow it lets go of
them for a moment, and a claim that is just being made is not owned yet: those would stay. The finalizer asks here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chronik.manifest import ObjectRef
from chronik.plan.actions import Plan, Prune, Stage, Step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from chronik.manifest import Manifest

STATEFUL = ("controller", "ingest")
_ORPHAN = "orphan"
"""The finalizer that a deletion with --cascade=orphan sets: everything is meant to stay."""


def leftovers(document: Manifest, claims: Iterable[Manifest], children: Iterable[Manifest]) -> Plan:
    """Return the deletion of claims that are to go with a cluster and that nothing owns; its spec need not be valid.

    `children` are live objects of the cluster, as the server has them now. If one of them no longer names the cluster
    as its owner, all have been orphaned, and the finalizer that said so may be gone already: then nothing is deleted.
    """
    if when_deleted(document) != "Delete" or _ORPHAN in (document["metadata"].get("finalizers") or ()):
        return Plan(())
    if any(not _is_owned(child, document["metadata"]["uid"]) for child in children):
        return Plan(())
    data = (claim for claim in claims if is_data(claim, document["metadata"]["name"]))
    steps = tuple(
        Step(ref, (_deleted(ref, claim),))
        for claim in data
        if not claim["metadata"].get("ownerReferences") and "deletionTimestamp" not in claim["metadata"]
        for ref in [ObjectRef.of(claim)]
    )
    return Plan((Stage("volumes", steps),)) if steps else Plan(())


def is_data(claim: Manifest, cluster: str) -> bool:
    """Tell whether a claim is of one of a cluster's StatefulSets; Kubernetes finds them by name, too.

    Labels do not tell: another product's claim can have the same ones.
    """
    workloads = "|".join(re.escape(f"{cluster}-{component}") for component in STATEFUL)
    return bool(re.fullmatch(rf"[a-z0-9-]+?-(?:{workloads})-\d+", claim["metadata"]["name"]))


def _is_owned(child: Manifest, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in child["metadata"].get("ownerReferences") or ())


def when_deleted(document: Manifest) -> str:
    """Return what is to become of volumes: Retain, unless the spec clearly says Delete."""
    found: Any = document
    for key in ("spec", "storage", "retention", "whenDeleted"):
        found = found.get(key) if isinstance(found, dict) else None
    return "Delete" if found == "Delete" else "Retain"


def _deleted(ref: ObjectRef, claim: Manifest) -> Prune:
    metadata = claim["metadata"]
    reason = "goes with its cluster: storage.retention.whenDeleted is Delete"
    return Prune(ref=ref, reason=reason, uid=metadata["uid"], resource_version=metadata["resourceVersion"])
