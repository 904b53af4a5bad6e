"""StatefulSets that are created anew around their pods: whatever we are cut off from, no pod notices."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.plan_world import World, merged, writes

from chronik.manifest import ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import KEPT_MANAGER, REPLICAS_MANAGER, ROLLOUT_MANAGER, Apply, Recreate, TransferOwnership
from chronik.plan.drift import applied_fields
from chronik.plan.planner import HUMAN_MANAGERS, PlanContext, plan
from chronik.plan.rotation import ANNOTATION, ROTATION_MANAGER
from chronik.plan.volumes.recreating import HANDOVER_ANNOTATION
from chronik.rollout.facts import REPAIRS_ANNOTATION

CONTEXT = PlanContext(cluster="c", namespace="n", owner_uid="u", prune=True, take_back_managers=HUMAN_MANAGERS)
INGEST = ObjectRef("StatefulSet", "n", "c-ingest")
RESTARTED = "kubectl.kubernetes.io/restartedAt"
AUTOSCALED = {"ingestNodes": {"minReplicas": 4, "maxReplicas": 9, "targetCpuUtilizationPercentage": 70}}
LARGER = {"storage": {"backend": "local", "size": "20Gi"}}


def rendered(**spec):
    """Return the manifests of an autoscaled cluster."""
    base = {
        "storage": {"backend": "local", "size": "10Gi"},
        "autoscaling": AUTOSCALED,
        "metastore": {
            "database": "postgres",
            "connection": {"host": "db", "database": "chronik", "credentialsSecret": "s"},
        },
    }
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c", "namespace": "n"},
        "spec": merged(base, spec),
    }
    return offline.render_clusters([replace(offline.validator().validate(document).cluster, uid="u")])


@pytest.fixture
def world():
    """Return a world in which others have set things on a running cluster: people, an autoscaler, and ourselves."""
    found = World()
    found.apply(rendered())
    settle(found, rendered())
    found.scale(INGEST, 6)
    annotations = {RESTARTED: "2026-01-01T00:00:00Z", "example.com/seen": "by people"}
    found.edit(INGEST, {"spec": {"template": {"metadata": {"annotations": annotations}}}}, "kubectl-rollout")
    rotated = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: "7"}}}}}
    identity = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "c-ingest", "namespace": "n"}}
    found.apply([identity | rotated], ROTATION_MANAGER)
    return found


def settle(world, desired, context=CONTEXT):
    """Carry plans out until one has nothing to do."""
    for _ in range(9):
        if not world.carry_out(plan(desired, world.observed, context)):
            return
    raise AssertionError("still something to do")


def cut_off(world, desired, after, context=CONTEXT):
    """Carry a plan out, but only its first writes of ingest nodes; return what their pods see after each of these."""
    seen = []
    for action in [each for each in writes(plan(desired, world.observed, context)) if each.ref == INGEST][:after]:
        world.carry_out_one(action)
        seen.append(world.observed[INGEST]["spec"]["template"])
    return seen


def about_ingest(desired, world):
    """Return what a plan says of the StatefulSet of ingest nodes."""
    return [each for each in plan(desired, world.observed, CONTEXT).actions if each.ref == INGEST]


def owners(live):
    """Return what each field manager has applied."""
    managers = {entry["manager"] for entry in live["metadata"]["managedFields"]}
    return {manager: applied_fields(live, manager) for manager in managers}


@pytest.mark.parametrize("second", range(5))
@pytest.mark.parametrize("first", range(6))
def test_what_others_have_set_outlives_a_cut(world, first, second):
    """Wherever we are cut off, twice, pods see the same template all the time, and all is whose it was in the end."""
    desired = rendered(**LARGER)
    template, world.counts = world.observed[INGEST]["spec"]["template"], {}
    seen = [*cut_off(world, desired, first), *cut_off(world, desired, second)]
    settle(world, desired)
    live = world.observed[INGEST]
    held = {RESTARTED: KEPT_MANAGER, "example.com/seen": KEPT_MANAGER, ANNOTATION: ROTATION_MANAGER}

    assert all(each == template for each in seen)
    assert live["spec"]["template"] == template
    assert set(world.counts["c-ingest"]) == {6}
    assert HANDOVER_ANNOTATION not in live["metadata"].get("annotations", {})
    assert {name: manager for manager in owners(live) for name in held if _annotates(live, manager, name)} == held
    assert REPLICAS_MANAGER in owners(live)


def _annotates(live, manager, name):
    fields = applied_fields(live, manager) or {}
    template = fields.get("f:spec", {}).get("f:template", {})
    return f"f:{name}" in template.get("f:metadata", {}).get("f:annotations", {})


@pytest.mark.parametrize("after", range(4))
def test_what_pods_bear_outlives_a_cut(world, after):
    """If the StatefulSet is gone, what its pods bear comes back, though we are cut off once more on the way there."""
    template = world.observed[INGEST]["spec"]["template"]
    borne = {RESTARTED: "2026-01-01T00:00:00Z", ANNOTATION: "7"}
    pod = {"kind": "Pod", "metadata": {"name": "c-ingest-5", "namespace": "n", "annotations": borne}}
    context = replace(CONTEXT, pods=[pod])
    del world.models[INGEST]
    seen = cut_off(world, rendered(), after, context)
    settle(world, rendered(), context)
    annotations = {key: value for key, value in template["metadata"]["annotations"].items() if "example" not in key}
    expected = template | {"metadata": template["metadata"] | {"annotations": annotations}}

    assert all(each == expected for each in seen)
    assert world.observed[INGEST]["spec"]["template"] == expected


def test_a_create_says_what_is_whose(world):
    """The note is in the write that makes fields of others ours, and says which are whose."""
    anew, *_ = about_ingest(rendered(**LARGER), world)
    note = json.loads(anew.manifest["metadata"]["annotations"][HANDOVER_ANNOTATION])

    assert note.keys() == {KEPT_MANAGER, ROTATION_MANAGER}
    annotations = note[ROTATION_MANAGER]["f:spec"]["f:template"]["f:metadata"]["f:annotations"]
    assert annotations.keys() - {"."} == {f"f:{ANNOTATION}"}


def test_nothing_of_others_needs_no_note():
    """A StatefulSet on which nobody has set anything is created as it is rendered."""
    world = World()
    world.apply(rendered(autoscaling=None))
    (anew,) = about_ingest(rendered(autoscaling=None, **LARGER), world)

    assert isinstance(anew, Recreate)
    assert "annotations" not in anew.manifest["metadata"]


@pytest.mark.parametrize(
    "note",
    [
        "",
        "no JSON",
        "[]",
        '{"chronik-operator-kept": 5}',
        '{"chronik-operator-kept": {"f:spec": []}}',
        '{"kubectl": {"f:spec": {"f:template": {}}}}',
        '{"chronik-operator": {"f:spec": {"f:template": {}}}}',
        "[" * 100_000,
    ],
)
def test_a_note_of_somebody_else_is_nothing(world, note):
    """What is no note of ours hands nothing over, and breaks nothing."""
    settle(world, rendered())
    world.edit(INGEST, {"metadata": {"annotations": {HANDOVER_ANNOTATION: note}}}, "kubectl-annotate")

    assert writes(plan(rendered(), world.observed, CONTEXT)) == []


def test_parts_are_handed_over_before_anything_else(world):
    """After a cut, others first get back what is theirs; the apply that follows knows, and says what restarts pods."""
    cut_off(world, rendered(**LARGER), 1)
    *handovers, apply = about_ingest(rendered(**LARGER, podLabels={"team": "x"}), world)

    assert isinstance(apply, Apply)
    assert [change.path for change in apply.restarts] == ["spec.template.metadata.labels.team"]
    assert all(isinstance(each, TransferOwnership) for each in handovers)
    assert {each.manager for each in handovers} == {KEPT_MANAGER, ROTATION_MANAGER, REPLICAS_MANAGER}


SET_BY_PEOPLE = {
    "metadata": {"labels": {"example.com/team": "x"}, "annotations": {"example.com/note": "y"}},
    "spec": {"minReadySeconds": 7, "revisionHistoryLimit": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}},
}


@pytest.mark.parametrize("after", range(5))
def test_what_people_set_beside_the_template_stays(world, after):
    """Labels, annotations and settings of a StatefulSet that people have made are as before."""
    world.edit(INGEST, SET_BY_PEOPLE, "kubectl-edit")
    before, desired = world.observed[INGEST], rendered(**LARGER)
    cut_off(world, desired, after)
    settle(world, desired)
    live = world.observed[INGEST]

    assert live["metadata"]["uid"] != before["metadata"]["uid"]
    assert {name: live["metadata"][name] for name in ("labels", "annotations")} == {
        name: before["metadata"][name] for name in ("labels", "annotations")
    }
    kept = {name: value for name, value in before["spec"].items() if name != "volumeClaimTemplates"}
    assert live["spec"] == kept | {"volumeClaimTemplates": live["spec"]["volumeClaimTemplates"]}
    settle(world, rendered(**LARGER, podLabels={"team": "x"}))
    assert world.observed[INGEST]["spec"]["minReadySeconds"] == 7


def test_a_hold_does_not_outlive_its_roll(world):
    """What an operator that is gone held of a StatefulSet is held no longer once that was created anew."""
    held = {"metadata": {"annotations": {REPAIRS_ANNOTATION: "true"}}, "spec": {"updateStrategy": {"type": "OnDelete"}}}
    identity = {"apiVersion": "apps/v1", "kind": "StatefulSet"}
    name = {"name": "c-ingest", "namespace": "n"}
    world.apply([identity | held | {"metadata": held["metadata"] | name}], ROLLOUT_MANAGER)
    settle(world, rendered(**LARGER))
    live = world.observed[INGEST]

    assert ROLLOUT_MANAGER not in owners(live)
    assert live["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert REPAIRS_ANNOTATION not in live["metadata"].get("annotations", {})


def test_a_note_is_gone_with_the_next_apply_of_whoever_knows_of_none(world):
    """An earlier chronik, which knows of no note, takes it away as any field of its own that is not wanted."""
    cut_off(world, rendered(**LARGER), 1)
    assert HANDOVER_ANNOTATION in world.observed[INGEST]["metadata"]["annotations"]
    world.apply([each for each in rendered(**LARGER) if ObjectRef.of(each) == INGEST])

    assert HANDOVER_ANNOTATION not in world.observed[INGEST]["metadata"].get("annotations", {})
    settle(world, rendered(**LARGER))
