"""The replication slot of an archive that has ended: a Job drops it, since the server keeps its log for it for ever.

The receiver cannot drop it, as it does not know whether it is stopped for good. The Job is made from the receiver's own
Deployment before that goes, so it reaches the same server with the same Secrets, whatever the spec has become. If the
metastore moves to another server, its archive ends on the old one first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.backups.jobs import has, removal, words
from chronik.manifest import CLUSTER, CLUSTER_LABEL, COMPONENT_LABEL
from chronik.status.compute import condition
from chronik.times import later
from chronik.wording import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronik.backups.steps import Remove
    from chronik.manifest import Manifest
    from chronik.status.compute import Condition

    Render = Callable[[str, Mapping[str, Any]], Manifest]
    """Renders one template by its name."""

END = "archive-end"
"""What the name of the Job ends with that drops the slot."""
TEMPLATE = "backup-slot-job.yaml.j2"
DROPPING, NOT_DROPPED = "DroppingSlot", "SlotNotDropped"
ENDING = frozenset({DROPPING, NOT_DROPPED})
"""The reasons of condition Archiving while a slot is being dropped."""
_COMMAND = ("backup", "drop-slot")
_SLOT = "--slot="
_CONTAINER = "receiver"
_CONTAINERS = frozenset({_CONTAINER, "backup"})
_SERVER = ("PGHOST", "PGPORT", "CHRONIK_DATABASE_URL")
_ENDED, _MOVED = "The archive has ended", "The archive has moved to another server"
LONGEST = 120.0
"""Seconds that something else waits for a slot: the server that has it may be gone already."""


class SlotPlan(NamedTuple):
    """What to do about the slot of a cluster's archive: make the Job, or remove it, and what is said meanwhile.

    `waits`: it is to be looked at again. While `holds` no receiver may be started: the Job could drop its slot.
    """

    make: bool = False
    removes: tuple[Remove, ...] = ()
    conditions: tuple[Condition, ...] = ()
    waits: bool = False
    holds: bool = False


def plan_slot(
    receiver: Manifest | None, job: Manifest | None, said: Mapping[str, Any] | None, *, wanted: bool
) -> SlotPlan:
    """Return what to do about a slot; `wanted`: the cluster is to have an archive.

    `receiver` is the Deployment that reads the slot, and `said` what the Job's container said the last time it ended.
    """
    if job is None:
        if wanted or receiver is None:
            return SlotPlan()
        return SlotPlan(make=True, conditions=(dropping(receiver),), waits=True)
    if wanted:
        return SlotPlan(removes=removal(job), waits=True, holds=True)
    return _ending(receiver, job, said or {}, _ENDED)


def plan_move(
    receiver: Manifest | None, job: Manifest | None, said: Mapping[str, Any] | None, now: str
) -> tuple[SlotPlan, str]:
    """Return what to do about the slot on the server that an archive was on before, and what is said if it is given up.

    No receiver starts at the new server before, since two names may mean one server; nor is it kept waiting for long.
    """
    if job is None:
        if receiver is None:
            return SlotPlan(), ""
        return SlotPlan(make=True, conditions=(dropping(receiver, _MOVED),), waits=True, holds=True), ""
    plan = _ending(receiver, job, said or {}, _MOVED)._replace(waits=True, holds=True)
    late = later(job["metadata"].get("creationTimestamp") or now, LONGEST) <= now
    if receiver is not None or not plan.conditions or not late:
        return plan, ""
    text = f"{plan.conditions[0]['message']}. The archive goes on all the same: on {host_of(job)}, {by_hand(job)}"
    return SlotPlan(removes=removal(job), waits=True, holds=True), text


def _ending(receiver: Manifest | None, job: Manifest, said: Mapping[str, Any], ended: str) -> SlotPlan:
    if has(job, "Complete"):
        if receiver is None:
            return SlotPlan(removes=removal(job))
        return SlotPlan(removes=removal(job), conditions=(dropping(job, ended),), waits=True)  # it may be there again
    if has(job, "Failed"):
        name = job["metadata"]["name"]
        text = f"{sentence(words(job, said))} It is not tried again: {by_hand(job)}, and then delete Job {name}"
        return SlotPlan(conditions=(_not_dropped(job, text, ended),), waits=True)
    if said.get("result") == "failed":
        text = f"{sentence(words(job, said))} It is tried again. Until then the server keeps its log: watch its disk"
        return SlotPlan(conditions=(_not_dropped(job, text, ended),), waits=True)
    return SlotPlan(conditions=(dropping(job, ended),), waits=True)


def dropping(workload: Manifest, ended: str = _ENDED) -> Condition:
    """Return that the slot is being dropped which a receiver read, or a Job drops."""
    text = f"{ended}, and its replication slot {_slot(workload, ended)} is being dropped"
    return condition("Archiving", met=False, reason=DROPPING, message=text)


def _slot(workload: Manifest, ended: str) -> str:
    return slot_of(workload) if ended == _ENDED else f"{slot_of(workload)} on {host_of(workload)}"


def _not_dropped(job: Manifest, why: str, ended: str) -> Condition:
    text = f"{ended}, and its replication slot {_slot(job, ended)} was not dropped: {why}"
    return condition("Archiving", met=False, reason=NOT_DROPPED, message=text)


def slot_of(workload: Manifest) -> str:
    """Return the name of the slot that a receiver reads, or a Job drops."""
    found = (arg for each in _pod(workload)["containers"] for arg in each.get("args") or () if arg.startswith(_SLOT))
    return next(found, _SLOT).removeprefix(_SLOT)


def host_of(workload: Manifest) -> str:
    """Return the server that has the slot, as its variables name it: its host, or the Secret with its URL."""
    server = _server(workload)
    return server.get("PGHOST") or f"the server of Secret {server.get('CHRONIK_DATABASE_URL')}"


def is_elsewhere(workload: Manifest | None, target: Manifest) -> bool:
    """Return whether a receiver or a Job is of another server than the receiver that is wanted, as their names say."""
    return workload is not None and _server(workload) != _server(target)


def _server(workload: Manifest) -> dict[str, str]:
    """Return what names the server: what a Secret says is not known, and which Secret it is, is."""
    every = (each for each in _pod(workload)["containers"] if each["name"] in _CONTAINERS)
    variables = (variable for each in every for variable in each.get("env") or () if variable["name"] in _SERVER)
    return {
        each["name"]: str(each.get("value") or ((each.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name"))
        for each in variables
    }


def by_hand(workload: Manifest) -> str:
    """Return what a person does who drops the slot: a statement for the metastore's server."""
    return f"SELECT pg_drop_replication_slot('{slot_of(workload)}')"


def slot_left(before: Manifest | None, wanted: Manifest | None, outcome: str) -> str:
    """Return what stays behind where no operator ends an archive: a slot that nobody reads, and how it is dropped.

    `before` is the receiver that was there, `wanted` the one that is to be, `outcome` what became of it; it is empty if
    nothing is left.
    """
    if before is None or outcome not in _AWAY or (wanted is not None and not is_elsewhere(before, wanted)):
        return ""
    why = "ends" if wanted is None else f"goes on at {host_of(wanted)}"
    host = host_of(before)
    return (
        f"the archive of the metastore {why}, and its replication slot {slot_of(before)} stays on {host}, which keeps"
        f" its log for it until its disk is full. Once the receiver is gone, on {host}: {by_hand(before)}"
    )


_AWAY = frozenset({"changed", "adopted", "recreated", "pruned"})
"""What has become of a receiver that does not read the slot any more that it read."""


def slot_job(receiver: Manifest, document: Manifest, name: str, render: Render) -> Manifest:
    """Return the Job that drops the slot of a receiver, of which `document` is the ChronikCluster."""
    metadata = document["metadata"]
    container = next(each for each in _pod(receiver)["containers"] if each["name"] == _CONTAINER)
    variables = {
        "name": name,
        "backup": {"namespace": metadata["namespace"]},
        "labels": {
            "app.kubernetes.io/name": "chronik-stream",
            "app.kubernetes.io/part-of": "chronik",
            CLUSTER_LABEL: metadata["name"],
            COMPONENT_LABEL: END,
        },
        "owned": True,
        "owner": {"kind": CLUSTER.name, "name": metadata["name"], "uid": metadata["uid"]},
        "args": [*_COMMAND, f"{_SLOT}{slot_of(receiver)}"],
        "pod": {key: _pod(receiver).get(key) for key in _OF_POD},
        "container": {key: container.get(key) for key in _OF_CONTAINER},
    }
    return render(TEMPLATE, variables)


_OF_POD = ("imagePullSecrets", "nodeSelector", "tolerations", "securityContext", "volumes")
_OF_CONTAINER = ("image", "imagePullPolicy", "env", "resources", "securityContext", "volumeMounts")


def _pod(workload: Manifest) -> Mapping[str, Any]:
    found: Mapping[str, Any] = workload["spec"]["template"]["spec"]
    return found


def ending(conditions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return condition Archiving of a cluster, if it has one."""
    return next((each for each in conditions if each["type"] == "Archiving"), None)
