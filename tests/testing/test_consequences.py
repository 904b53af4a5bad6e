"""What a change between a snapshot and a manifest would do to pods: what the planner decides about a live object."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ssa.field_model import FieldModel, mutated

from chronik.manifest import CLUSTER_LABEL, ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import Apply, Recreate
from chronik.plan.planner import PlanContext, plan
from chronik.report.diff import restart_text
from chronik.testing.consequences import as_applied, consequences

ROOT = Path(__file__).parents[2]
MANIFESTS = offline.render_clusters(offline.load_clusters([str(ROOT / "examples")])[0])
BUILT_IN = [each for each in MANIFESTS if "monitoring.coreos.com" not in each["apiVersion"]]  # whose types are known
WORKLOADS = [each for each in MANIFESTS if each["kind"] in {"StatefulSet", "Deployment"}]


def name(manifest):
    """Return what a manifest is called in the name of a test."""
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


@pytest.fixture
def controller():
    """Return the StatefulSet of production's controllers."""
    [found] = [deepcopy(each) for each in WORKLOADS if name(each) == "StatefulSet-production-controller"]
    return found


@pytest.mark.parametrize("manifest", BUILT_IN, ids=name)
def test_ownership_is_what_the_server_would_record(manifest):
    """A snapshot's fields are owned as after an apply: the same lists by the same keys, the same values as a whole."""
    model = FieldModel(manifest)
    model.apply(manifest)
    [theirs], [ours] = (each["metadata"]["managedFields"] for each in (model.live, as_applied(manifest)))

    assert ours["fieldsV1"] == theirs["fieldsV1"]


def from_server(old, new):
    """Return the restarts that the planner foresees for an object that was really applied, or None for an obstacle."""
    model = FieldModel(old)
    model.apply(old)
    model.live["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    cluster = old["metadata"]["labels"][CLUSTER_LABEL]
    found = plan([new], {ObjectRef.of(new): model.live}, PlanContext(cluster=cluster, namespace="default")).actions
    return {change.path for each in found if isinstance(each, Apply | Recreate) for change in each.restarts}


@given(st.sampled_from(WORKLOADS), st.integers(0, 2**32), st.integers(1, 3))
def test_restarts_are_those_of_a_live_object(old, seed, changes):
    """For any change to a workload, pods restart if and only if they would on a server that has the old one."""
    random = Random(seed)
    new = old
    for _ in range(20):  # most changes are elsewhere
        new = {**old, "spec": mutated({**old, "metadata": {}}, random, changes)["spec"]}
        if isinstance(new["spec"], dict) and new["spec"].get("template") != old["spec"]["template"]:
            break
    restarts, notes = consequences(old, new)

    assert notes or {change.path for change in restarts or ()} == from_server(old, new)


def changed(manifest, path, value):
    """Return a copy of a manifest with another value in a place, or without it."""
    new = deepcopy(manifest)
    *way, last = path
    place = new
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return new


POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)
MOUNT = {"name": "data", "mountPath": "/b", "subPath": "b"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ((*POD, "hostPID"), True, "its pods restart: spec.hostPID"),
        ((*CONTAINER, "image"), "x:1", 'its pods restart: spec.containers[name="controller"].image'),
        (
            (*CONTAINER, "env", 0, "value"),
            "x",
            'its pods restart: spec.containers[name="controller"].env[name="CHRONIK_ROLE"].value',
        ),
        (
            (*CONTAINER, "ports", 0, "name"),
            "x",
            'its pods restart: spec.containers[name="controller"].ports[containerPort=9090,protocol="TCP"].name',
        ),
        ((*POD, "tolerations"), None, "its pods restart: spec.tolerations"),
        ((*POD, "nodeSelector", "a"), "b", "its pods restart: spec.nodeSelector.a"),
        (
            ("spec", "template", "metadata", "annotations", "chronik.stream/config-hash"),
            "x",
            "its pods restart: the configuration that they read changes",
        ),
        ((*CONTAINER, "resources", "requests", "cpu"), "1000m", None),
        (("spec", "replicas"), 7, None),
        (("metadata", "labels", "a"), "b", None),
        (("spec", "minReadySeconds"), 3, None),
    ],
)
def test_restarts(controller, path, value, expected):
    """The fields that restart pods are named as `chronik diff` names them; other changes restart none."""
    restarts, notes = consequences(controller, changed(controller, path, value))

    assert notes == ()
    assert (restart_text(restarts) if restarts else None) == expected


def test_one_of_two_mounts(controller):
    """Two mounts of one volume have one name; a change of the first is no less a change."""
    mounts = controller["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    first = next(number for number, mount in enumerate(mounts) if mount["name"] == "data")
    mounts.append(MOUNT)

    restarts, _ = consequences(controller, changed(controller, (*CONTAINER, "volumeMounts", first, "readOnly"), True))

    place = f'volumeMounts[mountPath="{mounts[first]["mountPath"]}"].readOnly'
    assert [change.path for change in restarts] == [f'spec.template.spec.containers[name="controller"].{place}']


STORAGE = ("spec", "volumeClaimTemplates", 0, "spec", "resources", "requests", "storage")


@pytest.mark.parametrize(
    ("path", "value", "restarts", "note"),
    [
        (("spec", "serviceName"), "x", None, "spec.serviceName cannot be changed. `kubectl delete statefulset"),
        (
            STORAGE,
            "1Gi",
            (),
            "volumes 'data' would have to shrink from 200Gi to 1Gi, and volumes never shrink. Ask for",
        ),
        (STORAGE, "1Ti", (), "its volumes grow; pods keep running"),
        (("spec", "template"), {"spec": {"containers": "x"}}, None, "Whether its pods restart cannot be told"),
    ],
)
def test_what_an_apply_cannot_do(controller, path, value, restarts, note):
    """What cannot be changed in place, or not at all, is said in the planner's words."""
    found = consequences(controller, changed(controller, path, value))

    assert found.restarts == restarts
    assert [each[: len(note)] for each in found.notes] == [note]


def test_volumes_grow_and_pods_restart(controller):
    """Where an object is created anew and its pods restart as well, they are not said to keep running."""
    new = changed(changed(controller, STORAGE, "1Ti"), (*POD, "hostPID"), True)

    restarts, notes = consequences(controller, new)

    assert [change.path for change in restarts] == ["spec.template.spec.hostPID"]
    assert notes == ("its volumes grow",)


def test_other_kinds():
    """An object without pods restarts none, and still says what is special about it; a foreign kind says nothing."""
    binding = next(each for each in MANIFESTS if each["kind"] == "RoleBinding")
    found = next(each for each in MANIFESTS if each["kind"] == "ConfigMap")
    config = {key: part for key, part in found.items() if key != "immutable"}

    assert consequences(config, changed(config, ("data",), {"a": "b"})) == (None, ())
    assert consequences(binding, changed(binding, ("roleRef", "name"), "x")) == (
        None,
        ("roleRef.name cannot be changed; a RoleBinding is safe to create anew",),
    )
    assert consequences({**config, "kind": "Thing"}, {**config, "kind": "Thing", "data": {}}) == (None, ())


def test_operator_is_no_cluster(controller):
    """Whose labels an object has makes no difference: the operator's own Deployment is looked at, too."""
    del controller["metadata"]["labels"]

    restarts, _ = consequences(controller, changed(controller, (*POD, "hostPID"), True))

    assert [change.path for change in restarts] == ["spec.template.spec.hostPID"]
