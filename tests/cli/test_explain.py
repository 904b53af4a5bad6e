"""`chronik explain`: what a field means, and what set one of a rendered object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from support.cli_place import run

PATCHED = ("-f", "examples/patched.yaml")
PRODUCTION = ("-f", "examples/production.yaml")


def explained(field, target, *more):
    """Return how explaining a field of an object ended."""
    return run("explain", field, "--of", target, *more)


def test_a_field_of_the_spec():
    """Without an object it is a field of the document: type, default, meaning."""
    done = run("explain", "spec.storage.size")

    assert done.code == 0
    assert done.out.startswith('spec.storage.size: a quantity of bytes such as 512Mi, 1.5Gi or 10G; default "10Gi"\n')


def test_a_map_of_the_spec():
    """A map tells which fields it has, also one whose keys are free."""
    assert "Fields: name, value, valueFrom\n" in run("explain", "spec.components.ingest.env").out


def test_a_field_that_the_spec_lacks():
    """An unknown field names the nearest one."""
    done = run("explain", "spec.storge.size")

    assert (done.code, done.err) == (2, "error: there is no storge in spec\n  Did you mean storage?\n")


def test_a_line_of_a_part():
    """A value is traced through parts to the line that binds it, and to the field of the document that this reads."""
    done = explained("spec.template.spec.containers[0].env[S3_BUCKET].value", "sts/production-ingest", *PRODUCTION)
    assert done.code == 2, "short names of kubectl are not known"

    done = explained(
        "spec.template.spec.containers[0].env[S3_BUCKET].value", "statefulset/production-ingest", *PRODUCTION
    )
    assert done.code == 0
    assert "spec.template.spec.containers[ingest].env[S3_BUCKET].value: acme-streaming\n" in done.out
    assert "set by templates/parts/env.yaml.j2:" in done.out
    assert "  value: {{ spec.storage.s3.bucket }}\n" in done.out
    assert "  spec.storage.s3.bucket = acme-streaming, examples/production.yaml:23\n" in done.out


def test_a_default():
    """A field that the document leaves out is told as a default."""
    done = explained(
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled", "statefulset/minimal-ingest", "-f", MINIMAL
    )

    assert "  spec.storage.retention.whenScaled = Retain: its default\n" in done.out


MINIMAL = "examples/minimal.yaml"


def test_a_patch():
    """A value that a patch set names the patch and its place in the document, and what the template said before."""
    done = explained("spec.template.spec.terminationGracePeriodSeconds", "statefulset/patched-ingest", *PATCHED)

    assert "spec.template.spec.terminationGracePeriodSeconds: 120\n" in done.out
    assert "set by patch 3 of spec.patches, examples/patched.yaml:44\n" in done.out
    assert "before that by templates/parts/pod-template.yaml.j2:" in done.out
    assert "\n  value: 60\n" in done.out


def test_what_only_a_patch_makes():
    """A value that no template makes says so: items before it in a list do not mislead."""
    done = explained("spec.template.spec.containers[ingest].env[LOG_LEVEL]", "statefulset/patched-ingest", *PATCHED)

    assert "set by patch 1 of spec.patches, examples/patched.yaml:23\nno template makes it\n" in done.out


def test_the_configuration_by_its_lasting_name():
    """The configuration is found without the part of its name that tells its content."""
    done = explained("data[metastore.host]", "configmap/production-config", *PRODUCTION)

    assert done.code == 0
    assert "set by templates/configmap.yaml.j2:" in done.out


def test_templates_of_a_user(tmp_path):
    """A line of the user's own template is named with its folder."""
    part = tmp_path / "parts" / "pull-secrets.yaml.j2"
    part.parent.mkdir()
    part.write_text("{# ours #}\n- name: from-here\n")
    target = ("spec.template.spec.imagePullSecrets[0].name", "deployment/production-search")
    done = explained(*target, *PRODUCTION, "--templates", str(tmp_path))

    assert f"set by {part}:2\n  - name: from-here\n" in done.out


def test_for_programs():
    """JSON has the value, the template's line, what it reads and the patches."""
    field = "spec.template.spec.terminationGracePeriodSeconds"
    done = explained(field, "StatefulSet/default/patched-ingest", *PATCHED, "-o", "json")
    data = json.loads(done.out)

    assert data["object"] == {"kind": "StatefulSet", "namespace": "default", "name": "patched-ingest"}
    assert (data["path"], data["value"], data["templateValue"]) == (field, 120, 60)
    assert data["template"]["file"] == "templates/parts/pod-template.yaml.j2"
    assert data["patches"] == [{"position": 2, "value": 120, "location": {"file": "examples/patched.yaml", "line": 44}}]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("spec", "--of", "x", *PATCHED), 2, "'x' names no object; write KIND/NAME"),
        (("spec", "--of", "statefulset/x"), 2, "which cluster is meant? -f FILE says it"),
        (("spec", *PATCHED), 2, "which object is meant? Say --of KIND/NAME"),
        (("spec", "--of", "secret/x", *PATCHED), 2, "there is no object secret/x\n  There are objects of the kinds"),
        (("spec", "--of", "service/x", *PATCHED), 2, "there is no object service/x\n  Of this kind there are patched-"),
        (("spec", "--of", "service/other/patched-ingest", *PATCHED), 2, "there is no object service/other/patched"),
        (("spec.replica", "--of", "statefulset/patched-ingest", *PATCHED), 2, "Did you mean replicas?"),
        (("[", "--of", "statefulset/patched-ingest", *PATCHED), 2, "[ is no field in StatefulSet/default/patched"),
    ],
)
def test_what_cannot_be_explained(arguments, code, message):
    """Each mistake is told with what is allowed."""
    done = run("explain", *arguments)

    assert (done.code, done.out) == (code, "")
    assert message in done.err


OVERRIDES = """
tolerations: [{key: a, operator: Exists}]
storage: {backend: local, storageClass: slow}
components:
  ingest:
    env: [{name: A, value: b}]
    nodeSelector: {a: b}
    podLabels: {a: b}
    storage: {storageClass: fast}
    sidecars: [{name: ship, image: ship:1}]
    serviceAccount: {annotations: {a: b}}
"""
POD = "spec.template.spec"
CLASS = "spec.volumeClaimTemplates[0].spec.storageClassName"


@pytest.mark.parametrize(
    ("field", "target", "reads"),
    [
        (f"{POD}.containers[ingest].env[A]", "statefulset/c-ingest", ["components.ingest.env"]),
        (f"{POD}.containers[ship].image", "statefulset/c-ingest", ["components.ingest.sidecars"]),
        (f"{POD}.containers[ingest].image", "statefulset/c-ingest", ["image.ingest"]),
        (f"{POD}.nodeSelector", "statefulset/c-ingest", ["components.ingest.nodeSelector"]),
        (f"{POD}.tolerations", "statefulset/c-ingest", ["tolerations"]),
        ("spec.template.metadata.labels.a", "statefulset/c-ingest", ["podLabels", "components.ingest.podLabels"]),
        (CLASS, "statefulset/c-ingest", ["components.ingest.storage.storageClass"]),
        (CLASS, "statefulset/c-controller", ["storage.storageClass"]),
        ("spec.replicas", "statefulset/c-controller", ["controllers"]),
        ("metadata.annotations", "serviceaccount/c-ingest", ["components.ingest.serviceAccount.annotations"]),
    ],
)
def test_settings_of_components(tmp_path, field, target, reads):
    """What templates read as a pod's setting is traced to the field that has it: the component's, or that for all."""
    file = tmp_path / "c.yaml"
    document = yaml.safe_load(Path(MINIMAL).read_text("utf-8"))
    document["metadata"]["name"] = "c"
    document["spec"] |= yaml.safe_load(OVERRIDES)
    file.write_text(yaml.safe_dump(document), "utf-8")
    found = json.loads(explained(field, target, "-f", str(file), "-o", "json").out)

    assert [each["path"] for each in found["reads"]] == [f"spec.{each}" for each in reads]


def test_a_diff_names_the_patch(tmp_path):
    """A change whose new value a patch set says so, in text and for programs; other changes do not."""
    text = Path("examples/patched.yaml").read_text("utf-8").replace("value: 120", "value: 180")
    new = tmp_path / "new.yaml"
    new.write_text(text.replace("ingest: chronik/ingest:1.4.2", "ingest: chronik/ingest:1.4.3"))
    command = ("diff", "--from", "examples/patched.yaml", "-f", str(new))
    done, data = run(*command), json.loads(run(*command, "-o", "json").out)
    (ingest,) = [
        each for each in data["clusters"][0]["objects"] if each["name"] == "patched-ingest" and each["changes"]
    ]

    assert "    spec.template.spec.terminationGracePeriodSeconds: 120 -> 180  (patch 3)\n" in done.out
    assert 'containers[name="ingest"].image: chronik/ingest:1.4.2 -> chronik/ingest:1.4.3\n' in done.out
    assert [each.get("patch") for each in ingest["changes"] if "Grace" in each["path"]] == [2]
    assert ["patch" in each for each in ingest["changes"] if "image" in each["path"]] == [False]
