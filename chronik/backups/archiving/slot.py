"""The replication slot of an archive that has ended: a Job drops it, since the server keeps its log for it for ever.

The receiver cannot drop it, as it does not know whether it is stopped for good. The Job is made from the receiver's own
Deployment before that goes, so it reaches the same server with the same Secrets, whatever the spec has become.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.backups.jobs import has, removal, words
from chronik.manifest import CLUSTER, CLUSTER_LABEL, COMPONENT_LABEL
from chronik.status.compute import condition
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
    said = said or {}
    if has(job, "Complete"):
        if receiver is None:
            return SlotPlan(removes=removal(job))
        return SlotPlan(removes=removal(job), conditions=(dropping(job),), waits=True)  # the slot may be there again
    if has(job, "Failed"):
        name = job["metadata"]["name"]
        text = f"{sentence(words(job, said))} It is not tried again: {by_hand(job)}, and then delete Job {name}"
        return SlotPlan(conditions=(_not_dropped(job, text),), waits=True)
    if said.get("result") == "failed":
        text = f"{sentence(words(job, said))} It is tried again. Until then the server keeps its log: watch its disk"
        return SlotPlan(conditions=(_not_dropped(job, text),), waits=True)
    return SlotPlan(conditions=(dropping(job),), waits=True)


def dropping(workload: Manifest) -> Condition:
    """Return that the slot is being dropped which a receiver read, or a Job drops."""
    text = f"The archive has ended, and its replication slot {slot_of(workload)} is being dropped"
    return condition("Archiving", met=False, reason=DROPPING, message=text)


def _not_dropped(job: Manifest, why: str) -> Condition:
    text = f"The archive has ended, and its replication slot {slot_of(job)} was not dropped: {why}"
    return condition("Archiving", met=False, reason=NOT_DROPPED, message=text)


def slot_of(workload: Manifest) -> str:
    """Return the name of the slot that a receiver reads, or a Job drops."""
    found = (arg for each in _pod(workload)["containers"] for arg in each.get("args") or () if arg.startswith(_SLOT))
    return next(found, _SLOT).removeprefix(_SLOT)


def by_hand(workload: Manifest) -> str:
    """Return what a person does who drops the slot: a statement for the metastore's server."""
    return f"SELECT pg_drop_replication_slot('{slot_of(workload)}')"


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
