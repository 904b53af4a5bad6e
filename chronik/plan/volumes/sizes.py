"""Growing the volumes of a StatefulSet, whose claim templates are immutable, without stopping a pod.

Decided here, done by `apply/executor`: the claims are patched one by one (`GrowClaim`); then the StatefulSet is
deleted with its pods orphaned and created anew with the larger template, and takes pods and claims back. Volumes never
shrink.
Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.api.components import claim_name_pattern
from chronik.manifest import ObjectRef
from chronik.plan.actions import Deferred, GrowClaim
from chronik.plan.drift import same
from chronik.plan.ownership import has_owner
from chronik.quantity import QuantityError, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from chronik.manifest import Manifest

_FIELD = "volumeClaimTemplates"


@dataclass(frozen=True, slots=True)
class Volumes:
    """What is to be done about the volumes of one StatefulSet.

    `manifest` is the desired one, with the live size wherever another is out of reach; `held` says where and why.
    `claims` are all that exist, `grow` those that are too small, and `larger` tells whether a template has to grow.
    """

    manifest: Manifest
    claims: tuple[Manifest, ...]
    grow: tuple[GrowClaim, ...]
    held: tuple[Deferred, ...]
    larger: bool


def volumes(desired: Manifest, live: Manifest, claims: Sequence[Manifest], expandable: Mapping[str, bool]) -> Volumes:
    """Compare the sizes of volumes, wanted and live; other changes to the claim templates stay in `manifest`.

    `expandable` tells of StorageClasses whether they expand volumes; a class that is not in it is taken to.
    """
    present = {_name(template): template for template in _templates(live)}
    mine: list[Manifest] = []
    grow: list[GrowClaim] = []
    held: list[Deferred] = []
    sizes: dict[str, str] = {}
    larger = False
    for template in _templates(desired):
        own = _claims_of(template, live, claims)
        mine += own
        before = present.get(_name(template))
        if before is None:
            continue
        small = _smaller(own, template)
        hold = _hold(ObjectRef.of(live), template, before, own if small else (), expandable)
        if hold:
            held.append(hold)
            sizes[_name(template)] = _size(before)
        else:
            grow += [_growth(claim, _size(template)) for claim in small]
            larger |= _amount(template) > _amount(before)
    return Volumes(_with_sizes(desired, sizes) if sizes else desired, tuple(mine), tuple(grow), tuple(held), larger)


def only_sizes_differ(desired: Manifest, live: Manifest) -> bool:
    """Return whether the claim templates are as they should be, but for the size of the volumes."""
    return same(_templates(at_live_size(desired, live)), _templates(live), ("spec", _FIELD))


def at_live_size(desired: Manifest, live: Manifest) -> Manifest:
    """Return the desired StatefulSet with volumes of the size that the live one asks for."""
    return _with_sizes(desired, {_name(template): _size(template) for template in _templates(live)})


def owned_claims(claims: Sequence[Manifest], uid: str) -> list[str]:
    """Return the names of the claims that belong to a StatefulSet, and would be deleted with it."""
    return [claim["metadata"]["name"] for claim in claims if has_owner(claim, uid)]


def claim_retention(live: Manifest) -> str:
    """Return what a StatefulSet does with its claims when it is deleted: Retain or Delete."""
    found = live["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return str(found.get("whenDeleted", "Retain"))


def retaining(desired: Manifest) -> Manifest:
    """Return a StatefulSet that keeps its claims when it is deleted."""
    field = "persistentVolumeClaimRetentionPolicy"
    policy = desired["spec"].get(field, {}) | {"whenDeleted": "Retain"}
    return desired | {"spec": desired["spec"] | {field: policy}}


def _hold(
    ref: ObjectRef, wanted: Manifest, live: Manifest, small: Sequence[Manifest], expandable: Mapping[str, bool]
) -> Deferred | None:
    """Say why the volumes of a claim template cannot have the wanted size, if they cannot."""
    sizes = f"{_size(live)} to {_size(wanted)}"
    if _amount(wanted) < _amount(live):
        return Deferred(
            ref=ref,
            code="StorageShrink",
            reason=f"volumes {_name(wanted)!r} would have to shrink from {sizes}, and volumes never shrink",
            hint=f"Ask for {_size(live)} or more; for smaller volumes, move the data to a new cluster.",
        )
    if _amount(wanted) == _amount(live) and not small:
        return None
    classes = {claim["spec"].get("storageClassName") for claim in (wanted, *small)}
    rigid = sorted(name for name in classes if name and expandable.get(name) is False)
    if not rigid:
        return None
    return Deferred(
        ref=ref,
        code="StorageNotExpandable",
        reason=f"volumes {_name(wanted)!r} cannot grow from {sizes}: StorageClass {rigid[0]!r} allows no expansion",
        hint=f"Set allowVolumeExpansion on StorageClass {rigid[0]!r}, if its driver can; until then they stay.",
    )


def _claims_of(template: Manifest, live: Manifest, claims: Sequence[Manifest]) -> list[Manifest]:
    """Return the claims that a StatefulSet made from a template."""
    metadata = live["metadata"]
    named = claim_name_pattern(metadata["name"], _name(template))
    return [
        claim
        for claim in claims
        if claim["metadata"].get("namespace") == metadata.get("namespace")
        and named.fullmatch(claim["metadata"]["name"])
    ]


def _smaller(claims: Sequence[Manifest], template: Manifest) -> list[Manifest]:
    """Return the claims that are smaller than wanted and can be patched: bound, and not on their way out."""
    return [
        claim
        for claim in claims
        if _amount(claim) < _amount(template)
        and claim.get("status", {}).get("phase") == "Bound"
        and "deletionTimestamp" not in claim["metadata"]
    ]


def _growth(claim: Manifest, storage: str) -> GrowClaim:
    return GrowClaim(
        ref=ObjectRef.of(claim),
        reason=f"grows from {_size(claim)} to {storage}",
        storage=storage,
        was=_size(claim),
        uid=claim["metadata"]["uid"],
        resource_version=claim["metadata"]["resourceVersion"],
    )


def _templates(workload: Manifest) -> list[Manifest]:
    return workload["spec"].get(_FIELD) or []


def _name(template: Manifest) -> str:
    return str(template["metadata"]["name"])


def _size(claim: Manifest) -> str:
    return str(claim["spec"].get("resources", {}).get("requests", {}).get("storage", "0"))


def _amount(claim: Manifest) -> Decimal:
    try:
        return parse_quantity(_size(claim))
    except QuantityError:  # the server says so, and better
        return parse_quantity("0")


def _with_sizes(workload: Manifest, sizes: Mapping[str, str]) -> Manifest:
    templates = [_with_size(template, sizes.get(_name(template))) for template in _templates(workload)]
    return workload | {"spec": workload["spec"] | ({_FIELD: templates} if templates else {})}


def _with_size(template: Manifest, size: str | None) -> Manifest:
    if size is None:
        return template
    spec: dict[str, Any] = template["spec"]
    resources = spec.get("resources", {})
    requests = resources.get("requests", {}) | {"storage": size}
    return template | {"spec": spec | {"resources": resources | {"requests": requests}}}
