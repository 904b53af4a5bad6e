"""Aliases: Services of `spec.network.aliases` that lead to one of several clusters, and that none of them owns.

An alias is made once, by the first cluster that names it, and is never applied again: where it leads is for people to
say. So it bears no label of a cluster and no owner, is in no rendered output, and goes with the last that names it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from chronik.api.components import client_service_name
from chronik.errors import InputError
from chronik.manifest import (
    ALIAS_LABEL,
    ALIASES_ANNOTATION,
    CLUSTER_LABEL,
    INSTANCE_LABEL,
    MANAGED_BY,
    ObjectRef,
)
from chronik.plan.actions import Action, Blocked, Create, Foreign, Plan, Prune, Skip, Stage, Step, Wait
from chronik.plan.ownership import is_cluster

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest

_NAME = re.compile("[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""What is no name of a Service is none of an alias, whatever somebody has written."""
_PORT_FIELDS = ("name", "port", "protocol", "targetPort")


def alias_ref(namespace: str, name: str) -> ObjectRef:
    """Return which Service an alias is."""
    return ObjectRef("Service", namespace, name)


def is_alias(live: Manifest) -> bool:
    """Return whether a Service was made as an alias: a wanted name alone is no claim."""
    labels = live["metadata"].get("labels") or {}
    return labels.items() >= (MANAGED_BY | {ALIAS_LABEL: live["metadata"]["name"]}).items()


def active_of(live: Manifest) -> str:
    """Return the cluster that an alias leads to; empty if its selector names none."""
    return str((live["spec"].get("selector") or {}).get(INSTANCE_LABEL, ""))


def component_behind(live: Manifest) -> str:
    """Return the component whose pods an alias leads to; empty if its selector names none."""
    return str((live["spec"].get("selector") or {}).get("app.kubernetes.io/component", ""))


def ports_of(service: Manifest) -> list[dict[str, Any]]:
    """Return what of a Service's ports clients and pods see."""
    ports = service["spec"].get("ports") or ()
    return [{field: port[field] for field in _PORT_FIELDS if field in port} for port in ports]


def client_service(cluster: Cluster, manifests: Iterable[Manifest]) -> Manifest:
    """Return the Service of a cluster's clients among its manifests.

    Raises:
        InputError: templates of the user's make none.
    """
    ref = ObjectRef("Service", cluster.namespace, client_service_name(cluster))
    found = next((each for each in manifests if ObjectRef.of(each) == ref), None)
    if found is None:
        hint = "Have a template of yours make it, or remove network.aliases."
        raise InputError(f"there is no {ref}, which aliases are made after", subject=str(cluster.key), hint=hint)
    return found


def alias_service(name: str, client: Manifest) -> Manifest:
    """Return an alias that leads to what the Service of a cluster's clients leads to."""
    labels = {"app.kubernetes.io/name": "chronik-stream", **MANAGED_BY, ALIAS_LABEL: name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": client["metadata"]["namespace"], "labels": labels},
        "spec": {"type": "ClusterIP", "selector": dict(client["spec"]["selector"]), "ports": ports_of(client)},
    }


def alias_action(name: str, client: Manifest, live: Manifest | None) -> Action:
    """Return what a cluster does about an alias that it names: it makes one that is not there, and changes none."""
    ref = alias_ref(client["metadata"]["namespace"], name)
    if live is None:
        return Create(ref=ref, reason="leads to this cluster first", manifest=alias_service(name, client))
    if "deletionTimestamp" in live["metadata"]:
        return Wait(ref=ref, reason="is being deleted")
    if not is_alias(live):
        reason = "has the name of an alias, and was not made as one"
        return Foreign(ref=ref, reason=reason, hint="Delete it, or give the alias another name.")
    if ports_of(live) != ports_of(client):
        hint = f"Give the Services of all clusters that name it the same ports, and delete Service {name} once."
        reason = f"has other ports than Service {client['metadata']['name']}, so it cannot lead here"
        return Blocked(ref=ref, reason=reason, hint=hint)
    return Skip(ref=ref)


def alias_plan(names: Iterable[str], client: Manifest, found: Mapping[ObjectRef, Manifest]) -> Plan:
    """Return what a cluster does about all aliases that it names; `found` are the Services of these names."""
    actions = [
        alias_action(name, client, found.get(alias_ref(client["metadata"]["namespace"], name))) for name in names
    ]
    return _plan("aliases", actions)


def withdrawal(names: Collection[str], found: Mapping[ObjectRef, Manifest], elsewhere: Collection[str]) -> Plan:
    """Return what becomes of aliases that a cluster names no more; `elsewhere` are those that others name."""
    gone = [_withdrawn(live) for live in found.values() if live["metadata"]["name"] in set(names) - set(elsewhere)]
    return _plan("aliases", [action for action in gone if action is not None], prunes=True)


def _withdrawn(live: Manifest) -> Prune | None:
    metadata = live["metadata"]
    if not is_alias(live) or "deletionTimestamp" in metadata:
        return None
    return Prune(
        ref=ObjectRef.of(live),
        reason="is named by no cluster any more",
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        api_version="v1",
    )


def _plan(name: str, actions: Sequence[Action], *, prunes: bool = False) -> Plan:
    steps = tuple(Step(action.ref, (action,)) for action in actions)
    return Plan((Stage(name, steps, prunes=prunes),)) if steps else Plan(())


# --- who names an alias ----------------------------------------------------------------------------------------------


def named_in(document: Manifest) -> list[str]:
    """Return the aliases that a ChronikCluster names, valid or not."""
    found: Any = document
    for key in ("spec", "network", "aliases"):
        found = found.get(key) if isinstance(found, dict) else None
    return (
        [each for each in found if isinstance(each, str) and _NAME.fullmatch(each)] if isinstance(found, list) else []
    )


def named_on(service: Manifest) -> list[str]:
    """Return the aliases that the Service of a cluster's clients says its cluster names."""
    text = str((service["metadata"].get("annotations") or {}).get(ALIASES_ANNOTATION, ""))
    return [each for each in text.split() if _NAME.fullmatch(each)]


def named_elsewhere(
    clusters: Collection[str], documents: Iterable[Manifest], services: Iterable[Manifest], *, operated: bool
) -> set[str]:
    """Return the aliases that others than some clusters of a namespace name, and that are there to stay.

    Of those that no operator keeps there is no document, but their Service says it. So does that of the clusters
    themselves, if an operator kept them, and their objects were orphaned.
    """
    names: set[str] = set()
    for each in documents:
        if each["metadata"]["name"] not in clusters and "deletionTimestamp" not in each["metadata"]:
            names |= {*named_in(each)}
    for each in services:
        metadata = each["metadata"]
        has_document = any(map(is_cluster, metadata.get("ownerReferences") or ()))
        is_other = operated or (metadata.get("labels") or {}).get(CLUSTER_LABEL) not in clusters
        if is_other and not has_document:
            names |= {*named_on(each)}
    return names
