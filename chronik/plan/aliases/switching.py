"""Whether an alias may lead to another cluster, the one thing that is written for it, and what is next.

Only the selector of the alias is changed. No mirror is stopped, no producer is fenced, and no connection is cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.api.replication.failover import consumer_steps
from chronik.api.replication.mirrors import alias_of
from chronik.manifest import COMPONENT_NAMES, ClusterKey, is_paused
from chronik.plan.aliases.services import named_in, named_on, ports_of
from chronik.plan.aliases.sharing import other_security

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronik.api.sections.replication import ReplicationSource
    from chronik.api.spec import Cluster
    from chronik.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Side:
    """A cluster that an alias leads to, or is to lead to, as far as it is there.

    One that no operator keeps has no `document`, and one whose document is not valid no `cluster`. `service` is that of
    its clients, and `ready` is how many pods behind that are ready.
    """

    key: ClusterKey
    document: Manifest | None = None
    cluster: Cluster | None = None
    service: Manifest | None = None
    ready: int = 0

    @property
    def is_there(self) -> bool:
        """Whether there is such a cluster, or something left of one."""
        return self.document is not None or self.service is not None

    @property
    def names(self) -> frozenset[str]:
        """The aliases that it names."""
        if self.document is not None:
            return frozenset(named_in(self.document))
        return frozenset(named_on(self.service) if self.service else ())


def obstacles(alias: Manifest, target: Side, active: Side) -> list[str]:
    """Return what forbids that an alias leads to a cluster, which nobody can accept."""
    name, to = alias["metadata"]["name"], target.key.name
    found = [f"{to} does not name it in network.aliases"] if name not in target.names else []
    found += _not_ready(target)
    if target.service is None:
        return [*found, f"{to} has no Service for clients yet"]
    if ports_of(target.service) != ports_of(alias):
        found.append(f"it has other ports than Service {target.service['metadata']['name']}")
    return [*found, *_unlike(target, active), *_own_sources(target, name)]


def _unlike(target: Side, active: Side) -> Iterator[str]:
    if target.cluster is None or active.cluster is None:
        return
    differing = [f"security.{each}" for each in other_security(target.cluster, active.cluster)]
    if differing:
        yield f"clients of {active.key.name} find another {', '.join(differing)} at {target.key.name}"


def _own_sources(target: Side, alias: str) -> Iterator[str]:
    for each in _sources(target.cluster) if target.cluster else ():
        if _is_at(each, alias, target):
            yield f"{target.key.name} would copy from itself: its source {each['name']} has {alias} in bootstrapServers"


def _not_ready(target: Side) -> Iterator[str]:
    name, document = target.key.name, target.document
    if document is not None:
        status, metadata = document.get("status") or {}, document["metadata"]
        if "deletionTimestamp" in metadata:
            yield f"{name} is being deleted"
        elif target.cluster is None:
            yield f"the document of {name} is not valid"
        elif status.get("observedGeneration") != metadata.get("generation"):
            yield f"{name} is not what its document says yet: its operator has not seen the newest spec"
        elif status.get("phase") != "Running":
            yield f"{name} is {status.get('phase', 'Pending')}, and not Running"
    if not target.ready:
        yield f"no pod of {name} that clients connect to is ready"


def standing(alias: Manifest, target: Side, active: Side) -> list[str]:
    """Return what speaks for a switch, once nothing forbids it."""
    to, name = target.key.name, alias["metadata"]["name"]
    state = "runs without an operator" if target.document is None else "is Running"
    known = [f"{to} {state}, names {name}, and {target.ready} of its pods that clients connect to are ready"]
    if target.cluster and active.cluster:
        known.append(f"ports and TLS are those of {active.key.name}")
    if active.key.name and not active.is_there:
        known.append(f"{active.key.name} is not there any more")
    if target.document is not None and is_paused(target.document):
        known.append(f"the operator of {to} pauses")
    return known


def doubts(target: Side, active: Side) -> list[str]:
    """Return what nobody can tell of a switch, apart from what mirrors say."""
    to, of = target.key.name, active.key.name
    if not of:
        return []
    if target.cluster is None:
        return [f"whether {to} has what {of} has, and its TLS: no operator keeps it, so its document is not here"]
    found = [] if copies_of(target, active) else [f"whether {to} has what {of} has: no mirror copies from there"]
    if active.document is None and active.service is not None:
        found.append(f"whether {of} has the same TLS: no operator keeps it, so its document is not here")
    return found


def copies_of(target: Side, active: Side) -> list[ReplicationSource]:
    """Return the sources of a cluster that are another one, by their name or by their addresses."""
    if target.cluster is None or not active.key.name:
        return []
    called = alias_of(active.cluster) if active.cluster else active.key.name
    return [each for each in _sources(target.cluster) if each["name"] == called or _is(each, active.key, target.key)]


def _sources(cluster: Cluster) -> list[ReplicationSource]:
    return (cluster.spec["replication"] or {"sources": []})["sources"]


def _is(source: ReplicationSource, key: ClusterKey, seen_from: ClusterKey) -> bool:
    """Return whether a source is found at Services of a cluster."""
    own = re.compile(rf"{re.escape(key.name)}-({'|'.join(COMPONENT_NAMES)})(-.*)?")
    return any(own.fullmatch(name) and place == key.namespace for name, place in _services(source, seen_from.namespace))


def _is_at(source: ReplicationSource, alias: str, target: Side) -> bool:
    """Return whether a source is found by an alias in the namespace of the cluster that copies from it."""
    return (alias, target.key.namespace) in _services(source, target.key.namespace)


def _services(source: ReplicationSource, namespace: str) -> set[tuple[str, str]]:
    """Return by which Services a source is found, with their namespaces, as far as its addresses are such names."""
    found = set()
    for server in source["bootstrapServers"]:
        labels = server.rpartition(":")[0].split(".")
        inside = labels[: labels.index("svc")] if "svc" in labels else labels
        match inside:  # a pod has its own label before that of its Service
            case [name]:
                found.add((name, namespace))
            case [name, place] | [_, name, place]:
                found.add((name, place))
    return found


def switching_patch(alias: Manifest, service: Manifest) -> dict[str, Any]:
    """Return the merge patch that has an alias lead to what a Service leads to, if the alias is still this one."""
    before, wanted = alias["spec"].get("selector") or {}, service["spec"]["selector"]
    selector = {**dict.fromkeys(before.keys() - wanted.keys()), **wanted}
    return {"metadata": {"resourceVersion": alias["metadata"]["resourceVersion"]}, "spec": {"selector": selector}}


def next_steps(name: str, target: Side, active: Side) -> list[str]:
    """Return what is left to people once an alias leads to another cluster."""
    to, of = target.key.name, active.key.name
    steps = ["Restart the clients that are connected, or wait until they are: an alias moves new connections alone."]
    if not of:
        return steps
    copies = copies_of(target, active)
    namespace = target.key.namespace
    fence = f"Let no producer write to {of} any more: what it takes in reaches {to} only while a mirror copies it."
    back = f"To go back: chronik switch {name} --to {of} -n {namespace}. What {to} has taken in by then is not at {of}."
    return [
        *steps,
        *([fence] if active.is_there else []),
        *dict.fromkeys(step for each in copies for step in consumer_steps(each)),
        *(
            f"Once no client is left there, end the mirror: chronik failover {each['name']} {to} -n {namespace}"
            for each in copies
            if not each["paused"]
        ),
        *([back] if active.is_there else []),
    ]
