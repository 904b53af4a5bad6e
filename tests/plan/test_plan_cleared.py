"""What a plan says of objects whose `managedFields` were cleared is what a real API server does with the apply.

`kubectl patch … '{"metadata":{"managedFields":[{}]}}'` clears them. Then our manager owns nothing of the object, and
the server says at the next apply that everything in it is somebody else's, field by field of its own schema.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from support.recorded import FILES, recorded, with_value
from support.ssa.field_model import mutated

from chronik.manifest import CLUSTER_LABEL, KIND_BY_NAME, ObjectRef
from chronik.plan.actions import Apply, Blocked, Conflict, Recreate, Skip
from chronik.plan.conflicts import foreign_keys
from chronik.plan.planner import PlanContext, plan

if TYPE_CHECKING:
    from support.api import ApiServer

    from chronik.plan.actions import Action

pytestmark = pytest.mark.real  # only the real server has Kubernetes' own schema, defaults and validation

IMMUTABLE = ("immutable", "updates to statefulset spec", "may not change once set", "cannot change roleRef")
NEVER_CHANGE: dict[str, list[tuple[tuple[str, ...], tuple[Any, ...]]]] = {
    "statefulset": [
        (("f:spec", "f:serviceName"), ("other", None)),
        (("f:spec", "f:podManagementPolicy"), ("OrderedReady", "Parallel", None)),
        (("f:spec", "f:volumeClaimTemplates"), (None, [])),
    ],
    "deployment": [(("f:spec", "f:selector"), ({"matchLabels": {"app.kubernetes.io/instance": "full"}},))],
    "service": [(("f:spec", "f:clusterIP"), ("10.0.77.77", "", None))],
    "service-client": [(("f:spec", "f:loadBalancerClass"), ("example.com/other", "example.com/third", None))],
    "rolebinding": [(("f:roleRef",), ({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "other"},))],
    "configmap": [(("f:data", "f:storage.backend"), ("other", None)), (("f:data",), ({"a": "b"},))],
}
"""Of each kind that has some, fields that never change, or only under some conditions, and values to try."""
CASES, MANY_CASES = 30, 120
OFTEN = 0.4
ENOUGH = 2
RENDERED_METADATA = ("name", "namespace", "labels", "annotations")


@dataclass
class Objects:
    """The objects of one kind in a namespace, by name."""

    server: ApiServer
    namespace: str
    manifest: dict[str, Any]
    tally: dict[str, int] = field(default_factory=dict)

    def call(self, method: str, name: str, body: Any, **options: Any) -> Any:
        """Ask something about one object."""
        kind = KIND_BY_NAME[self.manifest["kind"]]
        base = f"{'/apis' if '/' in kind.api_version else '/api'}/{kind.api_version}/namespaces/{self.namespace}"
        return self.server.call(method, f"{base}/{kind.plural}/{name}".rstrip("/"), body, **options)

    def cleared(self, name: str, random: Random) -> dict[str, Any] | None:
        """Make an object, edit it, and clear its record; None if the server takes none of the edits."""
        answer = self.call("PATCH", name, named(self.manifest, name), fieldManager="chronik-operator")
        assert answer.code == 201, answer.body
        for _ in range(random.choice([0, 1, 2])):
            for _ in range(10):
                edited = mutated(answer.body, random, random.choice([1, 2]))
                done = self.call("PUT", name, edited, fieldManager="kubectl-edit")
                if done.code == 200:
                    answer = done
                    break
        answer = self.call("PATCH", name, {"metadata": {"managedFields": [{}]}}, patch="merge")
        assert "managedFields" not in answer.body["metadata"]
        return answer.body

    def is_valid(self, desired: dict[str, Any]) -> bool:
        """Tell whether the server would create such an object."""
        return self.call("PATCH", "other", named(desired, "other"), fieldManager="x", dryRun="All").code == 201

    @property
    def judged(self) -> int:
        """How many applies were compared."""
        return self.tally.get("taken", 0) + self.tally.get("immutable", 0)

    def count(self, what: str) -> None:
        """Count a case."""
        self.tally[what] = self.tally.get(what, 0) + 1


def named(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return manifest | {"metadata": manifest["metadata"] | {"name": name}}


def changed(manifest: dict[str, Any], stem: str, random: Random) -> dict[str, Any]:
    """Return a manifest with some changes at random, sometimes of a field that never changes."""
    result = mutated(manifest, random, random.choice([0, 1, 1, 2, 3]))
    path, values = random.choice(NEVER_CHANGE[stem])
    if random.random() < OFTEN:
        with suppress(LookupError):
            result = with_value(result, path, random.choice(values))
    return rendered(result)


def rendered(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with no more metadata than templates give it."""
    metadata = manifest["metadata"]
    return manifest | {"metadata": {key: metadata[key] for key in RENDERED_METADATA if key in metadata}}


def predicted(desired: dict[str, Any], live: dict[str, Any], *, force: bool) -> Action | None:
    """Return what a plan says of one object; None if it is about its volumes, or about whose it is."""
    cluster = live["metadata"].get("labels", {}).get(CLUSTER_LABEL, "")
    context = PlanContext(cluster=cluster, namespace=live["metadata"]["namespace"], force_conflicts=force)
    actions = plan([desired], {ObjectRef.of(live): live}, context).actions
    main = [each for each in actions if isinstance(each, Apply | Blocked | Conflict | Recreate | Skip)]
    return main[0] if len(actions) == 1 and main else None


def outcome(answer: Any) -> str:
    """Return what the server says: taken, immutable, or refused for what no plan foresees."""
    if answer.code == 200:
        return "taken"
    assert answer.code == 422, answer.body
    return "immutable" if any(words in answer.body["message"] for words in IMMUTABLE) else "invalid"


@pytest.mark.parametrize("cases", [CASES, pytest.param(MANY_CASES, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stem", NEVER_CHANGE)
def test_cleared_objects_are_judged_as_the_server_does(real_server: ApiServer, stem: str, cases: int):
    """Whether an apply is taken, meets immutable fields, meets conflicts or restarts pods, is foreseen."""
    path = next(file for file in FILES if file.stem == stem)
    namespace = real_server.new_namespace()
    desired = json.loads(json.dumps(recorded(path)[0]).replace('"streaming"', json.dumps(namespace)))
    desired["metadata"].pop("ownerReferences", None)
    if stem == "configmap":
        desired["immutable"] = True
    objects, random = Objects(real_server, namespace, desired), Random(stem)
    wrong: list[str] = []
    number = 0
    while objects.judged < cases and number < cases:
        number += 1
        live = objects.cleared(f"o{number}", random)
        for _ in range(12):
            wanted = changed(named(desired, f"o{number}"), stem, random)
            if objects.is_valid(wanted):
                wrong += check(objects, wanted, live)

    assert wrong == [], "\n\n".join(wrong[:8]) + f"\n{len(wrong)} of {objects.tally}"
    assert objects.judged >= cases
    assert min(objects.tally[each] for each in ("taken", "immutable", "conflict")) >= ENOUGH, objects.tally


def check(objects: Objects, wanted: dict[str, Any], live: dict[str, Any]) -> list[str]:
    """Return what a plan foresees otherwise than it comes."""
    name, options = live["metadata"]["name"], {"fieldManager": "chronik-operator", "dryRun": "All"}
    action = predicted(wanted, live, force=True)
    if action is None or (isinstance(action, Apply) and action.clearing):
        return []
    forced = objects.call("PATCH", name, wanted, force=True, **options)
    came = outcome(forced)
    _, removal = foreign_keys(wanted, live)
    if removal and came == "taken":  # which goes first, and then is what is refused
        came = outcome(objects.call("PATCH", name, removal, patch="merge", dryRun="All"))
    objects.count(came)
    if came == "invalid":
        return []
    foreseen = "immutable" if isinstance(action, Blocked | Recreate) else "taken"
    if came != foreseen:
        said = forced.body.get("message")
        return [f"{foreseen} foreseen, {came}: {said}\n{json.dumps(wanted)}\n{json.dumps(live)}"]
    if came == "immutable":
        return []
    assert isinstance(action, Apply), action
    return [*_restarts(action, live, forced.body), *_conflicts(objects, wanted, live)]


def _restarts(action: Apply, live: dict[str, Any], after: dict[str, Any]) -> list[str]:
    before, then = (each.get("spec", {}).get("template") for each in (live, after))
    if bool(action.restarts) == (before != then):
        return []
    return [f"restarts foreseen: {action.restarts}, template: {json.dumps(before)}\n{json.dumps(then)}"]


def _conflicts(objects: Objects, wanted: dict[str, Any], live: dict[str, Any]) -> list[str]:
    action = predicted(wanted, live, force=False)
    foreseen = {(owner.path, owner.manager) for owner in action.owners} if isinstance(action, Conflict) else set()
    options = {"fieldManager": "chronik-operator", "dryRun": "All"}
    answer = objects.call("PATCH", live["metadata"]["name"], wanted, **options)
    causes = answer.body["details"]["causes"] if answer.code == 409 else ()
    came = {(cause["field"], cause["message"].split('"')[1]) for cause in causes}
    if came:
        objects.count("conflict")
    return [] if came == foreseen else [f"conflicts foreseen: {foreseen - came}, met: {came - foreseen}"]
