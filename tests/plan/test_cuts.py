"""Changes that take several writes: wherever they are cut off, the end is the undisturbed one, and no pod notices.

A pass may be killed, or lose the server or its leadership, between any two writes. The next pass knows only what is
there. Each change is carried out once undisturbed, and then with every pair of cuts.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import NamedTuple

import pytest
from support.plan_world import World, merged, writes

from chronik.manifest import WORKLOAD_KINDS, ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import Recreate
from chronik.plan.planner import HUMAN_MANAGERS, PlanContext, plan
from chronik.plan.replicas import disputed, without_autoscaler
from chronik.plan.rotation import ANNOTATION, ROTATION_MANAGER

OPERATOR = PlanContext(cluster="c", namespace="n", owner_uid="u", prune=True, take_back_managers=HUMAN_MANAGERS)
BINDING = ObjectRef("RoleBinding", "n", "c-ingest")
CLI = PlanContext(cluster="c", namespace="n", prune=True)
INGEST = ObjectRef("StatefulSet", "n", "c-ingest")
HPA = ObjectRef("HorizontalPodAutoscaler", "n", "c-ingest-hpa")
RESTARTED = "kubectl.kubernetes.io/restartedAt"
AUTOSCALED = {"ingestNodes": {"minReplicas": 4, "maxReplicas": 9, "targetCpuUtilizationPercentage": 70}}
BASE = {
    "storage": {"backend": "local", "size": "10Gi"},
    "metastore": {
        "database": "postgres",
        "connection": {"host": "db", "database": "chronik", "credentialsSecret": "s"},
    },
    "ingestNodes": 5,
}


def rendered(spec, uid="u"):
    """Return the manifests of a cluster; without a uid, as the command line has them."""
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": "c", "namespace": "n"},
        "spec": merged(BASE, spec),
    }
    return offline.render_clusters([replace(offline.validator().validate(document).cluster, uid=uid)])


class Life:
    """A namespace with a cluster, whose claims, pods and autoscaler do what the real ones do, at once."""

    def __init__(self, world, desired, context):
        self.world, self.desired, self.context = world, desired, context
        self.sizes = {f"data-{name}-{number}": "10Gi" for name in ("c-controller", "c-ingest") for number in range(2)}
        self.pods = {}
        self.templates = {}
        self.counts = {}
        self._look()

    def again(self):
        """Return another life that begins with the same."""
        world = World()
        world.models = {ref: copy(model) for ref, model in self.world.models.items()}
        return Life(world, self.desired, self.context)

    def passes(self, *cuts):
        """Pass until nothing is left to do, and be cut off in the first passes after so many writes."""
        left = [*cuts]
        for _ in range(12):
            todo = self._todo()
            if not todo:
                return
            budget = left.pop(0) if left else None
            self._carried_out(todo, budget)
        raise AssertionError(f"still something to do: {todo}")

    def _carried_out(self, todo, budget):
        done = 0
        for action in todo:
            for write in self.world.writes_of(action):
                if done == budget:
                    return
                write()
                done += 1
                self._look()

    def writes(self):
        """Return how many writes the first pass would make."""
        return 1 + sum(2 if isinstance(each, Recreate) else 1 for each in self._todo())

    def _todo(self):
        context = replace(self.context, pods=[*self.pods.values()], claims=[*self._claims()])
        observed = {ref: model.live for ref, model in self.world.models.items()}
        found = plan(self.desired, observed, context)
        workloads = disputed(found.obstacles)
        scalers = [each for ref, each in observed.items() if ref.kind == HPA.kind]
        if self.context.owner_uid and workloads and (unscaled := without_autoscaler(workloads, scalers)):
            found = plan(self.desired, observed, replace(context, unscaled=unscaled))
        return writes(found)

    def _claims(self):
        for name, size in (self.sizes | self.world.grown).items():
            model = self.world.models.get(ObjectRef("StatefulSet", "n", name[5:].rpartition("-")[0]))
            live = model and model.live
            policy = (live or {"spec": {}})["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
            owners = [{"uid": live["metadata"]["uid"]}] if live and policy.get("whenDeleted") == "Delete" else []
            yield {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": name,
                    "namespace": "n",
                    "uid": name,
                    "resourceVersion": "7",
                    "ownerReferences": owners,
                },
                "spec": {"resources": {"requests": {"storage": size}}},
                "status": {"phase": "Bound"},
            }

    def _look(self):
        """Have controllers do what they do after a write, and remember what pods have seen."""
        for ref, model in self.world.models.items():
            if ref.kind not in WORKLOAD_KINDS:
                continue
            live = model.live
            template, count = live["spec"]["template"], live["spec"].get("replicas", 1)
            seen = self.templates.setdefault(ref.name, [])
            if template not in seen[-1:]:
                seen.append(template)
            if count not in self.counts.setdefault(ref.name, [])[-1:]:
                self.counts[ref.name].append(count)
            annotations = template["metadata"].get("annotations") or {}
            own = [name for name in self.pods if name.rpartition("-")[0] == ref.name]
            for name in own:
                del self.pods[name]
            for number in range(count if ref.kind == "StatefulSet" else 0):
                name = f"{ref.name}-{number}"
                metadata = {"name": name, "namespace": "n", "annotations": annotations}
                self.pods[name] = {"kind": "Pod", "metadata": metadata}

    def end(self):
        """Return all that is there, and whose it is, without what differs from one run to the next."""
        found = {}
        for ref, model in self.world.models.items():
            live = model.live
            metadata = {
                k: v for k, v in live["metadata"].items() if k not in {"uid", "resourceVersion", "managedFields"}
            }
            entries = live["metadata"]["managedFields"]
            owned = {
                (each["manager"], each["operation"], each.get("subresource", "")): each["fieldsV1"] for each in entries
            }
            found[ref] = live | {"metadata": metadata}, owned
        return found, self.world.grown


class Story(NamedTuple):
    """A cluster as it was, what others then did to it, and what is wanted of it now."""

    before: dict
    after: dict
    others: tuple = ()
    context: PlanContext = OPERATOR
    adopted: bool = False


def begun(story):
    """Return the life of a cluster at the beginning of a story."""
    uid = None if story.adopted else story.context.owner_uid
    world = World()
    life = Life(world, rendered(story.before, uid), CLI if story.adopted else story.context)
    life.passes()
    for act in story.others:
        act(world)
    return Life(world, rendered(story.after, story.context.owner_uid), story.context)


def scaled(count):
    """Return what an autoscaler does."""

    def act(world):
        world.scale(INGEST, count)
        world.edit(HPA, {"status": {"desiredReplicas": count}}, "kube-controller-manager", "status")

    return act


def by_hand(count):
    """Return what a person does to a cluster whose autoscaler has no metrics."""
    return lambda world: world.edit(INGEST, {"spec": {"replicas": count}}, "kubectl-scale", "scale")


def restarted(world):
    """Do what `kubectl rollout restart` does."""
    annotations = {RESTARTED: "2026-01-01T00:00:00Z"}
    world.edit(INGEST, {"spec": {"template": {"metadata": {"annotations": annotations}}}}, "kubectl-rollout")


def rotated(world):
    """Restart pods for a changed Secret."""
    fields = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: "7"}}}}}
    world.apply(
        [{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "c-ingest", "namespace": "n"}} | fields],
        ROTATION_MANAGER,
    )


def added(world):
    """Add to the pods what is no part of the document, as an injector does."""
    template = world.models[INGEST].live["spec"]["template"]
    (container,) = template["spec"]["containers"]
    with_more = container | {"env": [*container.get("env", ()), {"name": "ADDED", "value": "x"}]}
    change = {"nodeSelector": {"a": "b"}, "containers": [with_more, {"name": "sidecar", "image": "x"}]}
    world.edit(INGEST, {"spec": {"template": {"spec": change}}}, "injector")


def another_role(world):
    """Have a RoleBinding lead to another role, which no apply can change."""
    live = world.models[BINDING].live
    world.models[BINDING].tamper(live | {"roleRef": live["roleRef"] | {"name": "other"}})


def edited(change):
    """Return what a person does."""
    return lambda world: world.edit(INGEST, change, "kubectl-edit")


ON, OFF = {"autoscaling": AUTOSCALED}, {}
LARGER = {"storage": {"size": "20Gi"}}
GOING = {"storage": {"retention": {"whenDeleted": "Delete"}}}
NODES = {"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}
SETTINGS = {"metadata": {"annotations": {"note": "x"}}, "spec": {"minReadySeconds": 7}}
OTHERS = (restarted, rotated)
IMAGE = {"image": {"ingest": "chronik/ingest:2"}}

STORIES = {
    "autoscaling on": Story(OFF, ON),
    "autoscaling on, more": Story({"ingestNodes": 3}, ON),
    "autoscaling off": Story(ON, {"ingestNodes": 6}, (scaled(8),)),
    "autoscaling off, unscaled": Story(ON, {"ingestNodes": 6}),
    "autoscaling off, same": Story(ON, {"ingestNodes": 8}, (scaled(8),)),
    "larger": Story(OFF, LARGER, OTHERS),
    "larger, claims go": Story(GOING, merged(GOING, LARGER), OTHERS),
    "larger, autoscaled": Story(ON, merged(ON, LARGER), (scaled(7), *OTHERS)),
    "larger, autoscaled, no metrics": Story(ON, merged(ON, LARGER), (by_hand(7), *OTHERS)),
    "larger, autoscaled from now on": Story(OFF, merged(ON, LARGER), OTHERS),
    "larger, no longer autoscaled": Story(ON, merged({"ingestNodes": 6}, LARGER), (scaled(8), *OTHERS)),
    "larger, more nodes": Story(OFF, merged({"ingestNodes": 6}, LARGER), OTHERS),
    "larger, image": Story(OFF, merged(IMAGE, LARGER), OTHERS),
    "image": Story(OFF, IMAGE, OTHERS),
    "search on": Story(OFF, {"searchNodes": 2}),
    "search off": Story({"searchNodes": 2}, OFF),
    "adopted": Story(OFF, OFF, OTHERS, adopted=True),
    "adopted, autoscaled": Story(ON, ON, (scaled(7),), adopted=True),
    "adopted, larger": Story(OFF, LARGER, OTHERS, adopted=True),
    "adopted, larger, autoscaled": Story(ON, merged(ON, LARGER), (scaled(7), *OTHERS), adopted=True),
    "adopted, no longer autoscaled": Story(ON, {"ingestNodes": 6}, (scaled(7), *OTHERS), adopted=True),
    "edited": Story(OFF, OFF, (edited(NODES), *OTHERS)),
    "larger, with parts of others": Story(ON, merged(ON, LARGER), (scaled(7), added, *OTHERS)),
    "larger, with settings of others": Story(GOING, merged(GOING, LARGER), (edited(SETTINGS), *OTHERS)),
    "role": Story(OFF, OFF, (another_role,)),
}
BY_HAND = {
    f"{name}, by hand": STORIES[name]._replace(context=CLI)
    for name in ("autoscaling on", "larger, autoscaled from now on", "larger, no longer autoscaled")
}
ALL = STORIES | BY_HAND


@pytest.mark.parametrize("name", ALL)
def test_a_cut_leaves_no_trace(name):
    """Wherever a change is cut off, its end is the undisturbed one, and pods see the old and the new template only."""
    check(ALL[name], lambda most: [(first,) for first in range(most)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_two_cuts_leave_no_trace(name):
    """So it is wherever it is cut off twice."""
    check(ALL[name], lambda most: [(first, second) for first in range(most) for second in range(most)])


def check(story, cuts):
    """Hold a story to its undisturbed end, with cuts that may be as far on as its first pass has writes."""
    beginning = begun(story)
    undisturbed = beginning.again()
    undisturbed.passes()
    tried = cuts(beginning.writes())
    assert all(len({str(each) for each in seen}) <= 2 for seen in undisturbed.templates.values())
    assert tried
    for each in tried:
        life = beginning.again()
        life.passes(*each)
        assert life.end() == undisturbed.end(), each
        assert life.templates == undisturbed.templates, each
        assert life.counts == undisturbed.counts, each
