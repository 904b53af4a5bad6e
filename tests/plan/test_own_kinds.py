"""What is remembered of kinds that only templates of the user's make, and when it is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.clusters import small_cluster

from chronik.manifest import KindName, ObjectRef, apply_order, own_kinds, with_own_kinds
from chronik.offline import loading as offline
from chronik.offline.played import played
from chronik.plan.actions import Apply, Create, NotInstalled, Prune, Skip
from chronik.plan.deletion import deletion
from chronik.plan.live import LiveCluster, Missing
from chronik.plan.planner import PlanContext, plan

GADGET = KindName("example.com/v1", "Gadget")
CLUSTER = small_cluster()
CLI = PlanContext(cluster=CLUSTER.name, namespace=CLUSTER.namespace, prune=True)
CONFIG = next(ref for ref in map(ObjectRef.of, offline.renderer()(CLUSTER)) if ref.kind == "ConfigMap")
REF = ObjectRef("Gadget", CLUSTER.namespace, "g")


def manifests(*, own: bool):
    """Return the manifests of a cluster, with a gadget or without."""
    found = offline.renderer()(CLUSTER)
    if not own:
        return found
    labels = found[0]["metadata"]["labels"]
    gadget = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g", "namespace": REF.namespace}}
    gadget["metadata"]["labels"] = labels
    return [*(with_own_kinds(each, {GADGET}) if ObjectRef.of(each) == CONFIG else each for each in found), gadget]


@pytest.fixture
def observed():
    """Return the objects of a cluster that was applied with a gadget."""
    return dict(played(CLUSTER, manifests(own=True)).objects)


def about(observed, desired, context=CLI):
    """Return the actions about the gadget and the ConfigMap, but for those that leave them as they are."""
    return [
        each
        for each in plan(desired, observed, context).actions
        if each.ref in {REF, CONFIG} and not (isinstance(each, Skip) and each.why == "unchanged")
    ]


def test_a_kind_is_forgotten_after_its_last_object(observed):
    """The object is pruned first; the record goes last, in a stage that is left out if anything failed before."""
    todo = plan(manifests(own=False), observed, CLI)
    prune, forget = about(observed, manifests(own=False))

    assert isinstance(prune, Prune)
    assert prune.api_version == "example.com/v1"
    assert isinstance(forget, Apply)
    assert own_kinds([forget.manifest]) == set()
    assert todo.stages[-1].prunes
    assert [step.ref for step in todo.stages[-1].steps] == [CONFIG]


def test_without_pruning_nothing_is_forgotten(observed):
    """As long as objects are left, their kind stays on record, so that they can be pruned later."""
    (left,) = about(observed, manifests(own=False), replace(CLI, prune=False))

    assert isinstance(left, Skip)
    assert left.why == "orphaned"


def test_what_was_not_read_is_not_forgotten(observed):
    """A kind of which it is not known what there is stays on record; without objects it goes at once."""
    del observed[REF]

    assert about(observed, manifests(own=False), replace(CLI, unread=frozenset({GADGET}))) == []
    (forget,) = about(observed, manifests(own=False))
    assert isinstance(forget, Apply)


def test_a_kind_that_is_not_installed_keeps_nothing_back():
    """An object of a kind that cannot be had is left out, with why and what to do, and the others are made."""
    why = Missing("Forbidden", "may not list gadgets", "Ask for it.")
    todo = plan(manifests(own=True), {}, replace(CLI, missing={GADGET: why})).actions
    (gadget,) = [each for each in todo if each.ref == REF]

    assert isinstance(gadget, NotInstalled)
    assert (gadget.kind, gadget.code, gadget.reason, gadget.hint) == (GADGET, *why)
    assert [each for each in todo if each.ref == CONFIG and isinstance(each, Create)]


def test_a_deletion_takes_what_is_on_record(observed):
    """A deletion takes along objects of kinds that are on record, and keeps its hands off those that are not."""
    forgotten = {**observed, CONFIG: with_own_kinds(observed[CONFIG], ())}
    taken, kept = (deletion(CLUSTER.key, LiveCluster(objects=each)) for each in (observed, forgotten))

    assert REF in taken.removes
    assert REF not in kept.removes


@pytest.mark.parametrize(
    "text", ["", "x", "/x", "v1/", "v1/Secret", "v1/Pod,v1/ConfigMap", ",", "chronik.stream/v1alpha1/ChronikCluster"]
)
def test_a_record_that_says_anything_else(text):
    """What somebody wrote into the record that is no kind, or one that chronik reads for itself, is passed over."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    config["metadata"]["annotations"] = {"chronik.stream/own-kinds": text}

    assert own_kinds([config]) == set()


def test_stages():
    """What pods are made with comes before them; what nothing is known of comes last."""
    kinds = ("Gadget", "CronJob", "StatefulSet", "NetworkPolicy", "ExternalSecret", "ConfigMap", "Role")
    found = sorted(({"kind": each, "metadata": {"name": "a"}} for each in kinds), key=apply_order)

    assert [each["kind"] for each in found] == [
        *("Role", "ConfigMap", "ExternalSecret", "NetworkPolicy", "StatefulSet", "CronJob", "Gadget")
    ]
