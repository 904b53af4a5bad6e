"""The specs that all pods of a cluster have run, as ControllerRevisions, and how a document goes back to one of them.

A spec is kept once its candidate is complete, so what was taken back is never gone back to.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from chronik.manifest import CLUSTER_LABEL, COMPONENT_LABEL, MANAGED_BY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.manifest import Manifest

HISTORY = "spec"
"""The component that kept specs bear: no StatefulSet's selector takes them for revisions of its own."""
_GIT = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
}
_GIT_MARKS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}


def history_labels(cluster: str) -> dict[str, str]:
    """Return the labels by which the kept specs of a cluster are found."""
    return {CLUSTER_LABEL: cluster, COMPONENT_LABEL: HISTORY}


def kept_spec(document: Manifest) -> Manifest:
    """Return the ControllerRevision that keeps the spec of a ChronikCluster; its number is the generation."""
    metadata, spec = document["metadata"], document["spec"]
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    owner = {"apiVersion": document["apiVersion"], "kind": document["kind"], "name": metadata["name"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{metadata['name']}-{HISTORY}-{digest}",
            "namespace": metadata["namespace"],
            "labels": {**MANAGED_BY, **history_labels(metadata["name"])},
            "ownerReferences": [{**owner, "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": False}],
        },
        "data": {"spec": spec},
        "revision": int(metadata["generation"]),
    }


def newest_first(kept: Iterable[Manifest], uid: str) -> list[Manifest]:
    """Return the kept specs of a ChronikCluster; those of an earlier one of the same name are none of its."""
    ours = [each for each in kept if uid in {owner["uid"] for owner in each["metadata"].get("ownerReferences") or ()}]
    return sorted(ours, key=lambda each: -int(each["revision"]))


def spec_patch(now: Any, then: Any) -> Any:
    """Return the merge patch (RFC 7386) that makes one value of another: what is only in the first gets null."""
    if not isinstance(now, dict) or not isinstance(then, dict):
        return then
    patch: dict[str, Any] = {name: None for name in now if name not in then}
    for name, value in then.items():
        if name not in now:
            patch[name] = value
        elif now[name] != value:
            patch[name] = spec_patch(now[name], value)
    return patch


def kept_in_git(document: Manifest) -> str:
    """Return what brings a document's spec from Git, `Argo CD` or `Flux`; empty if nothing known does."""
    metadata = document["metadata"]
    for entry in metadata.get("managedFields") or ():
        if entry["manager"] in _GIT and "f:spec" in (entry.get("fieldsV1") or {}):
            return _GIT[entry["manager"]]
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return next((name for mark, name in _GIT_MARKS.items() if mark in marks), "")
