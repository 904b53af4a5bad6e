"""Read what is there of one cluster from the API server: one LIST for each kind, and no request for each object."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from chronik.errors import Forbidden, InputError, KindMissing, NamespaceMissing
from chronik.manifest import (
    CLAIM,
    CLUSTER_LABEL,
    INSTANCE_LABEL,
    KIND_BY_NAME,
    KINDS,
    POD,
    STORAGE_CLASS,
    Kind,
    KindName,
    ObjectRef,
    own_kinds,
)
from chronik.plan.live import LiveCluster, Missing, not_known
from chronik.plan.volumes.sizes import volumes
from chronik.render.own import CLUSTER_SCOPED
from chronik.tasks import gathered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.kube import Kube
    from chronik.manifest import Manifest

T = TypeVar("T")
NOT_NAMESPACED = "KindNotNamespaced"
"""Why no object of a kind can be part of a cluster: such objects lie in no namespace."""


async def observe(kube: Kube, cluster: Cluster, desired: Sequence[Manifest], *, complete: bool = False) -> LiveCluster:
    """Return what a plan needs of a cluster, found by its label: objects, claims and StorageClasses.

    Pods are only read if a StatefulSet is not there and volumes are: it may have been deleted to be created anew, by
    an apply that was cut off, and has to suit the pods that it left.

    Its objects are of the kinds that chronik renders, of those that templates of the user's make, and of those that
    such templates once made, as its ConfigMap remembers. With `complete`, also what has the name of a desired object
    without bearing the label: an object that is not ours, or one of ours that lost it. An apply finds those as it goes;
    a diff does not.

    Raises:
        Forbidden: a kind cannot be listed; "nothing is there" would be a guess.
        InputError: a desired object is of a kind whose objects lie in no namespace.
    """
    selector = f"{CLUSTER_LABEL}={cluster.name}"
    missing: dict[KindName, Missing] = {}
    *listings, claims = await gathered(
        *(_listed(kube, kind, cluster.namespace, selector, missing) for kind in KINDS),
        _beside(kube, CLAIM, cluster),
    )
    found = {ObjectRef.of(manifest): manifest for listing in listings for manifest in listing}
    own = await read_own(kube, own_kinds([*desired, *found.values()]), cluster.namespace, selector)
    found |= {ObjectRef.of(manifest): manifest for manifest in own.objects}
    missing |= own.missing
    _check_namespaced(desired, missing)
    found |= await named(kube, desired if complete else others(desired), found, missing)
    expandable = await _expandable(kube, desired, found, claims)
    gone = any(each["kind"] == "StatefulSet" and ObjectRef.of(each) not in found for each in desired)
    pods = await _beside(kube, POD, cluster) if gone and claims else []
    return LiveCluster(objects=found, pods=pods, claims=claims, expandable=expandable, missing=missing)


class OwnObjects(NamedTuple):
    """Objects of kinds that templates of the user's make; of `missing` kinds it is said why there are none."""

    objects: Sequence[Manifest]
    missing: Mapping[KindName, Missing]


async def read_own(kube: Kube, kinds: Iterable[KindName], namespace: str, selector: str) -> OwnObjects:
    """Return the objects of some kinds with a label; how URLs spell the kinds, the server is asked.

    Raises:
        Forbidden: a kind cannot be listed.
    """
    found = await gathered(*(_read_kind(kube, name, namespace, selector) for name in sorted(kinds)))
    missing = {kind: why for each in found for kind, why in each.missing.items()}
    return OwnObjects([manifest for each in found for manifest in each.objects], missing)


async def _read_kind(kube: Kube, name: KindName, namespace: str, selector: str) -> OwnObjects:
    try:
        kind = await own_kind(kube, name)
        return OwnObjects(await _list(kube, kind, namespace, selector), {})
    except KindMissing as error:
        return OwnObjects((), {name: why_missing(name, error)})


async def own_kind(kube: Kube, name: KindName) -> Kind:
    """Return how the server spells a kind that a template of the user's makes.

    Raises:
        KindMissing: it is not installed, or its objects are in no namespace.
    """
    kind = await kube.kind(*name)
    if not kind.namespaced:
        raise KindMissing(f"the kind {name.described} lies in no namespace", hint=CLUSTER_SCOPED)
    return kind


def _check_namespaced(desired: Iterable[Manifest], missing: Mapping[KindName, Missing]) -> None:
    """Raise InputError for an object that never can be part of a cluster, whatever is installed."""
    for each in desired:
        why = missing.get(KindName.of(each))
        if why and why.reason == NOT_NAMESPACED:
            raise InputError(why.message, subject=str(ObjectRef.of(each)), hint=why.hint)


def why_missing(kind: KindName, error: KindMissing) -> Missing:
    """Return why no object of a kind can be made, of which `own_kind` or a list says that it is missing."""
    if error.hint == CLUSTER_SCOPED:
        return Missing(NOT_NAMESPACED, error.message, CLUSTER_SCOPED)
    return not_known(kind)


async def _listed(
    kube: Kube, kind: Kind, namespace: str, selector: str, missing: dict[KindName, Missing]
) -> list[Manifest]:
    """Return the objects of a kind; one that is optional and not installed gets into `missing`.

    One that may not be listed is taken to have none: who has no right to a kind has made no object of it.
    """
    try:
        return await _list(kube, kind, namespace, selector)
    except (KindMissing, Forbidden) as error:
        if not kind.optional:
            raise
        missing |= {kind.id: not_known(kind.id)} if isinstance(error, KindMissing) else {}
        return []


async def _list(kube: Kube, kind: Kind, namespace: str, selector: str) -> list[Manifest]:
    return (await kube.list(kind, namespace, label_selector=selector)).items


async def _beside(kube: Kube, kind: Kind, cluster: Cluster) -> list[Manifest]:
    """Return the volume claims of a cluster, or its pods; claims bear the labels of a selector and no others.

    Without the right to list them there are none here; the server's refusal of a StatefulSet then says so.
    """
    try:
        return await _list(kube, kind, cluster.namespace, f"{INSTANCE_LABEL}={cluster.name}")
    except Forbidden:
        return []


def others(desired: Iterable[Manifest]) -> list[Manifest]:
    """Return the manifests of kinds that only templates of the user's make; they are read by name."""
    return [each for each in desired if each["kind"] not in KIND_BY_NAME]


async def named(
    kube: Kube,
    desired: Iterable[Manifest],
    found: Mapping[ObjectRef, Manifest],
    missing: Collection[KindName] = (),
) -> dict[ObjectRef, Manifest]:
    """Return the live objects with the names of desired ones that were not found; of missing kinds there are none."""
    wanted = {ObjectRef.of(each): each for each in desired if KindName.of(each) not in missing}
    unseen = {ref: manifest for ref, manifest in wanted.items() if ref not in found}
    answers = await gathered(*(_get(kube, ref, manifest) for ref, manifest in unseen.items()))
    return {ref: live for ref, live in zip(unseen, answers, strict=True) if live is not None}


async def _get(kube: Kube, ref: ObjectRef, manifest: Manifest) -> Manifest | None:
    kind = KIND_BY_NAME.get(ref.kind) or await kube.kind(manifest["apiVersion"], ref.kind)
    try:
        return await kube.get(kind, ref.namespace, ref.name)
    except NamespaceMissing:
        return None


async def _expandable(
    kube: Kube, desired: Iterable[Manifest], found: Mapping[ObjectRef, Manifest], claims: Sequence[Manifest]
) -> dict[str, bool]:
    """Return which of the StorageClasses that matter expand volumes; those that may not be read are left out."""
    growing = [
        manifest
        for manifest in desired
        if manifest["kind"] == "StatefulSet"
        and (live := found.get(ObjectRef.of(manifest)))
        and _grows(manifest, live, claims)
    ]
    templates = [template for manifest in growing for template in manifest["spec"].get("volumeClaimTemplates") or ()]
    named = {claim["spec"].get("storageClassName") for claim in (*templates, *(claims if growing else ()))}
    names = sorted(filter(None, named))
    return dict(zip(names, await gathered(*(_expands(kube, name) for name in names)), strict=True))


def _grows(desired: Manifest, live: Manifest, claims: Sequence[Manifest]) -> bool:
    wanted = volumes(desired, live, claims, {})
    return bool(wanted.grow) or wanted.larger


async def _expands(kube: Kube, name: str) -> bool:
    try:
        found = await kube.get(STORAGE_CLASS, "", name)
    except Forbidden:
        return True  # the server will say no if it does not
    return bool((found or {}).get("allowVolumeExpansion"))
