from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.plan_world import World, merged, writes

from chronik.manifest import KindName, ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import (
    KEPT_MANAGER,
    REPLICAS_MANAGER,
    ROLLOUT_MANAGER,
    Adopt,
    Apply,
    Blocked,
    Conflict,
    Create,
    Deferred,
    Foreign,
    GrowClaim,
    NotInstalled,
    Prune,
    Recreate,
    Skip,
    TransferOwnership,
    Wait,
)
from chronik.plan.changes import Change, Mask
from chronik.plan.drift import applied_fields, drift, walk
from chronik.plan.live import not_known
from chronik.plan.ownership import operated_by
from chronik.plan.planner import HUMAN_MANAGERS, PlanContext, left_over, plan

if TYPE_CHECKING:
    from random import Random

UID, OLD_UID = "11111111-aaaa", "22222222-bbbb"
NAMESPACE = "streaming"
OPERATOR = PlanContext(cluster="c", namespace=NAMESPACE, owner_uid=UID, prune=True, take_back_managers=HUMAN_MANAGERS)
CLI = PlanContext(cluster="c", namespace=NAMESPACE)
INGEST = ObjectRef("StatefulSet", NAMESPACE, "c-ingest")
CONTROLLER = ObjectRef("StatefulSet", NAMESPACE, "c-controller")
SEARCH = ObjectRef("Deployment", NAMESPACE, "c-search")
BINDING = ObjectRef("RoleBinding", NAMESPACE, "c-ingest")
SERVICE = ObjectRef("Service", NAMESPACE, "c-ingest")
HPA = ObjectRef("HorizontalPodAutoscaler", NAMESPACE, "c-ingest-hpa")
AUTOSCALED = {"ingestNodes": {"minReplicas": 4, "maxReplicas": 9, "targetCpuUtilizationPercentage": 70}}


def rendered(uid=UID, **spec):
    """Return the manifests of cluster `c`; without a uid, as the command line has them."""
    base = {
        "storage": {"backend": "local", "size": "10Gi"},
        "metastore": {
            "database": "postgres",
            "connection": {"host": "db", "database": "chronik", "credentialsSecret": "s"},
        },
    }
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c", "namespace": NAMESPACE},
        "spec": merged(base, spec),
    }
    cluster = offline.validator().validate(document).cluster
    return offline.render_clusters([replace(cluster, uid=uid)])


CONFIG = next(ref for ref in map(ObjectRef.of, rendered()) if ref.kind == "ConfigMap")


def running(**spec):
    """Return a world in which the operator has applied a cluster."""
    world = World()
    world.apply(rendered(**spec))
    return world


def decide(world, desired, context=OPERATOR):
    """Plan, and return the actions about each object, but for those that have nothing to do."""
    found = {}
    for action in plan(desired, world.observed, context).actions:
        if not isinstance(action, Skip) or action.why != "unchanged":
            found.setdefault(action.ref, []).append(action)
    return found


def settle(world, desired, context=OPERATOR, passes=4):
    """Carry plans out until one has nothing to do, and return everything that was done."""
    done = []
    for _ in range(passes):
        actions = world.carry_out(plan(desired, world.observed, context))
        if not actions:
            return done
        done += actions
    raise AssertionError(f"still something to do after {passes} passes: {actions}")


def kinds(actions):
    """Return the names of actions' classes."""
    return [type(action).__name__ for action in actions]


# --- create, apply, skip ----------------------------------------------------------------------------------------------


def test_a_new_cluster_is_created_in_stages():
    """What is not there is created, what others need first, in an order that does not depend on the input's."""
    desired = rendered(searchNodes=2, podDisruptionBudget={"maxUnavailable": 1}, autoscaling=AUTOSCALED)
    first = plan(desired, {}, OPERATOR)

    assert [stage.name for stage in first.stages] == ["rbac", "config", "network", "workloads", "disruption", "scaling"]
    assert {kind for stage in first.stages for step in stage.steps for kind in kinds(step.actions)} == {
        "Create",
        "TransferOwnership",
    }
    assert [step.ref for step in first.stages[3].steps] == [CONTROLLER, INGEST, SEARCH]
    assert plan(desired[::-1], {}, OPERATOR) == first


def test_an_unchanged_cluster_needs_nothing():
    """Right after everything was applied, nothing is written, and every object is reported as unchanged."""
    desired = rendered(searchNodes=2)
    again = plan(desired, running(searchNodes=2).observed, OPERATOR)

    assert (writes(again), again.obstacles) == ([], ())
    assert {(type(action), action.why) for action in again.actions} == {(Skip, "unchanged")}


def test_a_change_is_applied_with_its_fields():
    """A change to one field leads to one apply, which says what changes and that pods restart for it."""
    world = running()
    actions = decide(world, rendered(image={"ingest": "chronik/ingest:2"}))
    (apply,) = actions[INGEST]

    image = Change('spec.template.spec.containers[name="ingest"].image', "chronik/ingest:latest", "chronik/ingest:2")
    assert actions.keys() == {INGEST}
    assert isinstance(apply, Apply)
    assert apply.changes == apply.restarts == (image,)
    assert (apply.force, apply.takes) == (False, ())
    assert apply.uid == world.observed[INGEST]["metadata"]["uid"]


def test_a_change_outside_the_template_restarts_nothing():
    """Another replica count is applied without restarting anything."""
    (apply,) = decide(running(), rendered(ingestNodes=5))[INGEST]

    assert apply.changes == (Change("spec.replicas", 3, 5),)
    assert apply.restarts == ()


def test_drift_is_repaired():
    """A label that somebody removed is applied again, without force."""
    world = running()
    world.edit(CONFIG, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}, "kubectl-label")
    done = settle(world, rendered())

    assert kinds(done) == ["Apply"]
    assert done[0].changes == (Change("metadata.labels[app.kubernetes.io/managed-by]", None, "chronik-operator"),)


def test_what_an_apply_did_not_help_is_left_alone():
    """A difference that came back after an apply is skipped as long as neither object nor manifest change."""
    world, desired = running(), rendered()
    model = world.models[CONFIG]
    model.tamper(merged(model.live, {"metadata": {"labels": {"app.kubernetes.io/name": "webhook"}}}))
    live, manifest = world.observed[CONFIG], next(each for each in desired if each["kind"] == "ConfigMap")
    memo = left_over(manifest, live, walk(manifest, live, applied_fields(live)))
    (before,) = decide(world, desired)[CONFIG]
    (after,) = decide(world, desired, replace(OPERATOR, flapping={memo}))[CONFIG]

    assert isinstance(before, Apply)
    assert (type(after), after.why, after.changes) == (Skip, "settled", before.changes)


@settings(deadline=None, max_examples=examples(60))
@given(st.randoms(use_true_random=False))
def test_plans_converge(random):
    """From any cluster to any other, whatever people edited in between, at most three passes lead to nothing to do."""
    world = running(**a_spec(random))
    for _ in range(random.choice([0, 1, 3])):
        ref = random.choice(sorted(world.models))
        edit = random.choice(EDITS)
        if edit(world.models[ref].live):
            world.edit(ref, edit(world.models[ref].live), random.choice(["kubectl-edit", "kubectl", "k9s"]))
    spec = a_spec(random)
    settle(world, rendered(**spec), passes=4)

    observed, desired = world.observed, rendered(**spec)
    for manifest in desired:
        live = observed[ObjectRef.of(manifest)]
        assert walk(manifest, live, applied_fields(live)) == []
    assert observed.keys() == {ObjectRef.of(manifest) for manifest in desired}


EDITS = (
    lambda live: {"metadata": {"labels": {"chronik.stream/component": "x"}}} if live["kind"] != "ConfigMap" else None,
    lambda _: {"metadata": {"annotations": {"note": "x"}}},
    lambda live: {"spec": {"replicas": 7}} if live["kind"] in {"StatefulSet", "Deployment"} else None,
    lambda live: {"spec": {"publishNotReadyAddresses": None}} if live["kind"] == "Service" else None,
    lambda live: (
        {"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}} if "template" in live.get("spec", {}) else None
    ),
    lambda live: {"spec": {"maxReplicas": 99}} if live["kind"] == "HorizontalPodAutoscaler" else None,
)


def a_spec(random: Random):
    """Return one of many specs."""
    return {
        "ingestNodes": random.choice([1, 3, 5]),
        "searchNodes": random.choice([0, 2]),
        "image": {"ingest": random.choice(["a:1", "a:2"])},
        "nodeSelector": random.choice([{}, {"disk": "ssd"}, {"disk": "ssd", "zone": "a"}]),
        "tolerations": random.choice([[], [{"key": "a", "operator": "Exists"}]]),
        "podLabels": random.choice([{}, {"team": "x"}]),
        "autoscaling": random.choice([None, AUTOSCALED]),
        "podDisruptionBudget": random.choice([None, {"maxUnavailable": 1}, {"minAvailable": "50%"}]),
        "resources": random.choice([None, {"ingest": {"cpu": "0.5", "memory": "1024Mi"}}]),
    }


# --- whose is it ------------------------------------------------------------------------------------------------------


def with_owner(uid, kind="ChronikCluster", name="c"):
    """Return metadata with a controller."""
    group = "chronik.stream/v1alpha1" if kind == "ChronikCluster" else "example.com/v1"
    owner = {"apiVersion": group, "kind": kind, "name": name, "uid": uid, "controller": True}
    return {"ownerReferences": [owner]}


@pytest.mark.parametrize(
    ("metadata", "context", "expected"),
    [
        ({"labels": None}, OPERATOR, Foreign),
        ({"labels": None}, CLI, Foreign),
        ({"labels": {"chronik.stream/cluster": "other"}}, CLI, Foreign),
        (with_owner("x", "Widget"), OPERATOR, Foreign),
        (with_owner("x", "Widget"), CLI, Foreign),
        (with_owner(UID), CLI, Foreign),
        (with_owner(OLD_UID, name="other"), OPERATOR, Foreign),
        (with_owner(OLD_UID), OPERATOR, Wait),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, CLI, Wait),
        (with_owner(UID) | {"deletionTimestamp": "2026-01-01T00:00:00Z"}, OPERATOR, Wait),
        ({}, OPERATOR, Adopt),
        ({}, CLI, Skip),
        (with_owner(UID) | {"labels": None}, OPERATOR, Apply),
    ],
)
def test_whose_object_it_is(metadata, context, expected):
    """What is somebody else's is never touched, what is about to go is waited for, and what nobody owns is adopted."""
    world = World()
    world.apply(rendered(uid=None))
    live = world.observed
    live[CONFIG] = merged(live[CONFIG], {"metadata": metadata})
    if metadata.get("labels", {}) is None:
        live[CONFIG]["metadata"]["managedFields"] = []
    actions = plan(rendered(uid=context.owner_uid), live, context).actions
    (action,) = [action for action in actions if action.ref == CONFIG]

    assert type(action) is expected, action.reason


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ([{}], None),
        ([with_owner(UID)], UID),
        ([{}, with_owner(UID), with_owner(OLD_UID, name="other")], UID),
        ([with_owner("x", "Widget")], None),
        ([{"ownerReferences": [with_owner(UID)["ownerReferences"][0] | {"controller": False}]}], None),
        ([with_owner(UID) | {"deletionTimestamp": "2026-01-01T00:00:00Z"}], None),
        (
            [
                with_owner(UID) | {"creationTimestamp": "2026-01-02T00:00:00Z"},
                with_owner(OLD_UID) | {"creationTimestamp": "2026-01-01T00:00:00Z"},
            ],
            UID,
        ),
    ],
    ids=["nobody", "operator", "mixed", "other kind", "no controller", "leaving", "two lives"],
)
def test_who_operates(metadata, found):
    """An operator keeps a cluster if objects have its ChronikCluster for controller; the newest tells which."""
    assert operated_by([{"metadata": each} for each in metadata], "c") == found


def test_hints_fit_who_asks():
    """What to do about an obstacle is, for an operator's users, something that can be done with an operator."""
    hints = {}
    for context in (CLI, OPERATOR):
        world = running(uid=context.owner_uid)
        live = world.observed
        live[CONFIG] = merged(live[CONFIG], {"metadata": {"labels": None, "ownerReferences": None}})
        live[CONFIG]["metadata"]["managedFields"] = []
        desired = rendered(uid=context.owner_uid, storage={"backend": "local", "storageClass": "other"})
        actions = plan(desired, live, context).obstacles
        hints[context is CLI] = " ".join(action.hint for action in actions)

    assert "run `chronik apply`" in hints[True]
    assert "and apply" in hints[True] or "apply then" in hints[True]
    assert "the operator makes its own" in hints[False]
    assert "the operator then creates it anew" in hints[False]
    assert "apply" not in hints[False]


def test_adoption_adds_the_owner():
    """What the command line applied gets its owner reference, and with nothing else to change no pod restarts."""
    world = World()
    world.apply(rendered(uid=None))
    (adopt,) = decide(world, rendered())[INGEST]

    assert isinstance(adopt, Adopt)
    assert [change.path for change in adopt.changes] == ["metadata.ownerReferences"]
    assert adopt.restarts == ()
    settle(world, rendered())


# --- conflicts --------------------------------------------------------------------------------------------------------


def edited(manager, change=None):
    """Return a running cluster in which somebody set the image of the ingest nodes."""
    world = running()
    template = {"spec": {"containers": deepcopy(world.observed[INGEST]["spec"]["template"]["spec"]["containers"])}}
    template["spec"]["containers"][0]["image"] = "mine:1"
    world.edit(INGEST, change or {"spec": {"template": template}}, manager)
    return world


IMAGE = '.spec.template.spec.containers[name="ingest"].image'


def test_fields_of_other_managers_are_a_conflict():
    """A field that another controller owns is not taken: the plan names field and owner, and what to do."""
    (conflict,) = decide(edited("vertical-pod-autoscaler"), rendered())[INGEST]

    assert isinstance(conflict, Conflict)
    assert [(owner.path, owner.manager, owner.operation) for owner in conflict.owners] == [
        (IMAGE, "vertical-pod-autoscaler", "Update")
    ]
    assert conflict.changes[0].owner == "vertical-pod-autoscaler"
    assert "have vertical-pod-autoscaler give it up" in conflict.hint


@pytest.mark.parametrize(
    ("manager", "context"),
    [
        ("kubectl-edit", OPERATOR),
        ("k9s", OPERATOR),
        ("chronik-operator", CLI),
        ("vertical-pod-autoscaler", replace(CLI, force_conflicts=True)),
    ],
)
def test_fields_are_taken_by_force_where_allowed(manager, context):
    """The operator takes fields from people, and anybody's are taken by request; the plan says which and whose."""
    world = World()
    world.apply(rendered(uid=context.owner_uid))
    world.edit(INGEST, edited(manager).observed[INGEST] | {"metadata": {}}, manager)
    (apply,) = decide(world, rendered(uid=context.owner_uid), context)[INGEST]

    assert isinstance(apply, Apply)
    assert apply.force
    assert [(owner.path, owner.manager) for owner in apply.takes] == [(IMAGE, manager)]
    assert apply.restarts


def test_untracked_objects_are_taken_by_force():
    """Of an object without any managers, the operator takes what differs from whoever wrote it before."""
    world = running()
    live = world.models[SERVICE].live
    live["metadata"]["managedFields"] = []
    live["spec"]["publishNotReadyAddresses"] = False
    (apply,) = decide(world, rendered())[SERVICE]

    assert apply.force
    assert [owner.manager for owner in apply.takes] == ["before-first-apply"]


def test_the_command_line_takes_nothing_from_people():
    """Without being told to, `chronik apply` leaves what a person set, and says so."""
    world = World()
    world.apply(rendered(uid=None))
    world.edit(INGEST, {"spec": {"replicas": 5}}, "kubectl-edit")

    assert kinds(decide(world, rendered(uid=None), CLI)[INGEST]) == ["Conflict"]


# --- replica counts ---------------------------------------------------------------------------------------------------


def test_autoscaling_from_the_start():
    """A workload that is autoscaled from the start begins with the autoscaler's minimum, held by its own manager."""
    desired = rendered(autoscaling=AUTOSCALED)
    world = World()
    done = world.carry_out(plan(desired, {}, OPERATOR))
    handover = next(action for action in done if isinstance(action, TransferOwnership))

    assert handover.manager == REPLICAS_MANAGER
    assert handover.manifest == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "c-ingest", "namespace": NAMESPACE},
        "spec": {"replicas": 4},
    }
    assert world.counts["c-ingest"] == [1, 4]
    assert not writes(plan(desired, world.observed, OPERATOR))


def test_autoscaling_is_turned_on_without_a_dip():
    """The count stays while the main manager lets go; once the autoscaler acts, nothing of ours holds it any more."""
    world, desired = running(ingestNodes=5), rendered(ingestNodes=5, autoscaling=AUTOSCALED)
    done = settle(world, desired)

    assert kinds(done) == ["TransferOwnership", "Apply", "Create"]
    assert set(world.counts["c-ingest"]) == {5}
    world.scale(INGEST, 7)
    assert settle(world, desired) == []
    assert count_owners(world) == ["kube-controller-manager"]
    assert set(world.counts["c-ingest"]) == {5, 7}


def test_the_handover_is_let_go_of():
    """When somebody else owns the count beside the hand-over, the hand-over ends and the count stays."""
    world, desired = running(ingestNodes=5), rendered(ingestNodes=5, autoscaling=AUTOSCALED)
    settle(world, desired)
    world.apply(
        [
            {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": {"name": "c-ingest", "namespace": NAMESPACE},
                "spec": {"replicas": 5},
            }
        ],
        "keda",
    )
    done = settle(world, desired)

    assert kinds(done) == ["TransferOwnership"]
    assert "spec" not in done[0].manifest
    assert count_owners(world) == ["keda"]


@pytest.mark.parametrize("scaled", [None, 5, 8])
def test_autoscaling_is_turned_off_without_a_dip(scaled):
    """The autoscaler goes first, then the count is taken from whoever holds it, and from nobody else."""
    world = World()
    world.carry_out(plan(rendered(autoscaling=AUTOSCALED), {}, OPERATOR))
    world.counts.clear()
    if scaled:
        world.scale(INGEST, scaled)
    done = settle(world, rendered(ingestNodes=5))
    apply = next(action for action in done if isinstance(action, Apply))

    assert kinds(done)[: done.index(apply)] == (["TransferOwnership", "Prune"] if scaled else ["Prune"])
    assert apply.restarts == ()
    assert set(world.counts["c-ingest"]) <= {4, 5, scaled}
    assert world.counts["c-ingest"][-1] == 5
    assert "chronik-operator" in count_owners(world)
    assert HPA not in world.models
    settle(world, rendered(ingestNodes=6))
    assert count_owners(world) == ["chronik-operator"]


def test_turning_autoscaling_off_survives_a_crash():
    """If chronik is cut off once the autoscaler is deleted, the next pass still takes the count."""
    world = World()
    world.carry_out(plan(rendered(autoscaling=AUTOSCALED), {}, OPERATOR))
    world.scale(INGEST, 8)
    first = plan(rendered(ingestNodes=5), world.observed, OPERATOR)
    for action in writes(first)[:2]:
        world.carry_out_one(action)

    assert kinds(writes(first)[:2]) == ["TransferOwnership", "Prune"]
    settle(world, rendered(ingestNodes=5))
    assert count_owners(world) == ["chronik-operator"]
    assert world.counts["c-ingest"][-1] == 5


def test_an_autoscaler_that_stays_blocks_the_count():
    """Without pruning, the count is not taken from an autoscaler that would only take it back."""
    world = World()
    world.apply(rendered(uid=None, autoscaling=AUTOSCALED))
    world.scale(INGEST, 8)
    actions = decide(world, rendered(uid=None, ingestNodes=5), CLI)

    assert [(type(action), action.by) for action in actions[INGEST]] == [(Blocked, HPA)]
    assert "--prune" in actions[INGEST][0].hint


def test_a_foreign_autoscaler_is_a_conflict():
    """The count is not fought over with an autoscaler that is not ours, even by the operator."""
    world = running()
    world.scale(INGEST, 8)
    (conflict,) = decide(world, rendered())[INGEST]

    assert isinstance(conflict, Conflict)
    assert [(owner.manager, owner.subresource) for owner in conflict.owners] == [("kube-controller-manager", "scale")]


def test_a_workload_that_vanished_comes_back_at_its_scale():
    """An autoscaled workload that was deleted is created with the count that its autoscaler last wanted."""
    world, desired = running(autoscaling=AUTOSCALED), rendered(autoscaling=AUTOSCALED)
    world.edit(HPA, {"status": {"desiredReplicas": 7}}, "kube-controller-manager", "status")
    settle(world, desired)
    del world.models[INGEST]
    world.counts.clear()
    done = settle(world, desired)

    assert kinds(done) == ["Create", "TransferOwnership", "Apply"]
    assert set(world.counts["c-ingest"]) == {7}


def count_owners(world):
    """Return the managers that own the replica count of the ingest nodes."""
    entries = world.observed[INGEST]["metadata"]["managedFields"]
    return [entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {})]


# --- volumes ----------------------------------------------------------------------------------------------------------


def claim(ordinal, storage="10Gi", phase="Bound", name="c-ingest", **metadata):
    """Return a PersistentVolumeClaim as a StatefulSet makes it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"data-{name}-{ordinal}",
            "namespace": NAMESPACE,
            "uid": f"claim-{name}-{ordinal}",
            "resourceVersion": "7",
            **metadata,
        },
        "spec": {"storageClassName": "standard", "resources": {"requests": {"storage": storage}}},
        "status": {"phase": phase},
    }


CLAIMS = [claim(0), claim(1, "50Gi"), claim(2, phase="Pending"), claim(0, name="c-ingest-b")]
LARGER = {"storage": {"backend": "local", "size": "20Gi"}}


def test_volumes_grow_without_a_restart():
    """Claims that are too small are patched, larger ones left, and the StatefulSet is created anew around its pods."""
    grown = plan(rendered(**LARGER), running().observed, replace(OPERATOR, claims=CLAIMS))
    (step,) = [step for stage in grown.stages for step in stage.steps if step.ref == INGEST]
    grow, recreate = step.actions

    assert (grow.ref.name, grow.was, grow.storage) == ("data-c-ingest-0", "10Gi", "20Gi")
    assert isinstance(recreate, Recreate)
    assert recreate.propagation == "Orphan"
    assert recreate.restarts == ()
    assert recreate.changes == (Change("spec.volumeClaimTemplates[0].spec.resources.requests.storage", "10Gi", "20Gi"),)


def test_the_recreated_statefulset_keeps_what_pods_may_see():
    """What others put into the pod template and an autoscaler's count survive, and end up with their owners again."""
    world, desired = running(autoscaling=AUTOSCALED), rendered(autoscaling=AUTOSCALED, **LARGER)
    settle(world, rendered(autoscaling=AUTOSCALED))
    world.scale(INGEST, 6)
    restarted = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    world.edit(INGEST, {"spec": {"template": {"metadata": {"annotations": restarted}}}}, "kubectl-rollout")
    world.apply([rotation("v7")], "chronik-operator-rotation")
    template, world.counts = world.observed[INGEST]["spec"]["template"], {}
    done = [action for action in settle(world, desired) if action.ref == INGEST]

    assert kinds(done) == ["Recreate", "TransferOwnership", "TransferOwnership", "TransferOwnership", "Apply"]
    assert {action.manager for action in done if isinstance(action, TransferOwnership)} == {
        REPLICAS_MANAGER,
        KEPT_MANAGER,
        "chronik-operator-rotation",
    }
    assert world.observed[INGEST]["spec"]["template"] == template
    assert set(world.counts["c-ingest"]) == {6}
    live = world.observed[INGEST]
    assert walk(next(each for each in desired if ObjectRef.of(each) == INGEST), live, applied_fields(live)) == []


def rotation(version):
    """Return what the operator applies beside the rendered document when a Secret changes."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "c-ingest", "namespace": NAMESPACE},
        "spec": {"template": {"metadata": {"annotations": {"chronik.stream/secret-version": version}}}},
    }


def test_image_and_size_change_together():
    """A new image does not wait for larger volumes, nor they for it: the new StatefulSet has both."""
    desired = rendered(image={"ingest": "a:2"}, **LARGER)
    (recreate,) = decide(running(), desired, replace(OPERATOR, claims=CLAIMS[:2]))[INGEST]

    assert isinstance(recreate, Recreate)
    assert [change.new for change in recreate.restarts] == ["a:2"]
    assert recreate.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "a:2"


def test_claims_are_set_free_before_their_statefulset_is_deleted():
    """A StatefulSet that takes its claims with it is told to retain them, and waited for, before it is deleted."""
    retention = {"retention": {"whenDeleted": "Delete"}}
    world, desired = running(storage=retention), rendered(storage=retention | {"size": "20Gi"})
    uid = world.observed[INGEST]["metadata"]["uid"]
    owned = [claim(0, "20Gi", ownerReferences=[{"kind": "StatefulSet", "uid": uid}])]
    first = decide(world, desired, replace(OPERATOR, claims=owned))[INGEST]
    world.carry_out(plan(desired, world.observed, replace(OPERATOR, claims=owned)))
    second = decide(world, desired, replace(OPERATOR, claims=owned))[INGEST]
    third = decide(world, desired, replace(OPERATOR, claims=[claim(0, "20Gi")]))[INGEST]

    assert kinds(first) == ["Apply", "Wait"]
    assert [change.new for change in first[0].changes] == ["Retain"]
    assert kinds(second) == ["Wait"]
    assert kinds(third) == ["Recreate"]
    assert third[0].manifest["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


@pytest.mark.parametrize(
    ("size", "expandable", "code"),
    [("20Gi", {"standard": False}, "StorageNotExpandable"), ("5Gi", {}, "StorageShrink")],
)
def test_sizes_out_of_reach_hold_nothing_else_up(size, expandable, code):
    """A size that cannot be had is reported, and the rest of the change is applied with the size that is there."""
    desired = rendered(storage={"size": size}, image={"ingest": "a:2"})
    world, context = running(), replace(OPERATOR, claims=CLAIMS, expandable=expandable)
    held, apply = decide(world, desired, context)[INGEST]
    settle(world, desired, context)

    assert (type(held), held.code) == (Deferred, code)
    assert isinstance(apply, Apply)
    assert [change.new for change in apply.changes] == ["a:2"]
    assert kinds(decide(world, desired, context)[INGEST]) == ["Deferred"]


def test_claims_that_were_missed_grow_later():
    """A claim that is smaller than its template, because it was not bound in time, is patched whenever it is seen."""
    world = running(**LARGER)
    actions = writes(plan(rendered(**LARGER), world.observed, replace(OPERATOR, claims=[claim(2)])))

    assert [(type(action), action.ref.name) for action in actions] == [(GrowClaim, "data-c-ingest-2")]


# --- what cannot be changed -------------------------------------------------------------------------------------------


def test_immutable_fields_are_known_beforehand():
    """A change that the server would refuse is not sent; the plan says which field it is and what a person can do."""
    desired = rendered()
    statefulset = next(each for each in desired if ObjectRef.of(each) == INGEST)
    statefulset["spec"]["podManagementPolicy"] = "OrderedReady"
    service = next(each for each in desired if ObjectRef.of(each) == SERVICE)
    service["spec"]["clusterIP"] = "10.0.0.9"
    actions = decide(running(), desired)

    assert kinds(actions[INGEST]) == kinds(actions[SERVICE]) == ["Blocked"]
    assert actions[INGEST][0].reason == "spec.podManagementPolicy cannot be changed"
    assert "kubectl delete statefulset c-ingest -n streaming --cascade=orphan" in actions[INGEST][0].hint


def test_a_role_binding_is_created_anew():
    """A RoleBinding's role never changes, so it is deleted and created: no pod notices."""
    desired = rendered()
    binding = next(each for each in desired if ObjectRef.of(each) == BINDING)
    binding["roleRef"] = binding["roleRef"] | {"name": "other"}
    (recreate,) = decide(running(), desired)[BINDING]

    assert isinstance(recreate, Recreate)
    assert recreate.changes == (Change("roleRef.name", "c-ingest", "other"),)


def test_immutable_fields_may_change_hands():
    """Claiming an immutable field with the value it has is no change, so it is applied."""
    world = running()
    world.models[INGEST].live["metadata"]["managedFields"] = []
    (apply,) = decide(world, rendered())[INGEST]

    assert isinstance(apply, Apply)
    assert apply.restarts == ()


def cleared(world, ref=INGEST):
    """Clear the record of who owns what of an object, as one patch can."""
    world.models[ref].live["metadata"]["managedFields"] = []
    return world


def test_a_cleared_record_blocks_nothing():
    """With its record cleared a StatefulSet is judged field by field: it is applied, and its pods restart."""
    world = cleared(running())
    changed = rendered(image={"ingest": "chronik/ingest:2"}, ingestNodes=5)
    (apply,) = decide(world, changed)[INGEST]

    assert isinstance(apply, Apply)
    assert {change.path for change in apply.changes if change.old != change.new} == {
        "spec.replicas",
        'spec.template.spec.containers[name="ingest"].image',
    }
    assert [change.path for change in apply.restarts] == ['spec.template.spec.containers[name="ingest"].image']
    assert {(owner.path, owner.manager) for owner in apply.takes} == {
        (".spec.replicas", "before-first-apply"),
        (".spec.volumeClaimTemplates", "before-first-apply"),  # with the server's defaults, letter by letter
        (IMAGE, "before-first-apply"),
    }


def test_a_cleared_record_hides_no_immutable_field():
    """With its record cleared, what never changes is still foreseen, and named."""
    other = rendered(storage={"backend": "local", "storageClass": "other"})
    (blocked,) = decide(cleared(running()), other)[INGEST]

    assert isinstance(blocked, Blocked)
    assert blocked.reason.startswith("spec.volumeClaimTemplates")


def test_order_counts_though_a_record_was_cleared():
    """Another order of environment variables restarts pods, whoever owns them."""
    world = running()
    world.models[INGEST].live["spec"]["template"]["spec"]["containers"][0]["env"].reverse()
    (apply,) = decide(cleared(world), rendered())[INGEST]

    assert [change.path for change in apply.restarts] == ['spec.template.spec.containers[name="ingest"].env']
    assert apply.restarts[0] in apply.changes


def test_a_recreated_statefulset_keeps_what_nobody_is_known_to_own():
    """With its record cleared, a StatefulSet that is created anew keeps what pods may see."""
    world = running()
    world.edit(INGEST, {"spec": {"template": {"metadata": {"annotations": {"restartedAt": "now"}}}}}, "kubectl-rollout")
    larger = rendered(storage={"backend": "local", "size": "20Gi"})
    actions = decide(cleared(world), larger, replace(OPERATOR, claims=[claim(0, "20Gi")]))[INGEST]
    (anew,) = (action for action in actions if isinstance(action, Recreate))

    assert anew.manifest["spec"]["template"]["metadata"]["annotations"]["restartedAt"] == "now"


# --- what others have added -------------------------------------------------------------------------------------------

SHARED = ObjectRef("ConfigMap", NAMESPACE, "c-config")


def changeable(uid=UID, **spec):
    """Return a cluster's manifests whose configuration is one object that changes, as an override may make it."""
    manifests = rendered(uid, **spec)
    (config,) = (each for each in manifests if ObjectRef.of(each).kind == "ConfigMap")
    del config["immutable"]
    config["metadata"]["name"] = SHARED.name
    return manifests


def running_changeable(**spec):
    """Return a world in which the operator has applied such a cluster."""
    world = World()
    world.apply(changeable(**spec))
    return world


@pytest.mark.parametrize("field", ["data", "binaryData"])
def test_keys_that_people_add_to_the_configuration_go(field):
    """A file that a person adds to the ConfigMap, which pods would read, is removed, told of, and then all is quiet."""
    world = running_changeable()
    world.edit(SHARED, {field: {"extra.conf": "eA==", "more": "eQ=="}}, "kubectl-patch")
    (apply,) = settle(world, changeable())

    assert apply.clearing == {field: {"extra.conf": None, "more": None}}
    assert [(owner.path, owner.manager) for owner in apply.removes] == [
        (f".{field}.extra.conf", "kubectl-patch"),
        (f".{field}.more", "kubectl-patch"),
    ]
    assert apply.changes[0] == Change(f"{field}[extra.conf]", "eA==", None, "kubectl-patch")
    assert (apply.takes, apply.reason) == ((), "2 changes, what kubectl-patch added is removed")
    assert (
        world.observed[SHARED].get(field, {}).keys()
        == next(each for each in changeable() if ObjectRef.of(each) == SHARED).get(field, {}).keys()
    )


@pytest.mark.parametrize(
    ("manager", "context", "expected"),
    [
        ("argocd-controller", OPERATOR, Conflict),
        ("kubectl-patch", CLI, Conflict),
        ("kubectl-patch", replace(CLI, force_conflicts=True), Apply),
        ("argocd-controller", replace(CLI, force_conflicts=True), Apply),
        ("chronik-operator-kept", CLI, Apply),
    ],
)
def test_whose_keys_go(manager, context, expected):
    """What other controllers add is a conflict, as are all keys for the command line until it is told to take them."""
    world = World()
    world.apply(changeable(uid=context.owner_uid))
    world.edit(SHARED, {"data": {"extra": "x"}}, manager)
    (action,) = decide(world, changeable(uid=context.owner_uid), context)[SHARED]

    assert isinstance(action, expected)
    assert [(owner.path, owner.manager) for owner in action.removes] == [(".data.extra", manager)]
    if isinstance(action, Conflict):
        assert action.owners == action.removes
        assert action.hint.startswith("Remove it")


def test_a_key_that_others_apply_too_goes_at_once():
    """A key that is no longer wanted, and that somebody else set to the same value, does not outlive its apply."""
    world = running_changeable(monitoring={"tracing": True, "otlpEndpoint": "http://otel:4317"})
    endpoint = {"data": {"monitoring.otlp.endpoint": "http://otel:4317"}}
    identity = {key: world.observed[SHARED][key] for key in ("apiVersion", "kind")}
    world.apply([identity | {"metadata": {"name": SHARED.name, "namespace": NAMESPACE}} | endpoint], "kubectl")
    done = [action for action in settle(world, changeable()) if action.ref == SHARED]

    assert kinds(done) == ["Apply"]
    assert "monitoring.otlp.endpoint" not in world.observed[SHARED]["data"]


def test_keys_that_nobody_is_known_to_own_go():
    """With its record cleared, a ConfigMap is left with what is wanted."""
    world = cleared(running_changeable(), SHARED)
    world.models[SHARED].live["data"]["extra"] = "x"
    (apply,) = settle(world, changeable())

    assert [(owner.path, owner.manager) for owner in apply.removes] == [(".data.extra", "before-first-apply")]


def test_keys_of_a_frozen_configuration_stay():
    """Of a ConfigMap that was marked immutable no key can be removed, which is said beforehand."""
    world = running_changeable()
    world.edit(SHARED, {"data": {"extra": "x"}, "immutable": True}, "kubectl-edit")
    (blocked,) = decide(world, changeable())[SHARED]

    assert isinstance(blocked, Blocked)
    assert blocked.reason == "data.extra cannot be changed"


def test_a_config_map_without_data_is_for_others_to_fill():
    """An override may make a ConfigMap that something else fills, such as one for a bundle of certificates."""
    world, desired = running_changeable(), changeable()
    config = next(each for each in desired if ObjectRef.of(each) == SHARED)
    del config["data"]
    settle(world, desired)
    world.edit(SHARED, {"data": {"ca.crt": "x"}}, "kubectl-patch")

    assert isinstance(about(world, desired, SHARED), Skip)


def test_a_key_that_comes_back_on_every_write_is_left_alone():
    """A key that a webhook puts back while the object is stored starts no loop."""
    world, desired = running_changeable(), changeable()
    model = world.models[SHARED]
    model.tamper(merged(model.live, {"data": {"extra": "webhook"}}))
    live, manifest = world.observed[SHARED], next(each for each in desired if each["kind"] == "ConfigMap")
    memo = left_over(manifest, live, drift(manifest, live))
    (after,) = decide(world, desired, replace(OPERATOR, flapping={memo}))[SHARED]

    assert (type(after), after.why) == (Skip, "settled")


def test_additions_of_others_are_told_and_stay():
    """Containers, variables, commands, volumes and mounts of others are told, with whose they are, and stay."""
    world = running()
    live = world.observed[INGEST]
    pod = live["spec"]["template"]["spec"]
    ours = pod["containers"][0]
    ours["env"].append({"name": "DEBUG", "value": "1"})
    ours["envFrom"] = [{"configMapRef": {"name": "theirs"}}]
    ours["command"] = ["sh"]
    ours["volumeMounts"].append({"name": "theirs", "mountPath": "/etc/chronik/config/more"})
    pod["containers"].append({"name": "sidecar", "image": "x", "env": [{"name": "A", "value": "1"}]})
    pod["initContainers"] = [{"name": "init", "image": "x"}]
    pod["volumes"].append({"name": "theirs", "emptyDir": {}})
    world.models[INGEST].edit(live, "injector")
    world._written(INGEST)
    skip, apply = about(world, rendered(), INGEST), about(world, rendered(ingestNodes=5), INGEST)
    inside = '.spec.template.spec.containers[name="ingest"]'

    assert isinstance(skip, Skip)
    assert isinstance(apply, Apply)
    assert {owner.manager for owner in skip.additions} == {"injector"}
    assert {owner.path for owner in skip.additions} == {
        f"{inside}.command",
        f'{inside}.env[name="DEBUG"]',
        f"{inside}.envFrom",
        f'{inside}.volumeMounts[mountPath="/etc/chronik/config/more"]',
        '.spec.template.spec.containers[name="sidecar"]',
        '.spec.template.spec.initContainers[name="init"]',
        '.spec.template.spec.volumes[name="theirs"]',
    }
    assert apply.additions == skip.additions


def about(world, desired, ref, context=OPERATOR):
    """Return the one action about an object."""
    (action,) = (each for each in plan(desired, world.observed, context).actions if each.ref == ref)
    return action


@pytest.mark.parametrize("clear", [False, True])
def test_what_is_wanted_is_no_addition(clear):
    """What chronik is about to add, change or drop itself is nobody's addition, whoever is said to own it now."""
    world = running(security={"tlsEnabled": True, "tlsSecret": "tls"})
    if clear:
        cleared(world)
    same = about(world, rendered(security={"tlsEnabled": True, "tlsSecret": "tls"}), INGEST)
    more = about(running(), rendered(security={"tlsEnabled": True, "tlsSecret": "tls"}), INGEST)
    less = about(running(security={"tlsEnabled": True, "tlsSecret": "tls"}), rendered(), INGEST)

    assert [action.additions for action in (same, more, less)] == [(), (), ()]


# --- prune ------------------------------------------------------------------------------------------------------------


def test_what_is_no_longer_rendered_is_pruned_in_reverse():
    """Turning search off deletes everything of it, the last first, and nothing else; each only as it was seen."""
    world = running(searchNodes=2, podDisruptionBudget={"maxUnavailable": 1})
    pruned = plan(rendered(podDisruptionBudget={"maxUnavailable": 1}), world.observed, OPERATOR)

    assert {stage.name for stage in pruned.stages if stage.prunes} == {
        "disruption",
        "workloads",
        "network",
        "config",
        "rbac",
    }
    gone = writes(pruned)
    assert kinds(gone) == ["Prune"] * 6
    assert [action.ref.kind for action in gone] == [
        *("PodDisruptionBudget", "Deployment", "Service", "RoleBinding", "Role", "ServiceAccount"),
    ]
    assert all(world.observed[action.ref]["metadata"]["uid"] == action.uid for action in gone)
    assert {action.ref.name for action in gone} == {"c-search", "c-search-pdb"}


def test_nothing_is_pruned_unasked():
    """Without pruning, what is no longer rendered is reported and left."""
    world = World()
    world.apply(rendered(uid=None, searchNodes=2))
    left = plan(rendered(uid=None), world.observed, CLI)

    assert writes(left) == []
    assert {action.ref.name for action in left.actions if isinstance(action, Skip) and action.why == "orphaned"} == {
        "c-search"
    }


def test_a_kind_that_is_not_installed_holds_up_nothing_else():
    """The objects of a missing kind are left out, with what to do; all others are made, and old ones pruned."""
    gadget = {
        "metadata": {"name": "c-gadget", "namespace": NAMESPACE},
        "apiVersion": "example.com/v1",
        "kind": "Gadget",
    }
    context = replace(OPERATOR, missing={KindName.of(gadget): not_known(KindName.of(gadget))})
    world = running(searchNodes=2)
    actions = plan([*rendered(), gadget], world.observed, context).actions

    (left,) = [each for each in actions if isinstance(each, NotInstalled)]
    assert (left.ref, left.kind) == (ObjectRef.of(gadget), KindName("example.com/v1", "Gadget"))
    assert "does not know the kind Gadget (example.com/v1)" in left.reason
    assert {type(each) for each in actions} == {NotInstalled, Skip, Prune}


def test_nothing_is_pruned_if_nothing_is_rendered():
    """An empty rendering is a mistake somewhere, and deletes nothing."""
    assert writes(plan([], running().observed, OPERATOR)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"annotations": {"chronik.stream/prune": "keep"}}},
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": "helm"}}},
        {"metadata": {"managedFields": []}},
        {"metadata": with_owner("x", "Widget")},
        {"metadata": {"ownerReferences": None}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"kind": "Gadget"},
    ],
    ids=str,
)
def test_what_may_not_be_pruned(change):
    """What is marked to be kept, going already, or not ours beyond doubt is left, and the plan says why."""
    world = running()
    extra = merged(deepcopy(world.observed[CONFIG]), {"metadata": {"name": "c-old"}} | change)
    extra["metadata"] |= {"name": "c-old"} | change.get("metadata", {})
    extra["metadata"] = {key: value for key, value in extra["metadata"].items() if value is not None}
    if "labels" in change.get("metadata", {}):
        extra["metadata"]["labels"] = world.observed[CONFIG]["metadata"]["labels"] | change["metadata"]["labels"]
    ref = ObjectRef.of(extra)
    (skip,) = [each for each in plan(rendered(), world.observed | {ref: extra}, OPERATOR).actions if each.ref == ref]

    assert (type(skip), skip.why) == (Skip, "kept")
    assert skip.reason


def test_other_clusters_and_claims_are_none_of_its_business():
    """What is another cluster's, in another namespace, or holds data, is not even mentioned."""
    world = running()
    other = merged(
        world.observed[CONFIG], {"metadata": {"name": "d-config", "labels": {"chronik.stream/cluster": "d"}}}
    )
    volume = merged(claim(0), {"metadata": {"labels": world.observed[CONFIG]["metadata"]["labels"]}})
    elsewhere = merged(world.observed[CONFIG], {"metadata": {"namespace": "elsewhere"}})
    observed = world.observed | {ObjectRef.of(each): each for each in (other, volume, elsewhere)}

    assert plan(rendered(), observed, OPERATOR) == plan(rendered(), world.observed, OPERATOR)


# --- gates and secrets ------------------------------------------------------------------------------------------------


def test_gates_hold_restarts_back():
    """A workload whose pods would restart waits for the one that the gate names; others go on."""
    desired = rendered(image={"controller": "a:2", "ingest": "a:2"}, searchNodes=1)
    asked = []

    def gate(action, started):
        asked.append((type(action), action.ref, started))
        return CONTROLLER if CONTROLLER in started else None

    actions = decide(running(), desired, replace(OPERATOR, gate=gate))

    assert asked == [
        (Apply, CONTROLLER, ()),
        (Apply, INGEST, (CONTROLLER,)),
        (Create, SEARCH, (CONTROLLER,)),
    ]
    assert kinds(actions[CONTROLLER]) == ["Apply"]
    assert [(type(action), action.by) for action in (*actions[INGEST], *actions[SEARCH])] == [(Blocked, CONTROLLER)] * 2


def test_gates_are_not_asked_about_other_changes():
    """A change that restarts no pod passes all gates."""
    context = replace(OPERATOR, gate=lambda _action, _started: CONTROLLER)

    assert kinds(decide(running(), rendered(ingestNodes=5), context)[INGEST]) == ["Apply"]


def test_known_secrets_are_masked():
    """A value that is a secret's own shows nowhere in a plan's changes."""
    desired = rendered(podAnnotations={"note": "password is hunter2-hunter2"})
    (apply,) = decide(running(), desired, replace(OPERATOR, mask=Mask(["hunter2-hunter2"])))[INGEST]

    assert [change.new for change in apply.changes] == ["*** (after)"]


def test_without_an_operator_nothing_is_held():
    """What an operator held that is gone, the command line takes back and lets go of: the set rolls by itself again."""
    world = World()
    manifests = rendered(uid=None)
    world.carry_out(plan(manifests, {}, CLI))
    held = {"updateStrategy": {"type": "OnDelete"}}
    metadata = {"name": INGEST.name, "namespace": NAMESPACE}
    world.apply(
        [{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": held}], manager=ROLLOUT_MANAGER
    )
    done = world.carry_out(plan(manifests, world.observed, CLI))
    live = world.observed[INGEST]

    assert [type(each) for each in done] == [Apply, TransferOwnership]
    assert live["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    assert applied_fields(live, ROLLOUT_MANAGER) is None
    assert not world.carry_out(plan(manifests, world.observed, CLI))
