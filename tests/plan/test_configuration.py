"""Configurations named for their content: which is whose successor, and how long an earlier one stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support.plan_world import World

from chronik.manifest import ObjectRef
from chronik.offline import loading as offline
from chronik.plan.actions import Create, Prune, Skip
from chronik.plan.changes import Change
from chronik.plan.planner import PlanContext, plan

EXAMPLE = Path(__file__).parents[2] / "examples" / "minimal.yaml"
CONTEXT = PlanContext(cluster="minimal", namespace="default", owner_uid="u", prune=True)


def rendered(**connection):
    """Return the manifests of the minimal example, with another metastore if one is given."""
    document = yaml.safe_load(EXAMPLE.read_text())
    document["spec"]["metastore"]["connection"] |= connection
    cluster = offline.validator().validate(document).cluster
    return offline.render_clusters([replace(cluster, uid="u")])


def config_of(manifests):
    """Return the one ConfigMap among manifests."""
    (found,) = [each for each in manifests if each["kind"] == "ConfigMap"]
    return found


def mounted(manifest):
    """Return the ConfigMap that a workload's pods mount."""
    return next(
        volume["configMap"]["name"]
        for volume in manifest["spec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    )


def test_content_makes_the_name():
    """The same content has the same name, other content another, and the pods name theirs; it can never be changed."""
    one, same, other = rendered(), rendered(), rendered(host="elsewhere")
    names = [config_of(each)["metadata"]["name"] for each in (one, same, other)]

    assert names[0] == names[1] != names[2]
    assert names[0].startswith("minimal-config-")
    assert config_of(one)["immutable"] is True
    assert {mounted(each) for each in one if each["kind"] == "StatefulSet"} == {names[0]}
    roles = [each["rules"][0]["resourceNames"] for each in one if each["kind"] == "Role"]
    assert roles == [[names[0]]] * len(roles)


def test_a_new_one_says_what_it_replaces():
    """A changed configuration is a new object, planned with the keys that differ from the one that pods read now."""
    world = World()
    world.apply(rendered())
    old, new = config_of(rendered()), config_of(rendered(host="elsewhere"))
    todo = plan(rendered(host="elsewhere"), world.observed, CONTEXT)
    (create,) = [action for action in todo.actions if isinstance(action, Create)]

    assert create.ref == ObjectRef.of(new)
    assert create.replaces == ObjectRef.of(old)
    assert create.changes == (Change("data[metastore.host]", "postgres", "elsewhere"),)


def settled(manifest, *, revision="a", updated=True):
    """Return a live workload's status, at the end of a roll or in its midst."""
    status = {"observedGeneration": 9, "replicas": 3, "updatedReplicas": 3 if updated else 1}
    return manifest | {"status": status | {"currentRevision": "a", "updateRevision": revision}}


@pytest.mark.parametrize(
    ("pods_read_it", "revision", "updated", "goes"),
    [(False, "a", True, True), (True, "a", True, False), (False, "b", True, False), (False, "a", False, False)],
    ids=["nothing-reads-it", "a-pod-reads-it", "revisions-differ", "pods-are-replaced"],
)
def test_an_earlier_one_stays_as_long_as_it_is_read(pods_read_it, revision, updated, goes):
    """An earlier configuration goes when no pod names it and no roll is under way, and not before."""
    world = World()
    world.apply(rendered())
    old = ObjectRef.of(config_of(rendered()))
    world.apply(rendered(host="elsewhere"))
    live = {
        ref: settled(each, revision=revision, updated=updated) if ref.kind == "StatefulSet" else each
        for ref, each in world.observed.items()
    }
    name = old.name if pods_read_it else "another"
    pod = {"metadata": {"name": "p"}, "spec": {"volumes": [{"name": "config", "configMap": {"name": name}}]}}
    todo = plan(rendered(host="elsewhere"), live, replace(CONTEXT, pods=[pod]))
    (action,) = [action for action in todo.actions if action.ref == old]

    assert isinstance(action, Prune if goes else Skip)
    assert goes or (action.why == "kept" and action.reason.startswith("is an earlier configuration"))
