"""What an older definition in a cluster does not know of our fields."""

from __future__ import annotations

import copy

import pytest

from chronik.api.skew import outdated, unknown_fields
from chronik.offline import loading as offline

DEFINITION = offline.definitions()[0]
KIND = {"group": "chronik.stream", "version": "v1alpha1", "kind": "ChronikCluster"}


def published(edit=lambda _root: None):
    """Return what a server publishes of a definition that was edited."""
    root = copy.deepcopy(DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    edit(root["properties"])
    return {"components": {"schemas": {"Other": {}, "Ours": root | {"x-kubernetes-group-version-kind": [KIND]}}}}


def without(*path):
    """Return an edit that takes away a field, or a value of an enum, at a path of keys of a schema."""

    def edit(root):
        *way, last = path
        for key in way:
            root = root[key]
        if isinstance(root, list):
            root.remove(last)
        else:
            del root[last]

    return edit


def free(root):
    """Let a spec be anything."""
    root["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def newer(root):
    """Add a field and a value of a later version."""
    root["spec"]["properties"]["tiering"] = {"type": "object"}
    root["spec"]["properties"]["storage"]["properties"]["backend"]["enum"].append("tape")


@pytest.mark.parametrize(
    ("edit", "unknown"),
    [
        (lambda _root: None, []),
        (newer, []),
        (free, []),
        (without("spec", "properties", "autoscaling"), ["spec.autoscaling"]),
        (
            without("spec", "properties", "storage", "properties", "s3", "properties", "region"),
            ["spec.storage.s3.region"],
        ),
        (without("spec", "properties", "storage", "properties", "backend", "enum", "s3"), ["spec.storage.backend: s3"]),
        (without("spec", "properties", "tolerations", "items", "properties", "key"), ["spec.tolerations[].key"]),
        (without("status", "properties", "secretDigests"), ["status.secretDigests"]),
        (without("status"), ["status"]),
    ],
    ids=["same", "newer", "free", "field", "below", "value", "item", "status", "no-status"],
)
def test_fields_that_a_definition_does_not_know(edit, unknown):
    """A field or value that we have and the definition has not is named by its path; what it has besides is not."""
    assert unknown_fields(DEFINITION, published(edit)) == unknown


GARBAGE = [None, [], "text", 1, {"x": None}]


@pytest.mark.parametrize("value", GARBAGE, ids=str)
def test_any_answer_will_do(value):
    """An answer that is no OpenAPI document, or lacks our kind, tells nothing; a broken schema knows no fields."""
    broken = {"components": {"schemas": {"Ours": {"properties": value, "x-kubernetes-group-version-kind": [KIND]}}}}

    assert unknown_fields(DEFINITION, value) == []
    assert unknown_fields(DEFINITION, {"components": value}) == []
    assert unknown_fields(DEFINITION, {"components": {"schemas": {"Ours": value}}}) == []
    assert unknown_fields(DEFINITION, broken) == ["spec", "status"]


def test_a_few_fields_are_named():
    """The message names some of the fields, says how many more there are, and what to apply."""
    text = outdated([f"spec.a{number}" for number in range(9)])

    assert "does not know spec.a0, spec.a1, spec.a2, spec.a3, spec.a4, spec.a5 and 3 more, so the API" in text
    assert text.endswith("`chronik schema crd | kubectl apply --server-side -f -`")
