"""A plan goes by whatever the checks of a server's answers let through, however an object was garbled."""

from __future__ import annotations

import copy
import random
import traceback

import pytest
from support.garbler import garbled
from support.recorded import FILES, recorded

from chronik.apply.executor import _flapping
from chronik.errors import ChronikError
from chronik.kube.checks.answers import check_object
from chronik.kube.checks.shapes import ShapeError
from chronik.manifest import KIND_BY_NAME, ObjectRef
from chronik.plan.actions import Create
from chronik.plan.planner import PlanContext, plan

CLEARED = 0.5
"""How many objects have no record of who owns their fields, so that there is more to plan."""


@pytest.mark.parametrize(("seed", "count"), [(1, 250), pytest.param(2, 8000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_garbled_objects(path, seed, count):
    """What is garbled is refused by the check, or planned with: nothing else is raised."""
    chance = random.Random(seed)
    manifest, there = recorded(path)
    found, passed = set(), 0
    for _ in range(count):
        live = copy.deepcopy(there)
        live["metadata"].pop("ownerReferences", None)  # it is not about whose it is
        if chance.random() < CLEARED:
            del live["metadata"]["managedFields"]
        with_what = garbled(live, chance)
        try:
            seen = check_object(with_what, KIND_BY_NAME[manifest["kind"]])
        except ShapeError:
            continue
        passed += 1
        ref, cluster = ObjectRef.of(manifest), manifest["metadata"]["labels"]["app.kubernetes.io/instance"]
        for force in (False, True):
            context = PlanContext(cluster=cluster, namespace=ref.namespace, force_conflicts=force)
            try:
                plan([manifest], {ref: seen}, context)
                _flapping(Create(ref=ref, manifest=manifest), seen)
            except ChronikError:
                pass
            except Exception:  # noqa: BLE001  # whatever it is, it is what is looked for
                found.add("".join(traceback.format_exc().splitlines(keepends=True)[-4:]))

    assert found == set()
    assert passed > count / 10
