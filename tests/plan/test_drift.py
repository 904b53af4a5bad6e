from __future__ import annotations

import json
from copy import deepcopy
from random import Random  # noqa: TC003  # used to build cases, too

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.recorded import FILES, at, recorded, with_value
from support.ssa.field_model import KINDS as TYPED_KINDS
from support.ssa.field_model import FieldModel, content, mutated
from support.ssa.server_side_apply import Conflicts

from chronik.manifest import CLUSTER_LABEL, FIELD_MANAGER, KINDS, MANAGED_BY, as_stored
from chronik.plan.changes import changes_of
from chronik.plan.conflicts import field_conflicts, port_collisions
from chronik.plan.drift import alters, applied_fields, drift, same, split, walk
from chronik.plan.managed_fields import (
    field_path,
    fields_of,
    is_atomic_map,
    leaves,
    list_keys,
    node_at,
    owners_of,
    server_path,
)
from chronik.plan.ownership import Owner, ownership_of

files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
OURS = "chronik-operator"
BUILT_IN = [kind for kind in KINDS if (kind.api_version, kind.name) in TYPED_KINDS]


def found(desired, live):
    """Walk, and return what is found as {path: kind}."""
    return {server_path(each.path): each.kind for each in walk(desired, live, applied_fields(live) or {})}


def test_every_kind_is_recorded():
    """There is a recording of every kind that chronik renders."""
    assert {recorded(path)[0]["kind"] for path in FILES} == {kind.name for kind in BUILT_IN}


@files
def test_right_after_an_apply_nothing_differs(path):
    """An object that a real server has just been given walks clean, whatever the server did to its spelling."""
    desired, live = recorded(path)

    assert found(desired, live) == {}


@files
def test_changed_values_are_found(path):
    """Whichever field of ours has another value, that very field is found, and nothing else."""
    desired, live = recorded(path)
    fields = applied_fields(live)
    tried = 0
    for leaf in leaves(fields):
        try:
            value = at(live, leaf)
        except LookupError:
            continue  # a zero that is not shown
        if leaf[-1].startswith("k:") and isinstance(value, dict):
            continue  # an item itself; its fields are tried one by one
        if value in ({}, []):
            continue  # owned as a whole, with nothing in it
        tried += 1
        changed = with_value(live, leaf, other_than(value))
        if leaf[-1].removeprefix("f:") in key_names(leaf):
            continue  # a key: with another one it is another item
        assert [(each.path, each.kind) for each in walk(desired, changed, fields)] == [(leaf, "differs")]
    assert tried > 3


@files
def test_lost_fields_are_found(path):
    """Whichever field somebody took from us is found, by itself or as part of something we own nothing of any more."""
    desired, live = recorded(path)
    fields = applied_fields(live)
    for leaf in leaves(fields):
        if leaf[-1].startswith("k:") and node_at(fields, leaf):
            continue  # an item stays ours as long as its fields are
        lost = with_value_in_tree(fields, leaf)
        differences = walk(desired, live, lost)

        assert [(each.kind, each.path) for each in differences] == [("missing", leaf[: len(differences[0].path)])]
        assert not alters(differences[0], live, lost)


@files
def test_fields_no_longer_wanted_are_found(path):
    """Whichever field is dropped from the manifest, that very field is found, and nothing else."""
    desired, live = recorded(path)
    fields = applied_fields(live)
    for leaf in leaves(fields):
        if leaf[-1].startswith("k:") and node_at(fields, leaf):
            continue
        if leaf[-1].removeprefix("f:") in key_names(leaf):
            continue  # an item without its key is none
        differences = walk(with_value(desired, leaf, None), live, fields)

        assert [(each.kind, each.path) for each in differences] == [("extra", leaf)]


@files
def test_fields_of_others_are_not_found(path):
    """Whatever others add beside our fields, nothing is found."""
    desired, live = recorded(path)
    live["metadata"].setdefault("annotations", {})["deployment.kubernetes.io/revision"] = "1"
    live["metadata"]["labels"]["team"] = "a"
    live["metadata"]["finalizers"] = ["example.com/hold"]
    live["status"] = {"readyReplicas": 3}
    if "template" in live.get("spec", {}):
        pod = live["spec"]["template"]["spec"]
        pod["containers"].insert(0, {"name": "injected", "image": "sidecar:1"})
        pod["containers"][1].setdefault("env", []).append({"name": "INJECTED", "value": "1"})
        pod.setdefault("volumes", []).append({"name": "injected", "emptyDir": {}})
        pod["activeDeadlineSeconds"] = 9
    if live["kind"] == "ConfigMap":
        live["data"]["theirs"] = "x"

    assert found(desired, live) == {}


def other_than(value):
    """Return a value of the same shape that means something else."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return "7" if value != "7" else "8"
    if isinstance(value, list):
        return [*value[:-1], other_than(value[-1])]
    return value | {key: other_than(part) for key, part in list(value.items())[:1]}


def key_names(leaf):
    """Return the key fields of the list item that a leaf is directly in."""
    return list(json.loads(leaf[-2][2:])) if len(leaf) > 1 and leaf[-2].startswith("k:") else []


def with_value_in_tree(fields, leaf):
    """Return a tree without one leaf, and without what is empty then."""
    if len(leaf) == 1:
        return {key: node for key, node in fields.items() if key != leaf[0]}
    below = with_value_in_tree(fields[leaf[0]], leaf[1:])
    return {key: node for key, node in (fields | {leaf[0]: below}).items() if key != leaf[0] or below}


@pytest.mark.parametrize(
    ("want", "live", "place", "expected"),
    [
        ("1", "1000m", ("requests", "cpu"), True),
        ("1024Mi", "1Gi", ("limits", "memory"), True),
        (0.5, "500m", ("requests", "cpu"), True),
        (2, "2", ("limits", "example.com/gpu"), True),
        ("1Gi", "2Gi", ("requests", "storage"), False),
        ("1", "1000m", ("labels", "sizeLimit"), False),
        ("1", "1000m", ("data", "limits"), False),
        ("1", "1000m", ("env", "value"), False),
        ("1", "1000m", ("target", "averageValue"), True),
        ("1Ki", "1024", ("emptyDir", "sizeLimit"), True),
        ("x", "1", ("requests", "cpu"), False),
        ("80", 80, ("httpGet", "port"), False),
        ("20%", "20%", ("spec", "maxUnavailable"), True),
        (False, None, ("spec", "hostNetwork"), True),
        (0, None, ("spec", "minReadySeconds"), True),
        ("", None, ("spec", "priorityClassName"), True),
        ([], None, ("container", "args"), True),
        (True, None, ("spec", "hostNetwork"), False),
        ({"fieldPath": "x"}, {"fieldPath": "x", "apiVersion": "v1"}, ("valueFrom", "fieldRef"), True),
        ({"fieldPath": "x"}, {"fieldPath": "x", "apiVersion": "v2"}, ("valueFrom", "fieldRef"), False),
        ({"a": "1"}, {"a": "1", "b": "2"}, ("spec", "nodeSelector"), False),
        ({"a": "1"}, {"a": "1", "apiVersion": "v1"}, ("spec", "nodeSelector"), False),
        ([{"key": "a"}], [{"key": "a"}, {"key": "b"}], ("spec", "tolerations"), False),
        ([{"key": "a"}, {"key": "b"}], [{"key": "b"}, {"key": "a"}], ("spec", "tolerations"), False),
        ([{"key": "a"}], [{"key": "a", "tolerationSeconds": 3}], ("spec", "tolerations"), False),
    ],
)
def test_spellings_of_one_value(want, live, place, expected):
    """The server's spellings, zeroes and defaults count as the value applied, and nothing else does."""
    assert same(want, live, place) is expected


SECRET = {"kind": "Secret", "metadata": {"name": "s"}}


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({"stringData": {"a": "x"}}, {"data": {"a": "eA=="}}),
        ({"stringData": {"a": "é"}, "data": {"a": "eQ==", "b": "eg=="}}, {"data": {"a": "w6k=", "b": "eg=="}}),
        ({"data": {"a": "e\nA=\r\n=\n"}}, {"data": {"a": "eA=="}}),
        ({"data": {"a": "eB=="}}, {"data": {"a": "eA=="}}),
        ({"stringData": {}}, {"stringData": {}}),
        ({"stringData": {"a": 1}}, {"stringData": {"a": 1}}),
        ({"stringData": "a"}, {"stringData": "a"}),
        ({"data": {"a": "no base64", "b": 1}}, {"data": {"a": "no base64", "b": 1}}),
        ({"type": "Opaque"}, {"type": "Opaque"}),
    ],
)
def test_secrets_are_compared_as_they_are_stored(fields, stored):
    """Text is folded into data, in the server's base64; what is neither is left for the server to refuse."""
    assert as_stored(SECRET | fields) == SECRET | stored
    assert as_stored({"kind": "ConfigMap"} | fields) == {"kind": "ConfigMap"} | fields


def deployment(*containers, **spec):
    """Return a Deployment of the most common shape."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": list(containers)}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec},
    }


def container(*env, **more):
    """Return a container with environment variables of the given names."""
    variables = {"env": [{"name": name, "value": "1"} for name in env]} if env else {}
    return {"name": "c", "image": "i", **variables, **more}


def test_order_is_found():
    """Another order of environment variables is a difference: later ones may refer to earlier ones."""
    model = FieldModel(deployment())
    model.apply(deployment(container("A", "B")))

    assert found(deployment(container("B", "A")), model.live) == {
        '.spec.template.spec.containers[name="c"].env': "order"
    }


def test_order_among_others_is_not_found():
    """Items of others may stand between ours, as long as ours keep their order."""
    model = FieldModel(deployment())
    model.apply(deployment(container("A", "B")))
    between = deepcopy(model.live)
    between["spec"]["template"]["spec"]["containers"][0]["env"].insert(1, {"name": "Z", "value": "1"})
    model.edit(between, "injector")

    assert found(deployment(container("A", "B")), model.live) == {}


def test_an_edit_takes_the_field():
    """After somebody edits a field of ours it is missing, with the live value and its new owner at hand."""
    model = FieldModel(deployment())
    model.apply(deployment(container()))
    model.edit(deployment(container(image="j"), replicas=1), "kubectl-edit")
    fields = applied_fields(model.live)
    difference = walk(deployment(container()), model.live, fields)[0]

    assert (difference.kind, difference.desired, difference.live) == ("missing", "i", "j")
    assert [owner.manager for owner in owners_of(difference.path, model.live)] == ["kubectl-edit"]
    assert [
        (owner.path, owner.manager, owner.operation)
        for owner in field_conflicts(deployment(container()), model.live, fields)
    ] == [('.spec.template.spec.containers[name="c"].image', "kubectl-edit", "Update")]


def test_shared_fields_do_not_change_value():
    """Letting go of a field that somebody else applies, too, changes no value; of one that is ours alone, it does."""
    model = FieldModel(deployment())
    model.apply(deployment(container(), replicas=2))
    model.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 2}}, "x"
    )
    fields = applied_fields(model.live)
    alone, shared = walk(deployment(), model.live, fields)

    assert (shared.path, alters(shared, model.live, fields)) == (("f:spec", "f:replicas"), False)
    assert alone.kind == "extra"
    assert alters(alone, model.live, fields)


def test_an_object_without_our_entry_is_all_missing():
    """What we never applied walks as missing, field by field of the document's top, and never its bookkeeping."""
    desired, live = recorded(FILES[0])
    live["metadata"]["managedFields"] = []

    assert set(found(desired, live).values()) == {"missing"}
    assert ".metadata.labels" in found(desired, live)


@files
def test_everything_is_owned_as_the_server_records_it(path):
    """The tree made of a manifest is what a real server records for whoever applies it."""
    desired, live = recorded(path)

    assert leaves_of(fields_of(desired)) == leaves_of(applied_fields(live))


def leaves_of(fields):
    """Return all paths of a tree that are owned."""
    return {path for path in leaves(fields) if path}


@pytest.mark.parametrize("kind", [kind.name for kind in BUILT_IN] + ["Secret"])
def test_lists_and_maps_are_known(kind):
    """Which lists have keys and which maps are owned whole is as in the server's schema, for every field of a kind."""
    found = next(each for (_, name), each in TYPED_KINDS.items() if name == kind)
    places = dict(places_of(found.type, ("", ""), {"status"}))

    for place, of in places.items():
        if of.form == "list":
            assert list_keys(place) == (None if of.atomic else of.keys), place
            assert of.atomic or is_atomic_map(place) == of.element.atomic, place
        else:
            assert is_atomic_map(place) == of.atomic, place


def places_of(of, place, left_out=frozenset(), above=()):
    """Yield each list, map and struct of a type that is not inside one that is owned whole."""
    if of.form not in {"list", "map", "struct"} or of in above:
        return
    yield place, of
    if of.atomic:
        return
    if of.form == "struct":
        for name, child in of.fields.items():
            if name not in left_out:
                yield from places_of(child, (place[1], name), above=(*above, of))
    elif of.form == "list":
        yield from ((at, each) for at, each in places_of(of.element, ("", place[1]), above=above) if at[1] != place[1])


def test_paths_are_spelt_as_the_server_does():
    """Paths read as in the server's conflicts, and as our own messages write them."""
    path = ("f:metadata", "f:labels", "f:a.b/c", 'k:{"port":80,"protocol":"TCP"}', 'v:"x"', "i:0")

    assert server_path(path) == '.metadata.labels.a.b/c[port=80,protocol="TCP"][="x"][0]'
    assert field_path(path) == ("metadata", "labels", "a.b/c", 'port=80,protocol="TCP"', '="x"', "0")


@settings(deadline=None, max_examples=examples(300))
@given(st.sampled_from(FILES), st.randoms(use_true_random=False))
def test_walks_agree_with_an_apply(path, random):
    """Whatever we applied and others did, the walk finds something exactly if a forced apply would change something."""
    model, desired = a_history(path, random)
    before = deepcopy(model.live)
    differences = walk(desired, before, applied_fields(before) or {})
    changed = model.apply(desired)
    if not differences:
        assert content(before)[0] == content(model.live)[0]
        assert only_empty_lists(owned_by_us(before) ^ owned_by_us(model.live), desired)
    else:
        filled = not any(each.desired for each in differences)  # zeroes may give way to a default, again and again
        assert changed or filled, differences


@settings(deadline=None, max_examples=examples(300))
@given(st.sampled_from(FILES), st.randoms(use_true_random=False))
def test_conflicts_are_foreseen(path, random):
    """The conflicts foreseen are those an unforced apply runs into, but for maps that are empty or not there."""
    model, desired = a_history(path, random)
    live = deepcopy(model.live)
    fields = applied_fields(live) or {}
    foreseen = {(owner.path, owner.manager) for owner in field_conflicts(desired, live, fields)}
    try:
        model.apply(desired, force=False)
        actual = {}
    except Conflicts as conflicts:
        actual = {(cause["field"], cause["message"].split('"')[1]): cause for cause in conflicts.causes}

    if walk(desired, live, fields):
        assert foreseen <= actual.keys()
        unforeseen = [path for path, _ in actual.keys() - foreseen]
        assert [path for path in unforeseen if not is_map_that_is_empty(path, desired, live)] == []


def a_history(path: object, random: Random):
    """Return an object after we and others wrote to it at random, and what we would apply next."""
    base, _ = recorded(path)
    model = FieldModel(base)
    desired = mutated(base, random, random.choice([0, 0, 1, 3]))
    model.apply(desired)
    for _ in range(random.choice([0, 1, 1, 2])):
        if random.random() < 0.3:
            theirs = mutated(base, random, 2)
            part = random.choice([key for key in theirs if key not in {"apiVersion", "kind"}])
            name = {"name": base["metadata"]["name"]}
            model.apply(
                {**base, "metadata": name} | {part: theirs[part] | name if part == "metadata" else theirs[part]},
                "other",
            )
        else:
            model.edit(mutated(model.live, random, random.choice([1, 2])), random.choice(["kubectl-edit", "x"]))
    return model, mutated(desired, random, random.choice([0, 0, 1, 2]))


def owned_by_us(live):
    """Return the set of fields that the model says are ours."""
    return next((fields for manager, fields in content(live)[1].items() if manager.name == OURS), frozenset())


def only_empty_lists(paths, desired):
    """Tell whether all paths are those of lists that are applied empty."""
    return all(at(desired, path) == [] for path in paths)


def is_map_that_is_empty(path, desired, live):
    """Tell whether a path, in the server's spelling, leads to a map that we want filled and that has nothing in it."""
    keys = tuple(f"f:{key}" for key in path.strip(".").split("."))
    return isinstance(value_at(desired, keys), dict) and not value_at(live, keys)


def value_at(value, path):
    """Return the value at a path, or None."""
    try:
        return at(value, path)
    except (LookupError, TypeError):
        return None


TELLING = [
    ({"key": "a"}, {"key": "a", "tolerationSeconds": 0}),
    ({"key": "a", "tolerationSeconds": 0}, {"key": "a"}),
    ({"topologyKey": "host"}, {"topologyKey": "host", "namespaceSelector": {}}),
    ({"topologyKey": "host", "labelSelector": {}}, {"topologyKey": "host"}),
]


@pytest.mark.parametrize(("want", "live"), TELLING)
def test_empty_is_not_absent_where_that_matters(want, live):
    """A toleration of no seconds ends at once, and a selector of nothing takes all: neither is the same as none."""
    assert not same([want], [live], ("spec", "tolerations"))
    assert same([{"key": "a"}], [{"key": "a", "value": ""}], ("spec", "tolerations"))


def test_an_object_without_an_owner_may_have_lost_it():
    """Of an object of ours without an owner, both ways to lose one are told: none of them is known."""
    fields = [{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {}}]
    labels = {CLUSTER_LABEL: "c"} | MANAGED_BY
    live = {"kind": "ConfigMap", "metadata": {"name": "c-config", "labels": labels, "managedFields": fields}}

    found = ownership_of(live, "c", "uid")

    assert found.owner is Owner.UNOWNED
    assert "an apply from the command line or an edit" in found.reason


@pytest.mark.parametrize("name", [["x"], {"a": 1}, None, 5])
def test_names_that_no_server_sends(name):
    """A list item whose name is no text, as only a broken server sends it, is compared like any other."""
    desired = deployment(container())
    live = deepcopy(as_stored(desired))
    live["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    live["spec"]["template"]["spec"]["containers"] = [{"name": name, "image": "x", "ports": [{"name": name}]}]

    assert changes_of(split(drift(desired, live)), live)
    assert port_collisions(desired, live) == ((), {})
