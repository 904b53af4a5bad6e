"""The scale subresource of the stand-in: a small object of its own, whose managers are those of `spec.replicas`."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from support import api_errors as errors
from support.fake_server.kinds import SCALE
from support.fake_server.request import Answered, Object, Options, Target, now
from support.fake_server.writes import Writer, applied, split
from support.patches import patched
from support.ssa import server_side_apply as ssa

_EMPTY: Object = {"metadata": {}, "spec": {}, "status": {}}


def scale_of(obj: Object) -> Object:
    """Return the Scale of a workload."""
    wanted = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = (obj["spec"].get("selector") or {}).get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": ssa.SCALE_VERSION,
        "metadata": {key: obj["metadata"][key] for key in wanted if key in obj["metadata"]},
        "spec": {"replicas": obj["spec"]["replicas"]} if obj["spec"].get("replicas") else {},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def write_scale(writer: Writer, at: Target, body: Any, how: str, options: Options) -> Answered:
    """PUT or PATCH of a Scale; `how` is put, merge, json or apply."""
    live = writer.live(at)
    base, parent = split(live)
    scale, managers = scale_of(live), ssa.to_scale(parent)
    write = ssa.Write(SCALE, ssa.SCALE_VERSION, options.manager, now(), "scale")
    if how == "apply":
        new, managers = applied(scale, body, managers or ssa.first_apply(_EMPTY, scale, write), write, options)
    else:
        new = body if how == "put" else patched(scale, body, how)
        # a count that nobody owns is not tracked, here as in the real server
        managers = ssa.update(scale, scale | {"spec": new.get("spec", {})}, managers, write) if managers else {}
    _check(at, new, live["metadata"]["resourceVersion"])
    workload = deepcopy(base)
    workload["spec"]["replicas"] = new.get("spec", {}).get("replicas", 0)
    managers = ssa.from_scale(parent, managers, at.kind.api_version)
    code, stored = writer.replace(Target(at.kind, at.namespace, at.name), live, workload, managers, options)
    return code, scale_of(stored)


def _check(at: Target, new: Object, version: str) -> None:
    if new.get("metadata", {}).get("resourceVersion", version) != version:
        raise errors.conflict(at.kind.resource(at.name), errors.STALE)
    count = new.get("spec", {}).get("replicas", 0)
    if count < 0:
        cause = errors.invalid_value("spec.replicas", count, "must be greater than or equal to 0")
        raise errors.invalid(errors.Named("Scale", "autoscaling", at.name), [cause])
