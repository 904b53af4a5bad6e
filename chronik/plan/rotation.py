"""Restart pods when a Secret that they use has changed, once, and only those.

The rendered pod template cannot tell what is in a Secret, so a field manager of its own puts a digest of it there, when
it is no longer what the pods were first made with: that digest is kept in the cluster's status, so that a new cluster
starts its pods once and not twice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chronik.manifest import WORKLOAD_KINDS, ObjectRef, component_of
from chronik.plan.actions import Plan, Stage, Step, TransferOwnership
from chronik.plan.replicas import handover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chronik.manifest import Manifest

ROTATION_MANAGER = "chronik-operator-rotation"
ANNOTATION = "chronik.stream/secrets"


@dataclass(frozen=True, slots=True)
class Rotation:
    """What is to be done about changed Secrets.

    `restarts` brings pods to the Secrets that are there now. `digests` goes into the status: by component, what its
    pods were made with. `missing` are Secrets that do not exist, by the workload that needs them. `waiting` are
    workloads whose pods are to restart, and may not yet.
    """

    restarts: Plan = field(default_factory=lambda: Plan(()))
    digests: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[ObjectRef, tuple[str, ...]] = field(default_factory=dict)
    waiting: tuple[ObjectRef, ...] = ()


def rotation(
    desired: Sequence[Manifest],
    observed: Mapping[ObjectRef, Manifest],
    made_with: Mapping[str, str],
    secret: Callable[[str], str | None],
    may_restart: Callable[[ObjectRef, Sequence[ObjectRef]], bool],
) -> Rotation:
    """Compare the Secrets that pods were made with and those that are there.

    `made_with` is the status's `secretDigests`, less the workloads that were made just now; `secret` returns a digest
    of a Secret's data by name, or None; `may_restart` is asked before the pods of a workload are restarted, with the
    workloads of which that is decided already.
    """
    steps: list[Step] = []
    digests: dict[str, str] = {}
    missing: dict[ObjectRef, tuple[str, ...]] = {}
    waiting: list[ObjectRef] = []
    for workload in desired:
        names = required_secrets(workload)
        if workload["kind"] not in WORKLOAD_KINDS or not names:
            continue
        ref, component = ObjectRef.of(workload), component_of(workload)
        found = {name: secret(name) for name in names}
        gone = tuple(name for name, digest in found.items() if digest is None)
        if gone:
            missing[ref] = gone
            digests |= {component: made_with[component]} if component in made_with else {}
            continue
        now = _digest(found)
        digests[component] = made_with.get(component, now)
        if not _is_due(observed.get(ref), digests[component], now):
            continue
        if may_restart(ref, [step.ref for step in steps]):
            steps.append(Step(ref, (_restart(workload, now),)))
        else:
            waiting.append(ref)
    restarts = Plan((Stage("rotation", tuple(steps)),)) if steps else Plan(())
    return Rotation(restarts, digests, missing, tuple(waiting))


def _is_due(live: Manifest | None, made_with: str, now: str) -> bool:
    """Return whether pods run with other Secrets than there are now: with those of the first hour, or of a restart."""
    return live is not None and (_held(live) or made_with) != now


def required_secrets(workload: Manifest) -> list[str]:
    """Return the names of the Secrets without which the pods of a workload do not start, sorted."""
    pod = workload.get("spec", {}).get("template", {}).get("spec", {})
    return sorted({source["name"] for source in _sources(pod) if not source.get("optional")})


def _sources(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for container in (*pod.get("initContainers", ()), *pod.get("containers", ())):
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield variable["valueFrom"]["secretKeyRef"]
        yield from (source["secretRef"] for source in container.get("envFrom", ()) if "secretRef" in source)
    for volume in pod.get("volumes", ()):
        if "secret" in volume:
            yield {"name": volume["secret"]["secretName"], "optional": volume["secret"].get("optional")}
        projected = volume.get("projected", {}).get("sources", ())
        yield from (source["secret"] for source in projected if "secret" in source)


def _digest(found: Mapping[str, str | None]) -> str:
    text = "\n".join(f"{name}={digest}" for name, digest in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _held(live: Manifest) -> str | None:
    annotations = live["spec"]["template"].get("metadata", {}).get("annotations") or {}
    held: str | None = annotations.get(ANNOTATION)
    return held


def _restart(workload: Manifest, digest: str) -> TransferOwnership:
    fields = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: digest}}}}}
    return handover(workload, ROTATION_MANAGER, fields, "a Secret that its pods use has changed; they restart")
