"""Strategic merge patches: the directives one by one, and any patch beside what kubectl makes of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from typing import Any

import pytest
from support.clusters import small_cluster
from support.patches_of import strategic_patch
from support.real_server import find_binary

from chronik.kubernetes_types import FieldTypes
from chronik.offline import assets, loading
from chronik.render.strategic_merge import MergeError, strategic_merge

TYPES = FieldTypes(assets.kubernetes_fields())
PATCHES = int(os.environ.get("CHRONIK_PATCHES", "25"))
"""How many patches are compared with kubectl's, at 60 ms each."""

CONTAINERS = [{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}, {"name": "c"}]


def pod(**spec: Any) -> dict[str, Any]:
    """Return a pod."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": ["one", "two"]}, "spec": spec}


def merged(patch: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return the spec of a pod after a patch of it."""
    return strategic_merge(pod(**spec), {"spec": patch}, TYPES)["spec"]


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"b": "2"}}, {"nodeSelector": {"a": "1", "b": "2"}}),
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"a": None, "b": None}}, {"nodeSelector": {}}),
        (
            {"nodeSelector": {"a": "1"}},
            {"nodeSelector": {"$patch": "replace", "b": "2"}},
            {"nodeSelector": {"b": "2"}},
        ),
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"$patch": "delete"}}, {"nodeSelector": {}}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"$retainKeys": ["y", "z"], "z": 3}}, {"a": {"y": 2, "z": 3}}),
        (
            {"containers": CONTAINERS},
            {"containers": [{"name": "b", "image": "b:1"}]},
            {"containers": [CONTAINERS[0], {"name": "b", "image": "b:1"}, {"name": "c"}]},
        ),
        ({"containers": CONTAINERS}, {"containers": [{"name": "d"}]}, {"containers": [{"name": "d"}, *CONTAINERS]}),
        (
            {"containers": CONTAINERS},
            {"containers": [{"name": "b", "$patch": "delete"}]},
            {"containers": [CONTAINERS[0], CONTAINERS[2]]},
        ),
        (
            {"containers": CONTAINERS},
            {"containers": [{"name": "d", "image": None}, {"$patch": "replace"}]},
            {"containers": [{"name": "d"}]},
        ),
        (
            {"containers": CONTAINERS},
            {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "a", "tty": True}]},
            {"containers": [{"name": "b"}, {"name": "c"}, {**CONTAINERS[0], "tty": True}]},
        ),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}, {"tolerations": [{"key": "b"}]}),
        ({}, {"volumes": [{"name": "a", "emptyDir": {"medium": None}}]}, {"volumes": [{"name": "a", "emptyDir": {}}]}),
        ({}, {"volumes": [{"name": "a", "$patch": "delete"}]}, {"volumes": []}),
    ],
    ids=[
        *("a-map-is-merged", "null-removes", "a-map-is-replaced", "a-map-is-emptied", "retain-keys"),
        *("an-item-is-merged", "a-new-item-is-first", "an-item-is-deleted", "a-list-is-replaced", "an-order"),
        *("a-list-without-merge-key-is-replaced", "nulls-go-where-nothing-was", "deleting-from-nothing"),
    ],
)
def test_merging(before: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]) -> None:
    """Maps are merged, lists by their merge key or replaced, and directives are carried out."""
    assert merged(patch, **before) == after


def test_sets_are_joined() -> None:
    """A list that is a set gets what is new, and loses what a patch takes out of it."""
    added = strategic_merge(pod(), {"metadata": {"finalizers": ["three", "one"]}}, TYPES)
    removed = strategic_merge(pod(), {"metadata": {"$deleteFromPrimitiveList/finalizers": ["one"]}}, TYPES)

    assert added["metadata"]["finalizers"] == ["three", "one", "two"]
    assert removed["metadata"]["finalizers"] == ["two"]


def test_nothing_is_known_of_other_kinds() -> None:
    """An object of a kind that Kubernetes does not have is merged as by a JSON merge patch: its lists are replaced."""
    theirs = {"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"items": [{"name": "a"}], "x": {"y": 1}}}
    patch = {"spec": {"items": [{"name": "b"}], "x": {"z": 2}}}

    assert strategic_merge(theirs, patch, TYPES)["spec"] == {"items": [{"name": "b"}], "x": {"y": 1, "z": 2}}


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"containers": [{"image": "x"}]}, ("spec", "containers", 0)),
        ({"containers": [{"$patch": "delete"}]}, ("spec", "containers", 0)),
        ({"containers": ["a"]}, ("spec", "containers", 0)),
        ({"containers": [{"name": "a", "$patch": "merge"}]}, ("spec", "containers", 0, "$patch")),
        ({"nodeSelector": {"$patch": "merge"}}, ("spec", "nodeSelector", "$patch")),
        ({"nodeSelector": {"$retainKeys": ["b"], "c": "1"}}, ("spec", "nodeSelector", "$retainKeys")),
        ({"$setElementOrder/containers": "a"}, ("spec", "$setElementOrder/containers")),
        ({"$setElementOrder/containers": [{}]}, ("spec", "$setElementOrder/containers")),
        ({"$deleteFromPrimitiveList/args": "a"}, ("spec", "$deleteFromPrimitiveList/args")),
    ],
    ids=range(9),
)
def test_what_cannot_be_merged(patch: dict[str, Any], path: tuple[str | int, ...]) -> None:
    """A patch that contradicts itself or the types is an error that says where."""
    with pytest.raises(MergeError) as caught:
        merged(patch, containers=CONTAINERS, nodeSelector={"a": "1"})

    assert caught.value.path == path


def test_nothing_is_changed_in_place() -> None:
    """Neither the object nor the patch is changed, so that a patch can be used for many objects."""
    original, patch = pod(containers=CONTAINERS), {"spec": {"containers": [{"name": "a", "env": [{"name": "Y"}]}]}}
    copies = json.loads(json.dumps([original, patch]))

    strategic_merge(original, patch, TYPES)

    assert [original, patch] == copies


# --- beside kubectl ---------------------------------------------------------------------------------------------------


def comparable(value: Any) -> Any:
    """Return a value without what Go's types drop, and without directives that kubectl leaves in what was replaced."""
    if isinstance(value, dict):
        kept = {key: comparable(item) for key, item in value.items() if key != "creationTimestamp"}
        return {key: item for key, item in kept.items() if item not in ({}, [], "", None, False, 0)}
    if isinstance(value, list):
        return [comparable(item) for item in value if not (isinstance(item, dict) and "$patch" in item)]
    return value


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """Return objects with much to patch."""
    cluster = small_cluster(searchNodes=2, security={"tlsEnabled": True, "tlsSecret": "tls"})
    kinds = {"StatefulSet", "Deployment", "Service", "ConfigMap", "ServiceAccount"}
    return [each for each in loading.renderer()(cluster) if each["kind"] in kinds]


def test_kubectl_agrees(objects: list[dict[str, Any]], tmp_path: Any) -> None:
    """What a patch makes of an object is what `kubectl patch --type=strategic` makes of it."""
    kubectl = find_binary("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl to compare with")
    file = tmp_path / "object.json"
    refused = 0
    for seed in range(PATCHES):
        chance = random.Random(seed)
        original = chance.choice(objects)
        patch = strategic_patch(chance, original, TYPES)
        file.write_text(json.dumps(original))
        command = [kubectl, "patch", "--local", "-f", file, "--type=strategic", "-p", json.dumps(patch), "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            refused += 1
            continue
        assert comparable(json.loads(done.stdout)) == comparable(strategic_merge(original, patch, TYPES)), (seed, patch)
    assert refused < PATCHES / 5, "most patches have to be ones that kubectl takes"
