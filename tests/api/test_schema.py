"""The schema, and what is done with it: nulls, types and bounds, defaults, and words for what is wrong."""

from __future__ import annotations

import copy
import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.schema_nodes import nodes
from support.spec_generator import TEXTS, Generator

from chronik.api.rules import RuleBook
from chronik.api.schema import Schema
from chronik.api.schema_errors import MOST_ALIKE, MOST_PROBLEMS
from chronik.api.structural import Compiler, SchemaError, inlined, pattern_of, types_of
from chronik.offline import assets
from chronik.problem import format_path

RAW = assets.schema()
SCHEMA = Schema(RAW)
RULES = RuleBook(assets.rules_text())
HERE = Path(__file__).parent
EXAMPLES = sorted((HERE.parents[1] / "examples").glob("*.yaml"))
CONNECTION = {"host": "postgres", "database": "chronik", "credentialsSecret": "chronik-postgres"}
MINIMAL = {
    "apiVersion": "chronik.stream/v1alpha1",
    "kind": "ChronikCluster",
    "metadata": {"name": "demo"},
    "spec": {"storage": {"backend": "local"}, "metastore": {"connection": CONNECTION}},
}


def with_spec(**fields):
    return {**copy.deepcopy(MINIMAL), "spec": {**copy.deepcopy(MINIMAL["spec"]), **fields}}


def spec_of(document):
    admitted = SCHEMA.admit(document)
    assert admitted.problems == ()
    return admitted.document["spec"]


def problems_of(document):
    return [(format_path(p.path), p.message, p.hint) for p in SCHEMA.admit(document).problems]


NODES = list(nodes(inlined(RAW, RAW)))
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "controller": True}


# The schema itself


def test_schema_is_valid():
    """The schema is JSON Schema 2020-12."""
    Draft202012Validator.check_schema(RAW)


def test_every_field_is_described():
    """Each place of a document has a description that ends as a sentence does, and an example that is valid there."""
    compiler = Compiler(RAW)
    for path, raw in NODES[1:]:
        assert raw["description"].endswith((".", "-search.")), path
        assert raw["examples"], path
        for example in raw["examples"]:
            assert compiler.node(raw).check(example), (path, example)


def test_every_default_is_valid():
    """A default is itself a valid value."""
    for path, raw in NODES:
        assert "default" not in raw or Compiler(RAW).node(raw).check(raw["default"]), path


def test_spec_is_bounded():
    """Each text, list, map and number of a spec has a maximum: the API server prices rules by them."""
    bounds = {"string": ("maxLength", "enum"), "array": ("maxItems",), "integer": ("maximum",)}
    for path, raw in NODES:
        if path[:1] != ("spec",):
            continue
        for kind in types_of(raw):
            assert any(word in raw for word in bounds.get(kind, ("properties", "maxProperties", "type"))), path
        assert types_of(raw) != ("object",) or "properties" in raw or "maxProperties" in raw, path


def test_patterns_mean_the_same_everywhere():
    """Patterns are anchored, have words, and use only what Go, JavaScript and Python read alike."""
    for path, raw in NODES:
        if "pattern" in raw:
            pattern_of(raw["pattern"])
            assert raw["x-allowed"], path
            assert not {"\\d", "\\w", "\\s", "\\b", "(?"} & {
                raw["pattern"][i : i + 2] for i in range(len(raw["pattern"]))
            }


def test_keywords_beside_a_reference_only_describe():
    """Beside `$ref` stand description, default and examples: validation words there would be lost."""

    def references(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value
            value = list(value.values())
        for item in value if isinstance(value, list) else ():
            yield from references(item)

    for found in references(RAW):
        assert found.keys() <= {"$ref", "description", "default", "examples"}, found


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "number"},
        {"type": "object", "properties": {"x": {"type": "boolean"}}},
        {"enum": ["a"]},
        {"$ref": "#/$defs/x"},
    ],
)
def test_schema_that_a_crd_cannot_say_is_refused(raw):
    """What the API server would not understand fails when the schema is compiled, not when it meets a document."""
    with pytest.raises(SchemaError):
        Compiler({"$defs": {}}).node({**raw, "required": ["x"]})


# Defaults


def test_minimal_document_becomes_a_whole_one():
    """What a minimal document leaves out is filled in, hardened where it matters."""
    spec = spec_of(MINIMAL)

    assert (spec["controllers"], spec["ingestNodes"], spec["searchNodes"]) == (3, 3, 0)
    assert spec["storage"] == {
        "backend": "local",
        "size": "10Gi",
        "retention": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }
    assert spec["metastore"]["connection"]["port"] == 5432
    assert spec["image"]["search"] == "chronik/search:latest"
    closed = {"serviceType": "ClusterIP", "loadBalancerSourceRanges": [], "hostNetwork": False, "aliases": []}
    assert spec["network"] == closed
    assert spec["security"] == {
        "tlsEnabled": False,
        "mtlsEnabled": False,
        "podSecurityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "runAsNonRoot": True},
        "containerSecurityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
    }


@pytest.mark.parametrize("section", ["autoscaling", "podDisruptionBudget", "resources", "affinity"])
def test_sections_that_switch_something_on_have_no_default(section):
    """Absent stays absent where presence means something."""
    assert section not in spec_of(MINIMAL)


def test_defaults_are_fresh():
    """Two documents never share a default that one of them could change."""
    one, other = spec_of(MINIMAL), spec_of(MINIMAL)
    one["podLabels"]["a"] = one["security"]["podSecurityContext"]["runAsUser"] = 1

    assert other["podLabels"] == {}
    assert other["security"]["podSecurityContext"]["runAsUser"] == 1000


def test_given_values_win():
    """A default never replaces what is there, not even something empty or false."""
    spec = spec_of(with_spec(searchNodes=0, security={"containerSecurityContext": {"readOnlyRootFilesystem": False}}))

    assert spec["security"]["containerSecurityContext"]["readOnlyRootFilesystem"] is False
    assert spec["security"]["containerSecurityContext"]["runAsNonRoot"] is True


# Nulls, whole floats, what is free, status


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"podLabels": {"a": None, "b": "c"}}, ("podLabels",), {"b": "c"}),
        ({"controllers": None}, ("controllers",), 3),
        ({"security": None}, ("security", "tlsEnabled"), False),
        (
            {"security": {"podSecurityContext": {"runAsUser": None}}},
            ("security", "podSecurityContext", "runAsUser"),
            1000,
        ),
        ({"controllers": 3.0}, ("controllers",), 3),
    ],
)
def test_null_is_absent(fields, path, expected):
    """A null field is left out and defaulted, as on the API server; 3.0 is 3, as in JSON."""
    value = spec_of(with_spec(**fields))
    for part in path:
        value = value[part]

    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": None, "b": [None, {"c": None}]}, None),
        ({"": {"spec": True}, "items": [], "é\n": "a\tb"}, None),
        ({"a": [3.0, -0.0, 1.5, 2.0**62]}, {"a": [3, 0, 1.5, 2**62]}),
        ({"a": [2**63 - 1, -(2**63), 2**63, 10**20]}, {"a": [2**63 - 1, -(2**63), 2.0**63, 1e20]}),
        ({str(number): number for number in range(64)}, None),
        (None, {}),
    ],
)
def test_template_values_are_free(values, expected):
    """Any JSON is valid there, nulls stay, and numbers come out as they would from the API server."""
    found = spec_of(with_spec(templateValues=values))["templateValues"]

    assert repr(found) == repr(values if expected is None else expected)


def nested(depth):
    value = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], "must be a map, not a list"),
        ({str(number): 1 for number in range(65)}, "must have at most 64 keys, not 65"),
        ({"a": float("nan")}, "must be JSON that the API server can hold"),
        ({"a": -float("inf")}, "must be JSON that the API server can hold"),
        ({"a": 10**400}, "must be JSON that the API server can hold"),
        ({"\ud800": 1}, "must be JSON that the API server can hold"),
        ({"a": dt.date(2026, 1, 1)}, "must be JSON that the API server can hold"),
        (nested(101), "must be JSON that the API server can hold"),
        (nested(3000), "must be JSON that the API server can hold"),
    ],
    ids=range(9),
)
def test_template_values_that_are_refused(values, message):
    """What is no map, too large, nested too deep, or nothing that JSON can say is one error at its place."""
    assert [found[:2] for found in problems_of(with_spec(templateValues=values))] == [("spec.templateValues", message)]
    assert spec_of(with_spec(templateValues=nested(100)))["templateValues"] == nested(100)


def test_null_section_stays_away():
    """A null in an optional section removes the section."""
    assert "affinity" not in spec_of(with_spec(affinity=None, resources=None))


@pytest.mark.parametrize("stored", [True, False])
def test_status_is_set_aside(stored):
    """Whatever values are in status, the spec is judged alone and the status comes back untouched."""
    status = {"phase": "Strange", "conditions": None, "controllers": [5], "readyReplicas": "none"}
    admitted = SCHEMA.admit({**MINIMAL, "status": status}, stored=stored)

    assert admitted.problems == ()
    assert admitted.document["status"] is status


@pytest.mark.parametrize(
    ("status", "paths"),
    [
        ({"later": [None], "phase": "Running"}, ["status.later"]),
        ({"conditions": [{"type": "Ready", "since": "x"}]}, ["status.conditions[0].since"]),
        ({"readyReplicas": {"brokers": 3}}, ["status.readyReplicas.brokers"]),
        ({"phase": {"name": "Running"}}, ["status.phase.name"]),
        ({"phase": [[{"name": "Running"}]]}, ["status.phase[0][0].name"]),
        (5, []),
        (None, []),
    ],
)
def test_unknown_fields_of_a_status_are_errors(status, paths):
    """A field that no status has is refused, as by kubectl; but another version may have written what is stored."""
    document = {**MINIMAL, "status": status}
    stored = SCHEMA.admit(document, stored=True)

    assert [path for path, _, _ in problems_of(document)] == paths
    assert (stored.problems, stored.document["status"]) == ((), status)


LARGE = "x" * (262_144 - len("a"))


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"labels": {"a b": None}}, "metadata.labels[a b]"),
        ({"labels": {"a": None}, "annotations": {"A.B/c": None, "K": ""}}, None),
        ({"labels": {f"{'a' * 253}/{'b' * 63}": "c"}}, None),
        ({"labels": {f"{'a' * 254}/b": "c"}}, f"metadata.labels[{'a' * 254}/b]"),
        ({"annotations": {"a": LARGE}}, None),
        ({"annotations": {"a": LARGE[:-1], "b": ""}}, None),
        ({"annotations": {"a": LARGE, "b": None}}, "metadata.annotations"),
        ({"annotations": {"a": "é" * 131_072}}, "metadata.annotations"),
        ({"finalizers": ["chronik.stream/finalizer", "a"]}, None),
        ({"finalizers": ["a", "b/c/d"]}, "metadata.finalizers[1]"),
        ({"finalizers": [None]}, "metadata.finalizers[0]"),
        ({"finalizers": ["orphan", "foregroundDeletion"]}, "metadata.finalizers"),
        ({"creationTimestamp": None}, None),
        ({"creationTimestamp": "2000-02-29T3:04:05.67+24:60"}, None),
        ({"creationTimestamp": ""}, "metadata.creationTimestamp"),
        ({"creationTimestamp": "2026-02-29T00:00:00Z"}, "metadata.creationTimestamp"),
        ({"deletionTimestamp": "yesterday"}, "metadata.deletionTimestamp"),
        ({"managedFields": [{"time": "2026-01-01T00:00:60Z"}]}, "metadata.managedFields[0].time"),
        ({"managedFields": [{"who": "x"}]}, "metadata.managedFields[0].who"),
        ({"managedFields": [None, {}]}, None),
        ({"managedFields": [{"fieldsV1": ["a"]}, {"fieldsV1": 1}, {"fieldsV1": None}]}, None),
        ({"managedFields": [{"fieldsV1": float("nan")}]}, "metadata.managedFields[0].fieldsV1"),
        ({"generateName": ""}, None),
        ({"generateName": "a-"}, None),
        ({"generateName": "a b"}, "metadata.generateName"),
        ({"generateName": "a" * 254}, "metadata.generateName"),
        ({"generateName": f"{'a' * 253}-"}, None),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "u"}]},
            "metadata.ownerReferences[0]",
        ),
        ({"ownerReferences": [{"apiVersion": "a/v1", "kind": "Event", "name": "a", "uid": "u"}]}, None),
        (
            {"ownerReferences": [{"apiVersion": "a/", "kind": "A", "name": "a", "uid": "u"}]},
            "metadata.ownerReferences[0].apiVersion",
        ),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a"}]}, "metadata.ownerReferences[0]"),
        ({"ownerReferences": [OWNER | {"uid": "u"}, OWNER | {"uid": "v"}]}, "metadata.ownerReferences"),
        ({"ownerReferences": [OWNER | {"uid": "u"}, OWNER | {"uid": "u"}]}, None),
        ({"namespace": ""}, None),
        ({"namespace": "A"}, "metadata.namespace"),
        ({"generation": 2**63}, "metadata.generation"),
        ({"later": 1}, "metadata.later"),
    ],
    ids=range(37),
)
def test_metadata_as_the_server_has_it(metadata, path):
    """What the API server refuses of metadata is an error, at its place, and nothing else is."""
    document = {**MINIMAL, "metadata": {"name": "demo", **metadata}}

    assert [found for found, _, _ in problems_of(document)] == ([path] if path else [])
    assert "namespace" in metadata or SCHEMA.admit(document, stored=True).problems == ()


def test_an_empty_namespace_is_none():
    """An empty namespace counts as absent, so that --namespace and the context say which."""
    document = {**MINIMAL, "metadata": {"name": "demo", "namespace": "", "labels": {"a": None}}}

    assert SCHEMA.admit(document).document["metadata"] == {"name": "demo", "labels": {"a": ""}}


@pytest.mark.parametrize("good", [True, False])
def test_status_can_be_checked_alone(good):
    """The schema also says what a status looks like, for whoever writes one."""
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "AllComponentsReady",
        "message": "",
        "lastTransitionTime": "x",
    }
    status = {"phase": "Running" if good else "Fine", "conditions": [condition], "readyReplicas": {"controllers": 3}}

    assert SCHEMA.conforms({**MINIMAL, "status": status}) is good


def test_nothing_is_changed_in_place():
    """Admitting a document leaves the caller's document as it was."""
    document = with_spec(controllers=3.0, podLabels={"a": None}, security=None, image={"pullSecrets": ["a"]})
    before = copy.deepcopy(document)
    SCHEMA.admit(document)

    assert document == before


def test_completed_spec_names_every_field():
    """Every known field is there after completion, None where it is absent; parts of a pod stay as they are."""
    toleration = {"operator": "Exists"}
    spec = SCHEMA.completed_spec(spec_of(with_spec(tolerations=[toleration], resources={"ingest": {"cpu": 1}})))

    assert spec.keys() == inlined(RAW, RAW)["properties"]["spec"]["properties"].keys()
    assert spec["storage"]["s3"] is spec["autoscaling"] is spec["affinity"] is None
    assert spec["resources"]["ingest"] == {"cpu": 1, "memory": None, "cpuLimit": None, "memoryLimit": None}
    assert spec["tolerations"] == [toleration]


# The quick verdict and the long one


def both_verdicts(document):
    pruned = SCHEMA.prune_nulls(document)
    return SCHEMA.conforms(pruned), SCHEMA.schema_problems(pruned) == []


def test_quick_verdict_is_the_long_one():
    """`conforms` says yes exactly when there is nothing to explain, for good, edge-case and broken documents."""
    seen = set()
    for document in Generator(RAW, RULES, seed=20).documents(300):
        quick, long = both_verdicts(document)
        assert quick == long, document
        seen.add(quick)

    assert seen == {True, False}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(TEXTS) | st.text(), inner),
    max_leaves=10,
)


@given(field=st.sampled_from(sorted(RAW["$defs"]["spec"]["properties"])), value=JSON)
def test_quick_verdict_is_the_long_one_for_anything(field, value):
    """The two verdicts agree on arbitrary JSON in any field."""
    quick, long = both_verdicts(with_spec(**{field: value}))

    assert quick == long


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "text",
        3,
        {},
        {"spec": None},
        {**MINIMAL, 3: 4},
        with_spec(podLabels={1: "a"}),
        with_spec(podLabels={"a": "\ud800"}),
        with_spec(podAnnotations={"a": "\ud800"}),
        with_spec(podAnnotations={"a": dt.date(2026, 1, 1)}),
        with_spec(controllers=10**5000),
        with_spec(controllers=float("nan")),
        with_spec(image={"controller": "a" * 10**6 + "!"}),
    ],
)
def test_what_is_hardly_json_is_an_error(document):
    """Things that no API server would take are errors in words, not exceptions."""
    assert both_verdicts(document) == (False, False)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path):
    """Every example passes the schema and breaks no rule."""
    admitted = SCHEMA.admit(yaml.safe_load(path.read_text()))

    assert admitted.problems == ()
    assert [p for p in RULES.check(admitted.document) if p.severity == "error"] == []


def test_valid_documents_never_load_jsonschema():
    """The quick verdict does without jsonschema, whose import would double the start of the command line."""
    code = (
        "import sys; from chronik.offline import assets; from chronik.api.schema import Schema; import yaml;"
        f"assert not Schema(assets.schema()).admit(yaml.safe_load(open({str(EXAMPLES[0])!r}))).problems;"
        "print('jsonschema' in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


# Words


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"ingestNode": 3}, "Did you mean ingestNodes?"),
        ({"ingest_nodes": 3}, "Did you mean ingestNodes?"),
        ({"tlsSecret": "a"}, "It belongs in spec.security."),
        ({"bucket": "a"}, "It belongs in spec.storage.s3 or spec.storage.gcs."),
        (
            {"monitoring": {"grafana": True}},
            "Known here: prometheus, tracing, otlpEndpoint, serviceMonitor, podMonitor.",
        ),
        ({"podLabels": {"a": 4711}}, 'Quote it: "4711".'),
        ({"podLabels": {"a": True}}, 'Quote it: "true".'),
        ({"resources": {"ingest": {"cpu": 0.5}}}, 'Quote it: "0.5".'),
        ({"controllers": "3"}, "Leave the quotes out."),
        ({"resources": {"ingest": {"memory": "10GB"}}}, "Did you mean 10G?"),
        ({"resources": {"ingest": {"memory": "512 mib"}}}, "Did you mean 512Mi?"),
        ({"resources": {"ingest": {"memory": "64KB"}}}, "Did you mean 64k?"),
        ({"resources": {"ingest": {"cpu": "2 cores"}}}, ""),
        ({"podDisruptionBudget": {"minAvailable": "1"}}, "Leave the quotes out."),
        ({"monitoring": {"tracing": "Yes"}}, "Write true, without quotes."),
        ({"network": {"serviceType": "loadbalancer"}}, "Did you mean LoadBalancer?"),
        ({"storage": {"backend": {"s3": {}}}}, "Write only s3 here, and the section s3 beside it."),
        (
            {"storage": {}},
            f"backend: {RAW['$defs']['storage']['properties']['backend']['description']}",
        ),
    ],
)
def test_hints_say_what_to_do(fields, hint):
    """An error that has an obvious remedy names it."""
    assert [found for _, _, found in problems_of(with_spec(**fields))] == [hint]


DURATION = "a whole number of seconds, minutes, hours or days, such as 30s, 10m, 2h or 7d"


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (30, f"must be {DURATION}, not the number 30", ""),
        (True, f"must be {DURATION}, not true", ""),
        ("30", f'must be {DURATION}, not "30"', ""),
        ("100000s", f'must be {DURATION}, not "100000s"', ""),
        ("1" * 13, "must have at most 6 characters, not 13", ""),
    ],
)
def test_a_number_that_quotes_do_not_mend(value, message, hint):
    """Where quotes alone would not do, or a text is too long for another reason, the form is told."""
    fields = {"rollout": {"search": "BlueGreen", "blueGreen": {"autoPromoteAfter": value}}}

    assert [found[1:] for found in problems_of(with_spec(**fields))] == [(message, hint)]


def test_floods_are_cut_short():
    """Of many errors alike a few are shown, and how many there are besides."""
    found = problems_of(with_spec(tolerations=[{"operator": "no"}] * 30))

    assert len(found) == MOST_ALIKE + 1
    assert found[-1][:2] == ("spec.tolerations[4].operator", "25 more errors like this one")


def test_hostile_documents_get_a_short_answer():
    """However much is wrong, the answer is bounded, and its texts are short and printable."""
    junk = {f"{name}\x1b[31m{'x' * 500}": [name] * 3 for name in map(str, range(5000))}
    labels = {str(number) * 80: number for number in range(500)}
    spec = {**junk, "podLabels": labels, "controllers": "\x1b" * 5000}
    found = SCHEMA.admit({**MINIMAL, "spec": spec, **junk}).problems

    assert 0 < len(found) <= MOST_PROBLEMS + 1
    assert all(len(p.message) < 400 and p.message.isprintable() for p in found)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")), ids=lambda path: path.stem
)
def test_defaults_that_are_taken_away_come_back(path):
    """A document without what is filled in is shorter, and is the same once that is filled in again."""
    whole = SCHEMA.apply_defaults(yaml.safe_load(path.read_text()))
    short = SCHEMA.without_defaults(whole)

    assert SCHEMA.apply_defaults(short) == whole
    assert "topology" not in short["spec"] or short["spec"]["topology"] == "Unified"


def test_a_missing_field_of_kubernetes_is_shown_by_an_example():
    """What is described in Kubernetes alone is shown by what to write, and not by where else to read."""
    document = copy.deepcopy(MINIMAL)
    document["spec"]["components"] = {"ingest": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a"}}}]}}
    [problem] = SCHEMA.admit(document).problems

    assert problem.message == "key is required"
    assert problem.hint == 'Write key: "password", for example. As in Kubernetes: SecretKeySelector.key.'
