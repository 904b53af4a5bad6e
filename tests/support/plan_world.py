"""A namespace in memory that plans are carried out on: what `apply` does to a server, done to field models.

`test_plan` uses it to follow a cluster over several passes without a server. No controllers run here; a test plays them
by hand (`scale`, say).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from support.ssa.field_model import KINDS, FieldModel

from chronik.manifest import ObjectRef
from chronik.plan.actions import Apply, Create, Deferred, GrowClaim, Obstacle, Prune, Recreate, Skip, TransferOwnership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chronik.plan.actions import Action, Plan

Object = dict[str, Any]


class World:
    """Live objects by reference; `counts` lists every replica count that workloads ever had, by name.

    Claims are the test's own; `grown` says which size they were given, by name.
    """

    def __init__(self) -> None:
        self.models: dict[ObjectRef, FieldModel] = {}
        self.counts: dict[str, list[int]] = {}
        self.grown: dict[str, str] = {}
        self._serial = 0

    @property
    def observed(self) -> dict[ObjectRef, Object]:
        """What a list of all kinds would return."""
        return {ref: orjson.loads(orjson.dumps(model.live)) for ref, model in self.models.items()}

    def carry_out(self, plan: Plan) -> list[Action]:
        """Carry out what a plan writes, and return it."""
        actions = writes(plan)
        for action in actions:
            self.carry_out_one(action)
        return actions

    def apply(self, manifests: Iterable[Object], manager: str = "chronik-operator") -> None:
        """Apply manifests as somebody."""
        for manifest in manifests:
            self._apply(manifest, manager, force=True)

    def edit(self, ref: ObjectRef, change: Object, manager: str, subresource: str = "") -> None:
        """Merge a change into a live object, as somebody."""
        model = self.models[ref]
        model.edit(merged(model.live, change), manager, subresource)
        self._written(ref)

    def scale(self, ref: ObjectRef, replicas: int) -> None:
        """Do what an autoscaler does."""
        self.edit(ref, {"spec": {"replicas": replicas}}, "kube-controller-manager", "scale")

    def carry_out_one(self, action: Action) -> None:
        """Do what one action says, and check that it holds for the object that is there."""
        for write in self.writes_of(action):
            write()

    def writes_of(self, action: Action) -> Iterator[Callable[[], None]]:
        """Yield what an action sends to the server, one write after the other: chronik may be cut off in between."""
        match action:
            case Create(manifest=manifest):
                assert ObjectRef.of(manifest) not in self.models
                yield partial(self._apply, manifest, "chronik-operator", force=False)
            case Apply(manifest=manifest, force=force):
                assert self.models[action.ref].live["metadata"]["uid"] == action.uid
                if action.clearing:
                    yield partial(self.edit, action.ref, action.clearing, "chronik-operator")
                yield partial(self._apply, manifest, "chronik-operator", force=force)
            case TransferOwnership(manifest=manifest, manager=manager, force=force):
                yield partial(self._apply, manifest, manager, force=force)
            case Recreate(manifest=manifest):
                assert self.models[action.ref].live["metadata"]["uid"] == action.uid
                yield partial(self.models.pop, action.ref)
                yield partial(self._apply, manifest, "chronik-operator", force=False)
            case Prune():
                assert self.models[action.ref].live["metadata"]["uid"] == action.uid
                yield partial(self.models.pop, action.ref)
            case GrowClaim(ref=ref, storage=storage):
                yield partial(self.grown.__setitem__, ref.name, storage)
            case _:
                raise AssertionError(action)

    def _apply(self, manifest: Object, manager: str, *, force: bool) -> None:
        ref = ObjectRef.of(manifest)
        if ref not in self.models:
            assert (manifest["apiVersion"], manifest["kind"]) in KINDS
            self.models[ref] = FieldModel(manifest)
        self.models[ref].apply(manifest, manager, force=force)
        self._written(ref)

    def _written(self, ref: ObjectRef) -> None:
        self._serial += 1
        live = self.models[ref].live
        live["metadata"].setdefault("uid", f"uid-{self._serial}")
        live["metadata"]["resourceVersion"] = str(self._serial)
        if "replicas" in live.get("spec", {}):
            self.counts.setdefault(ref.name, []).append(live["spec"]["replicas"])


def writes(plan: Plan) -> list[Action]:
    """Return the actions that send something to the cluster; none if the cluster is as it should be."""
    return [action for action in plan.actions if not isinstance(action, Skip | Deferred | Obstacle)]


def merged(value: Any, change: Any) -> Any:
    """Return a value after a JSON merge patch (RFC 7386)."""
    if not isinstance(change, dict):
        return change
    base = value if isinstance(value, dict) else {}
    result = base | {key: merged(base.get(key), part) for key, part in change.items()}
    return {key: part for key, part in result.items() if part is not None}
