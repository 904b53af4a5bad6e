"""The CRD, the warning policy, the editor schema and the reference page: all made from schema and rules.

`python tests/api/test_crd.py` writes the committed copies anew.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, it does not go through conftest.py

from support.schema_nodes import nodes

from chronik.api.crd import crd, editor_schema, warning_policy
from chronik.api.reference import reference_page
from chronik.api.rules import RuleBook, RuleBookError
from chronik.api.structural import FREE, SchemaError
from chronik.documents.writer import to_yaml, to_yaml_stream
from chronik.manifest import BACKUP, FEDERATION
from chronik.offline import assets

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SCHEMA = assets.schema()
RULES = RuleBook(assets.rules_text())
HEAD = (
    "# Made from chronikcluster.schema.json and rules.yaml by tests/api/test_crd.py,"
    " as `chronik schema crd` prints it.\n"
)
BACKUP_SCHEMA = assets.schema(BACKUP.name)
BACKUP_RULES = RuleBook(assets.rules_text(), kind=BACKUP.name)
BACKUP_HEAD = HEAD.replace("chronikcluster", "chronikbackup")
FEDERATION_SCHEMA = assets.schema(FEDERATION.name)
FEDERATION_RULES = RuleBook(assets.rules_text(), kind=FEDERATION.name)
FEDERATION_HEAD = HEAD.replace("chronikcluster", "chronikfederation").replace(
    "schema crd`", "schema crd --features federation`"
)
GENERATED = {
    "schema/chronikcluster.crd.yaml": lambda: HEAD + to_yaml(crd(SCHEMA, RULES)),
    "schema/warnings.policy.yaml": lambda: HEAD + to_yaml_stream(warning_policy(RULES)),
    "docs/spec-reference.md": lambda: reference_page(SCHEMA, RULES),
    "schema/chronikbackup.crd.yaml": lambda: BACKUP_HEAD + to_yaml(crd(BACKUP_SCHEMA, BACKUP_RULES, BACKUP)),
    "docs/backup-reference.md": lambda: reference_page(BACKUP_SCHEMA, BACKUP_RULES, BACKUP.name),
    "schema/chronikfederation.crd.yaml": lambda: (
        FEDERATION_HEAD + to_yaml(crd(FEDERATION_SCHEMA, FEDERATION_RULES, FEDERATION))
    ),
    "docs/federation-reference.md": lambda: reference_page(FEDERATION_SCHEMA, FEDERATION_RULES, FEDERATION.name),
}


COMPONENT = ("spec", "components", "additionalProperties")
AS_IN_A_POD = {
    (field,)
    for field in ("env", "resources", "probes", "lifecycle", "volumes", "volumeMounts", "initContainers", "sidecars")
}


def versions_schema():
    return crd(SCHEMA, RULES)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@pytest.mark.parametrize("name", GENERATED)
def test_committed_copies_are_current(name):
    """What is committed is what schema and rules say now."""
    committed = (ROOT / name).read_text("utf-8")

    assert committed == GENERATED[name](), f"{name} is stale: run `python tests/api/test_crd.py`"


def test_schema_is_structural():
    """Every node has a type, or is int-or-string or free, and nothing is left that apiextensions does not know."""
    for path, raw in nodes(versions_schema()):
        assert "type" in raw or raw.get("x-kubernetes-int-or-string") or raw.get(FREE), path
        assert not ("type" in raw and raw.get("x-kubernetes-int-or-string")), path
        assert not raw.keys() & {"$ref", "examples", "propertyNames", "uniqueItems", "x-allowed", "x-verbatim"}, path
        assert raw.get("additionalProperties") is not False, path


def test_every_error_is_in_the_crd():
    """Each error rule stands at each of its places, with its words; no warning does."""
    there = [
        validation["message"]
        for _, raw in nodes(versions_schema())
        for validation in raw.get("x-kubernetes-validations", ())
    ]

    for rule in RULES.rules:
        assert there.count(rule.words) >= len(rule.places) * (rule.severity == "error"), rule.name
        assert rule.severity == "error" or rule.words not in there


def test_every_warning_is_in_the_policy():
    """Each warning is a validation that warns, in the rule's own words and with the rule's own expression."""
    policy, binding = warning_policy(RULES)
    warnings = [rule for rule in RULES.rules if rule.severity == "warning" for _ in rule.places]

    assert [
        (v["message"], rule.rule in v["expression"])
        for rule, v in zip(warnings, policy["spec"]["validations"], strict=True)
    ] == [(rule.words, True) for rule in warnings]
    assert policy["spec"]["failurePolicy"] == "Ignore"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Warn"]}


def test_the_kind_is_what_kubectl_users_expect():
    """The CRD has a short name, a status subresource, columns, and conditions that merge by type."""
    made = crd(SCHEMA, RULES)
    version = made["spec"]["versions"][0]
    conditions = versions_schema()["properties"]["status"]["properties"]["conditions"]

    assert made["spec"]["names"]["shortNames"] == ["ck"]
    assert version["subresources"] == {"status": {}}
    assert [column["name"] for column in version["additionalPrinterColumns"]] == [
        *("Phase", "Ready", "Controllers", "Ingest", "Search", "Rollout", "Age")
    ]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])


def test_defaults_are_whole():
    """A section's default in the CRD holds the defaults below it: the server applies rules to it as it stands."""
    security = versions_schema()["properties"]["spec"]["properties"]["security"]["default"]

    assert security["containerSecurityContext"]["readOnlyRootFilesystem"] is True
    assert security["tlsEnabled"] is False


def test_keyword_that_a_crd_cannot_say_is_refused():
    """A keyword that would silently get lost on the server is an error when the CRD is made."""
    schema = copy.deepcopy(SCHEMA)
    schema["$defs"]["weight"]["multipleOf"] = 5

    with pytest.raises(SchemaError, match="multipleOf"):
        crd(schema, RULES)


def test_rule_about_nothing_is_refused():
    """A rule whose path is not in the schema is an error when the CRD is made: the server would never apply it."""
    book = RuleBook("- {name: stray, path: spec.storge, rule: 'true', message: m, severity: error}")

    with pytest.raises(RuleBookError, match="stray"):
        crd(SCHEMA, book)


def test_crd_fits_into_an_annotation():
    """`kubectl apply` without --server-side keeps a copy as compact JSON in an annotation; all hold 256 KiB at most."""
    assert len(json.dumps(crd(SCHEMA, RULES), separators=(",", ":"))) < 250 * 1024


def test_editor_schema_is_plain():
    """Editors get plain JSON Schema 2020-12, without keywords of our own."""
    made = editor_schema(SCHEMA)
    Draft202012Validator.check_schema(made)

    assert not [
        key for body in (made, *made["$defs"].values()) for _, raw in nodes(body) for key in raw if key.startswith("x-")
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_editor_schema_accepts_examples(path):
    """No example shows up red in an editor, with or without explicit nulls."""
    document = yaml.safe_load(path.read_text())
    document["spec"]["affinity"] = document["spec"]["storage"]["storageClass"] = None

    assert list(Draft202012Validator(editor_schema(SCHEMA)).iter_errors(document)) == []


def test_editor_schema_refuses_a_typo():
    """A misspelt field is an error in an editor, too."""
    document = yaml.safe_load(EXAMPLES[0].read_text())
    document["spec"]["ingestNode"] = 3

    assert not Draft202012Validator(editor_schema(SCHEMA)).is_valid(document)


def test_reference_names_every_field_and_rule():
    """The page has a row for each field and a line for each rule."""
    page = reference_page(SCHEMA, RULES)

    assert [
        path
        for path, _ in nodes(versions_schema())
        if path
        and not is_below_a_type_of_kubernetes(path)
        and f"| `{path[-1]}` |" not in page
        and path[-1] not in {"items", "additionalProperties", "apiVersion", "kind", "metadata", "spec", "status"}
    ] == []
    assert [rule.name for rule in RULES.rules if f"(`{rule.name}`)" not in page] == []


def is_below_a_type_of_kubernetes(path):
    """Return whether a place lies inside what is as in a pod, which the page links to and does not repeat."""
    field = path[len(COMPONENT) :][:1] if path[: len(COMPONENT)] == COMPONENT else ()
    return field in AS_IN_A_POD and len(path) > len(COMPONENT) + 1


def test_reference_links_lead_somewhere():
    """Each link of the page leads to a heading of the page."""
    page = reference_page(SCHEMA, RULES)
    headings = {line.lstrip("# ").lower() for line in page.splitlines() if line.startswith("#")}
    anchors = {"".join(letter for letter in heading if letter.isalnum() or letter in "-_") for heading in headings}

    assert {part.split(")")[0] for part in page.split("](#")[1:]} <= anchors


if __name__ == "__main__":
    for name, text in GENERATED.items():
        (ROOT / name).write_text(text(), "utf-8")
