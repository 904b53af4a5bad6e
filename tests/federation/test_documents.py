"""Federations as documents: what each member gets, what is refused and where that is said, and what is rendered."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.cli_place import run

from chronik.federation.document import federation_of, member_document, merged, sent_document
from chronik.manifest import FEDERATION_KIND
from chronik.offline import loading
from chronik.offline.federations import read_federation
from chronik.problem import format_path
from chronik.quantity import seconds_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "federation" / "orders.yaml"
SPEC = {
    "storage": {"backend": "local"},
    "metastore": {"connection": {"host": "postgres", "database": "chronik", "credentialsSecret": "s"}},
    "image": {"controller": "c:1", "ingest": "i:1"},
    "resources": {"ingest": {"cpu": "1", "memory": "1Gi"}},
}


def document(*members: dict[str, Any], spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a federation of these members, by default of one."""
    members = members or ({"name": "east", "kubeconfig": {"secret": "east"}},)
    return {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": FEDERATION_KIND,
        "metadata": {"name": "orders", "namespace": "hub"},
        "spec": {"template": {"spec": SPEC | (spec or {})}, "members": list(members), **more},
    }


def member(name: str, **more: Any) -> dict[str, Any]:
    """Return a member with a kubeconfig of its own."""
    return {"name": name, "kubeconfig": {"secret": name}, **more}


def errors(raw: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the place and the message of each error."""
    found, problems = read_federation(raw, None, "default")
    wrong = [each for each in problems if each.severity == "error"]
    assert bool(wrong) == (found is None)
    return [(format_path(each.path), each.message) for each in wrong]


def test_a_member_gets_the_template_and_what_is_different_there():
    """Overrides are merged into the template, and name and namespace are the federation's where none are given."""
    raw = document(member("east"), member("west", namespace="kafka", cluster="o", overrides={"ingestNodes": 6}))
    found, _ = read_federation(raw, None, "default")
    assert found is not None
    east, west = (member_document(found.federation, each) for each in found.federation.members)

    assert (east["metadata"], east["spec"]) == ({"name": "orders", "namespace": "hub"}, SPEC)
    assert (west["metadata"], west["spec"]) == ({"name": "o", "namespace": "kafka"}, SPEC | {"ingestNodes": 6})
    assert found.clusters["west"].spec["ingestNodes"] == 6


def test_a_revision_tells_what_a_member_gets_and_nothing_else():
    """Another member, another wave or another order change no member's revision; an override changes its own alone."""
    raw = document(member("east"), member("west"))
    other = copy.deepcopy(raw)
    other["spec"]["members"] = [member("new"), member("west", overrides={"ingestNodes": 6}), member("east", wave=3)]
    one, two = (_sent(each) for each in (raw, other))

    assert one["east"] == two["east"]
    assert one["west"] != two["west"]


def _sent(raw: dict[str, Any]) -> dict[str, Any]:
    found, problems = read_federation(raw, None, "default")
    assert found is not None, problems
    return {each.name: sent_document(found.federation, each) for each in found.federation.members}


WRONG = {
    "template": (document(spec={"controllers": 0}), "spec.template.spec.controllers"),
    "override": (
        document(member("east"), member("west", overrides={"controllers": 0})),
        "spec.members[1].overrides.controllers",
    ),
    "override below": (
        document(member("east", overrides={"storage": {"size": "x"}})),
        "spec.members[0].overrides.storage.size",
    ),
    "override takes away": (document(member("east", overrides={"storage": None})), "spec.template.spec"),
    "unknown field": (document(spec={"controlers": 3}), "spec.template.spec.controlers"),
    "twice": (document(member("east"), member("east", wave=1)), "spec.members[1]"),
    "same place": (document(member("a"), member("b", kubeconfig={"secret": "a"})), "spec.members"),
    "same place by default": (
        document(member("a"), member("b", kubeconfig={"secret": "a"}, namespace="hub", cluster="orders")),
        "spec.members[1]",
    ),
    "local and elsewhere": (document(member("a", inCluster=True)), "spec.members"),
    "two without a kubeconfig": (
        document(member("a", kubeconfig=None, context="x"), member("b", kubeconfig=None, context="x")),
        "spec.members",
    ),
    "no members": (document() | {"spec": {"template": {"spec": SPEC}, "members": []}}, "spec.members"),
    "soak": (document(rollout={"soak": "8d"}), "spec.rollout.soak"),
    "budget": (document(rollout={"failureBudget": "200%"}), "spec.rollout.failureBudget"),
    "name": (document(member("East")), "spec.members[0].name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_where_it_stands(name):
    """An error of a member's cluster is told in the overrides that say it, else in the template."""
    raw, place = WRONG[name]

    assert place in [each for each, _ in errors(raw)]


def test_members_by_contexts_of_their_own_names_are_not_the_same():
    """Two that name neither kubeconfig nor context are reached by the contexts of their names, and one is local."""
    here = {"name": "home", "inCluster": True}

    assert errors(document({"name": "a"}, {"name": "b"}, here)) == []


def test_an_error_of_the_template_is_told_once_and_of_some_members_by_name():
    """What is wrong for all members is one error; what is wrong for some names them."""
    all_of_them = document(member("a"), member("b"), spec={"controllers": 0})
    some = document(member("a"), member("b", overrides={"metastore": None}))

    assert len(errors(all_of_them)) == 1
    assert all("(member b)" in message for _, message in errors(some))


def test_the_hub_keeps_its_annotations():
    """A template that sets an annotation of the hub's is refused."""
    raw = document()
    raw["spec"]["template"]["metadata"] = {"annotations": {"chronik.stream/federation-revision": "x"}}

    assert errors(raw)[0][0].endswith("annotations[chronik.stream/federation-revision]")


@pytest.mark.parametrize(
    ("value", "count", "wanted"), [(3, 10, 3), ("25%", 10, 3), ("1%", 3, 1), ("100%", 4, 4)], ids=str
)
def test_a_share_of_members_is_rounded_up_for_concurrency(value, count, wanted):
    """At least one member may be under way at a time, and a percentage is of all members."""
    raw = document(*(member(f"m{number}") for number in range(count)), rollout={"maxConcurrent": value})
    found, _ = read_federation(raw, None, "default")

    assert found is not None
    assert found.federation.rollout.max_concurrent == wanted


def test_a_share_of_members_is_rounded_down_for_the_budget():
    """A percentage allows no more failures than that."""
    raw = document(*(member(f"m{number}") for number in range(5)), rollout={"failureBudget": "30%"})
    found, _ = read_federation(raw, None, "default")

    assert found is not None
    assert found.federation.rollout.failure_budget == 1


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [  # the test cases of RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_the_standard(target, patch, wanted):
    """Overrides are a JSON merge patch as RFC 7386 has it."""
    assert merged(target, patch) == wanted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_a_merge_patch_merged_twice_is_as_good_as_once(target, patch):
    """Merging is idempotent, and changes neither side."""
    before = copy.deepcopy((target, patch))
    once = merged(target, patch)

    assert merged(once, patch) == once
    assert (target, patch) == before


def test_durations():
    """Durations are seconds, minutes, hours and days."""
    assert [seconds_of(each) for each in ("0s", "15m", "2h", "7d")] == [0, 900, 7200, 604_800]


def test_a_federation_is_read_with_its_defaults():
    """What a document leaves out has the defaults of the schema."""
    valid, _ = loading.validator_of(FEDERATION_KIND).check(document())
    assert valid is not None
    rollout = federation_of(valid).rollout

    assert (rollout.max_concurrent, rollout.soak, rollout.failure_budget, rollout.timeout) == (1, 0, 0, 3600)


def test_namespace_and_cluster_of_a_member_never_change():
    """A change that would leave a ChronikCluster behind is refused; a new kubeconfig is not."""
    validator = loading.validator_of(FEDERATION_KIND)
    old = document(member("east"), member("west"))
    moved = document(member("east", namespace="elsewhere"), member("west"))
    rotated = document(member("east", kubeconfig={"secret": "other"}), member("new"))

    assert [each.code for each in validator.check(moved, old=old)[1]] == ["member-moves"]
    assert validator.check(rotated, old=old)[1] == ()


# --- commands ---------------------------------------------------------------------------------------------------------


def test_render_writes_a_folder_for_each_member(tmp_path):
    """Each member has a folder with its ChronikCluster; one that is no member any more is told, and stays."""
    folder = tmp_path / "out"
    done = run("render", "-f", str(EXAMPLE), "--output-dir", str(folder))
    raw = yaml.safe_load(EXAMPLE.read_text())
    raw["spec"]["members"].pop()
    (tmp_path / "f.yaml").write_text(json.dumps(raw))
    again = run("render", "-f", str(tmp_path / "f.yaml"), "--output-dir", str(folder))

    assert (done.code, again.code) == (0, 0)
    assert sorted(each.name for each in folder.iterdir()) == ["east", "south", "west"]
    (west,) = (each for each in (folder / "west").iterdir() if "chronikcluster" in each.name)
    found = yaml.safe_load(west.read_text())
    assert (found["kind"], found["metadata"]["namespace"], found["spec"]["ingestNodes"]) == (
        "ChronikCluster",
        "kafka",
        6,
    )
    assert "south stays" in again.err
    assert "unchanged" in again.err


def test_render_prints_the_objects_of_a_member():
    """With --objects each member's objects are printed, as its operator makes them."""
    done = run("render", "-f", str(EXAMPLE), "--members", "west", "--objects", "-o", "json")
    items = json.loads(done.out)["items"]

    assert {each["metadata"]["namespace"] for each in items} == {"kafka"}
    assert (
        next(
            each["spec"]["replicas"]
            for each in items
            if (each["kind"], each["metadata"]["name"]) == ("StatefulSet", "orders-ingest")
        )
        == 6
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("render", "-f", str(EXAMPLE), "--members", "north"), "has no member north"),
        (("render", "-f", str(EXAMPLE.parents[1] / "minimal.yaml"), "--objects"), "there is none"),
        (("explain", "spec.storage", "--of", "service/x", "-f", str(EXAMPLE)), "is for many Kubernetes clusters"),
        (("diff", "--from", str(EXAMPLE), "-f", str(EXAMPLE)), "is for many Kubernetes clusters"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, words):
    """Options that are for federations, members that are not there, and commands for one cluster are refused."""
    done = run(*arguments)

    assert done.code == 2
    assert words in done.err


def test_validate_counts_members():
    """A valid federation is said to be so, with how many members it has."""
    assert run("validate", "-f", str(EXAMPLE)).out == "1 federation of 3 members valid\n"


def test_the_definition_comes_only_if_it_is_asked_for():
    """`schema crd` has the definition of ChronikFederation with --features federation only."""
    plain, asked = run("schema", "crd"), run("schema", "crd", "--features", "federation")

    assert "chronikfederations" not in plain.out
    assert "name: chronikfederations.chronik.stream" in asked.out
