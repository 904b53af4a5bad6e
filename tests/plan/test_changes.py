from __future__ import annotations

import base64

import pytest

from chronik.errors import FieldOwner
from chronik.plan.changes import Change, Mask, changes_of, hidden_secrets
from chronik.plan.drift import Difference

BEFORE, AFTER = "*** (before)", "*** (after)"
STATEFULSET = {"kind": "StatefulSet", "metadata": {"name": "s"}}
SECRET = {"kind": "Secret", "metadata": {"name": "s"}}
TEMPLATE = ("f:spec", "f:template", "f:spec")


def shown(kind, path, live, desired, *, of=STATEFULSET, mask=None):
    """Return the changes that one difference makes."""
    return changes_of([Difference(path, kind, desired, live)], of, mask=mask or Mask())


@pytest.mark.parametrize(
    ("kind", "path", "live", "desired", "expected"),
    [
        ("differs", ("f:spec", "f:replicas"), 1, 2, [("spec.replicas", 1, 2)]),
        ("missing", ("f:metadata", "f:labels", "f:a.b/c"), None, "x", [("metadata.labels[a.b/c]", None, "x")]),
        (
            "extra",
            (*TEMPLATE, "f:tolerations"),
            [{"key": "a"}],
            None,
            [("spec.template.spec.tolerations", [{"key": "a"}], None)],
        ),
        (
            "differs",
            (*TEMPLATE, "f:tolerations"),
            [{"key": "a", "effect": "NoSchedule"}],
            [{"key": "b", "effect": "NoSchedule"}],
            [("spec.template.spec.tolerations[0].key", "a", "b")],
        ),
        (
            "differs",
            (*TEMPLATE, "f:tolerations"),
            [{"key": "a"}],
            [],
            [("spec.template.spec.tolerations", [{"key": "a"}], [])],
        ),
        (
            "differs",
            (*TEMPLATE, "f:nodeSelector"),
            {"disk": "ssd", "zone": "a"},
            {"disk": "ssd"},
            [("spec.template.spec.nodeSelector.zone", "a", None)],
        ),
        (
            "differs",
            ("f:valueFrom", "f:fieldRef"),
            {"fieldPath": "a", "apiVersion": "v1"},
            {"fieldPath": "b"},
            [("valueFrom.fieldRef.fieldPath", "a", "b")],
        ),
        (
            "missing",
            ("f:spec",),
            {"replicas": 1, "paused": True, "template": {"containers": [{"name": "c", "image": "i", "tty": True}]}},
            {"replicas": 2, "template": {"containers": [{"name": "c", "image": "j"}]}},
            [("spec.replicas", 1, 2), ('spec.template.containers[name="c"].image', "i", "j")],
        ),
        ("missing", ("f:spec", "f:replicas"), 2, 2, [("spec.replicas", 2, 2)]),
        (
            "missing",
            ("f:spec", "f:securityContext"),
            {"runAsUser": 1, "runAsNonRoot": True},
            {"runAsNonRoot": True, "runAsUser": 1},
            [("spec.securityContext", *[{"runAsNonRoot": True, "runAsUser": 1}] * 2)],
        ),
        (
            "order",
            ("f:env",),
            ['k:{"name":"A"}', 'k:{"name":"B"}'],
            ['k:{"name":"B"}', 'k:{"name":"A"}'],
            [("env", ['name="A"', 'name="B"'], ['name="B"', 'name="A"'])],
        ),
        (
            "differs",
            ("f:spec", "f:volumeClaimTemplates"),
            [{"spec": {"resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"}}],
            [{"spec": {"resources": {"requests": {"storage": "2048Mi"}}}}],
            [("spec.volumeClaimTemplates[0].spec.resources.requests.storage", "1Gi", "2048Mi")],
        ),
        (
            "missing",
            ("f:volumeMounts",),
            [{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/b"}],
            [{"name": "data", "mountPath": "/a", "readOnly": True}, {"name": "data", "mountPath": "/b"}],
            [("volumeMounts[0].readOnly", None, True)],
        ),
    ],
)
def test_changes_are_small_and_readable(kind, path, live, desired, expected):
    """A difference is narrowed to the values that really change, with paths as people write them."""
    assert [(each.path, each.old, each.new) for each in shown(kind, path, live, desired)] == expected


def test_changes_name_who_stands_against_them():
    """A change bears the managers that own its field, or part of it, and no others."""
    owners = [FieldOwner(".spec.template.a", "kubectl-edit", "Update"), FieldOwner(".spec.replicasets", "x")]
    owners.append(FieldOwner(".spec.replicas", "hpa", "Update", "scale"))
    differences = [
        Difference(("f:spec", "f:replicas"), "missing", 2, 1),
        Difference(("f:spec", "f:template"), "missing", {"a": 1}, None),
    ]

    assert changes_of(differences, STATEFULSET, owners) == (
        Change("spec.replicas", 1, 2, "hpa"),
        Change("spec.template", None, {"a": 1}, "kubectl-edit"),
    )


@pytest.mark.parametrize("field", ["f:data", "f:stringData"])
@pytest.mark.parametrize(("old", "new"), [("YQ==", "Yg=="), ("YQ==", "YQ=="), ("", "YQ==")])
def test_secrets_are_masked(field, old, new):
    """Values of a Secret are never shown, and the mask does not tell whether they are equal or empty."""
    (change,) = shown("missing", (field, "f:password"), old, new, of=SECRET)

    assert (change.old, change.new) == (BEFORE, AFTER)


def test_a_secret_shows_its_keys():
    """The keys of a Secret are shown, and whether there is a value at all."""
    (change,) = shown("missing", ("f:data",), None, {"password": "YQ=="}, of=SECRET)

    assert (change.old, change.new) == (None, {"password": AFTER})


def test_other_fields_of_a_secret_are_shown():
    """Labels and type of a Secret are no secret."""
    (change,) = shown("differs", ("f:metadata", "f:labels", "f:a"), "x", "y", of=SECRET)

    assert (change.old, change.new) == ("x", "y")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("hunter2-hunter2", True),
        (base64.b64encode(b"hunter2-hunter2").decode(), True),
        ("postgres://u:hunter2-hunter2@db", True),
        ("hunter2", False),
        ("abc", True),
        ("abcdef", False),
        ("", False),
    ],
)
def test_known_secrets_are_masked_anywhere(text, hidden):
    """A known secret is masked wherever it turns up, whole, in base64, or inside a text if it is long enough."""
    mask = Mask(["hunter2-hunter2", "abc", ""])
    (change,) = shown("missing", ("f:env",), None, [{"name": "X", "value": text}], mask=mask)

    assert change.new == [{"name": "X", "value": AFTER if hidden else text}]


def test_masks_leave_other_types_alone():
    """Numbers, booleans and nothing pass a mask unchanged."""
    assert Mask(["1"]).shown({"a": 1, "b": [True, None]}, "before") == {"a": 1, "b": [True, None]}


@pytest.mark.parametrize(
    ("before", "after", "hidden"),
    [
        ({"data": {"a": "YQ=="}}, {"data": {"a": "YQ=="}}, ({"data": {"a": "***"}},) * 2),
        ({"data": {"a": "YQ=="}}, {"data": {"a": "Yg=="}}, ({"data": {"a": BEFORE}}, {"data": {"a": AFTER}})),
        ({"stringData": {"a": ""}}, {}, ({"stringData": {"a": BEFORE}}, {})),
        ({}, {"data": {"a": "x"}, "type": "t"}, ({}, {"data": {"a": AFTER}, "type": "t"})),
        ({"data": "text"}, {"data": {"a": "x"}}, ({"data": BEFORE}, {"data": AFTER})),
        ({"data": {}}, {"data": None}, ({"data": {}}, {"data": None})),
    ],
)
def test_a_secret_before_and_after(before, after, hidden):
    """Two states of a Secret show no value, and still which of them differ."""
    assert hidden_secrets(SECRET | before, SECRET | after) == tuple(SECRET | each for each in hidden)


def test_other_objects_hide_nothing():
    """An object of another kind is returned as it is."""
    before, after = {**STATEFULSET, "data": {"a": "b"}}, {**STATEFULSET, "data": {"a": "c"}}

    assert hidden_secrets(before, after) == (before, after)
