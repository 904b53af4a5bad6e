"""What became of clusters, or would become of them, for programs: a schema that only ever grows.

    {"clusters": [{
        "namespace", "name", "ok", "dryRun": "none" | "client" | "server", "interrupted", "seconds",
        "operator": whether one manages the cluster: in a diff it is what would do this
        "member":   of a federation's members: which one
        "counts": {outcome: number of objects},
        "objects": [{
            "kind", "namespace", "name",
            "outcome",    what became of it: see `results.Outcome`
            "reason",     in a few words, "" if there is nothing to say
            "hint",       what to do about it, "" if nothing
            "changes":    [{"path", "old", "new", "owner"}]      null is nothing there; secrets are masked
                          with "patch", a position in spec.patches, in a diff, if one set the new value
            "restarts":   [path]                                 changes that make every pod of it start anew
            "owners":     [{"path", "manager", "operation", "subresource"}]   who holds fields against us
            "taken":      [the same]                             what was taken from whom
            "removed":    [the same]                             what others had added, and is removed
            "additions":  [the same]                             what others have added, and stays
            "seconds",
            "error":      null or {"reason", "message", "hint", "code"}       code is HTTP's, 0 without one
        }],
        "unready": null or [{"kind", "namespace", "name", "state", "message"}],    null: no wait
        "warnings": [text]                                       what a person has to see to
        "error": null or the same                                why the cluster was not looked at
    }]}

If an error came before any cluster, it is `{"clusters": [], "error": {the same, "subject"}, "problems": [...]}`: the
problems are those of documents, as `chronik validate -o json` lists them.

In a diff an outcome is what it would be, and `seconds` are 0. Pure.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from chronik.errors import NO_ANSWER
from chronik.plan.actions import Apply, Conflict, Deferred, NotInstalled, Obstacle
from chronik.plan.results import WROTE
from chronik.report.problems import problems_data
from chronik.report.summary import action_changes, counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.errors import ChronikError
    from chronik.manifest import ObjectRef
    from chronik.plan.changes import Change
    from chronik.plan.results import Result
    from chronik.problem import Problem
    from chronik.report.summary import ClusterResult, DryRun
    from chronik.status.view import ClusterView
    from chronik.status.view_parts import Address, Autoscaler, ComponentView, Pod, Volume


def apply_json(results: Sequence[ClusterResult], dry_run: DryRun = "none") -> str:
    """Return all clusters as one JSON object."""
    return to_json({"clusters": [_cluster_data(each, dry_run) for each in results]})


def error_data(error: ChronikError, problems: Iterable[Problem]) -> dict[str, Any]:
    """Return what a report is if an error came before any cluster: there are none in it, and it says why.

    `problems` are those of documents, as `chronik validate` lists them.
    """
    whole = {**(_error(error) or {}), "subject": error.subject}
    return {"clusters": [], "error": whole, "problems": problems_data(problems)}


def to_json(data: Any) -> str:
    """Return data as JSON text, indented."""
    return json.dumps(data, indent=2).replace("\x7f", "\\u007f") + "\n"


def _cluster_data(cluster_result: ClusterResult, dry_run: DryRun) -> dict[str, Any]:
    report = cluster_result.report
    return {
        **({"member": cluster_result.member} if cluster_result.member else {}),
        "namespace": cluster_result.key.namespace,
        "name": cluster_result.key.name,
        "ok": cluster_result.failure is None and not report.interrupted,
        "dryRun": dry_run,
        "interrupted": report.interrupted,
        "operator": cluster_result.operator,
        "seconds": round(cluster_result.seconds, 3),
        "counts": counts(report),
        "objects": [_object(result) for result in report.results],
        "unready": cluster_result.unready
        and [
            {**ref_data(each.ref), "state": each.health.state.value, "message": each.health.message}
            for each in cluster_result.unready
        ],
        "warnings": list(cluster_result.warnings),
        "error": _error(cluster_result.error),
    }


def _object(result: Result) -> dict[str, Any]:
    action = result.action
    takes, removes = (
        (action.takes, action.removes) if isinstance(action, Apply) and result.outcome in WROTE else ((), ())
    )
    return {
        **ref_data(result.ref),
        "outcome": result.outcome,
        "reason": result.why or action.reason,
        "hint": action.hint if isinstance(action, Obstacle | Deferred | NotInstalled) else "",
        "changes": [_change(change) for change in action_changes(action)],
        "restarts": [change.path for change in getattr(action, "restarts", ())],
        "owners": [owner._asdict() for owner in (action.owners if isinstance(action, Conflict) else ())],
        "taken": [owner._asdict() for owner in takes],
        "removed": [owner._asdict() for owner in removes],
        "additions": [owner._asdict() for owner in action.additions],
        "seconds": round(result.seconds, 3),
        "error": _error(result.error),
    }


def _change(change: Change) -> dict[str, Any]:
    data = asdict(change)
    return data if change.patch is not None else {key: part for key, part in data.items() if key != "patch"}


def ref_data(ref: ObjectRef) -> dict[str, str]:
    """Return which object it is, as all JSON reports say it."""
    return {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def _error(error: ChronikError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    code = getattr(error, "answer", NO_ANSWER).code
    return {"reason": error.reason, "message": error.message, "hint": error.hint, "code": code}


def status_data(views: Iterable[ClusterView]) -> dict[str, Any]:
    """Return clusters as plain data, for `-o json` and `-o yaml`."""
    return {"clusters": [_data(view) for view in views]}


def status_json(views: Iterable[ClusterView], *, compact: bool = False) -> str:
    """Return clusters as JSON text: indented, or all in one line."""
    return json.dumps(status_data(views), indent=None if compact else 2, ensure_ascii=False) + "\n"


def _data(view: ClusterView) -> dict[str, Any]:
    return {
        "namespace": view.key.namespace,
        "name": view.key.name,
        "phase": view.phase,
        "ready": view.ready,
        "created": view.created or None,
        "generation": view.generation,
        "paused": view.paused,
        "specFrom": view.origin,
        "components": [_component_data(part) for part in view.components],
        "addresses": [_plain(address) for address in view.addresses],
        "waitsFor": list(view.waits_for),
        "notes": list(view.notes),
        "additions": [{**ref_data(ref), "path": owner.path, "manager": owner.manager} for ref, owner in view.additions],
        "status": dict(view.status),
    }


def _component_data(part: ComponentView) -> dict[str, Any]:
    return {
        "name": part.status.component.type.count_field,
        "workload": str(part.ref),
        "wanted": part.status.wanted,
        "ready": part.status.ready,
        "existing": part.existing,
        "updated": part.updated,
        "settled": part.status.is_ready,
        "state": part.status.health.state.value,
        "message": part.reason,
        "images": list(part.status.images),
        "endpoints": list(part.status.endpoints),
        "autoscaler": _plain(part.autoscaler) if part.autoscaler else None,
        "pods": [_plain(pod) for pod in part.pods],
        "volumes": [_plain(volume) for volume in part.volumes],
    }


def _plain(thing: Pod | Volume | Autoscaler | Address) -> dict[str, Any]:
    """Return a thing by its fields, under the names that Kubernetes would give them; what is empty is null."""
    return {_camel(name): _json(value) for name, value in asdict(thing).items()}


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if value == "" else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))
