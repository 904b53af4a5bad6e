from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from chronik.errors import TemplateError
from chronik.manifest import KINDS, ObjectRef, apply_order
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.offline.template_sets import template_reader
from chronik.render.cluster import render
from chronik.render.templates import Templates

if TYPE_CHECKING:
    from chronik.api.spec import Cluster

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "production.yaml"


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """Return the example that uses every field."""
    [found], _ = offline.load_clusters([str(EXAMPLE)])
    return found


def overridden(**texts: str) -> Templates:
    """Return chronik's templates, some of them replaced."""
    own = template_reader()
    files = {f"{name}.yaml.j2": text for name, text in texts.items()}
    return Templates(lambda name: files.get(name) or own(name))


def test_apply_order(cluster):
    """Manifests come in the order in which they are applied: kind by kind, controllers before ingest before search."""
    made = render(cluster, overridden())

    assert made == sorted(made, key=apply_order)
    assert [each["kind"] for each in made if each["metadata"]["name"] == "production-ingest"] == [
        kind.name
        for kind in KINDS
        if kind.name not in {"ConfigMap", "NetworkPolicy", "Deployment", "PodDisruptionBudget"}
    ][:5]
    assert len({ObjectRef.of(each) for each in made}) == len(made)


def test_first_keys(cluster):
    """Every manifest begins with apiVersion, kind and metadata."""
    for each in render(cluster, overridden()):
        assert list(each)[:3] == ["apiVersion", "kind", "metadata"]


def test_every_template_file_is_used(cluster):
    """There is no template that nothing renders, and none that is missing."""
    own, used = template_reader(), set()
    files = [
        str(ROOT / "examples" / f"{name}.yaml")
        for name in ("unified-production", "guarded", "replication", "blue-green")
    ]
    others, _ = offline.load_clusters(files)
    monitor = {"enabled": True, "interval": "30s", "labels": {}}
    monitoring = {**others[0].spec["monitoring"], "podMonitor": monitor}
    watched = [replace(each, spec={**each.spec, "monitoring": monitoring}) for each in others]
    for each in (cluster, *others, *watched):
        render(each, Templates(lambda name: used.add(name) or own(name)))

    there = {path.relative_to(assets.TEMPLATES).as_posix() for path in assets.TEMPLATES.rglob("*.j2")}
    prefixes = ("install/", "backup-", "parts/backup-", "volumesnapshot", "volumegroupsnapshot")
    elsewhere = {name for name in there if name.startswith(prefixes)}
    assert used == there - elsewhere, "those of the operator and of backups are rendered by tests of their own"


def test_override(cluster):
    """A template that is replaced changes the objects that it makes, and nothing else."""
    text = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {{ part("metadata") }}\ndata: {a: "{{ spec.controllers }}"}\n'
    before, after = render(cluster, overridden()), render(cluster, overridden(configmap=text))
    [config] = [each for each in after if each["kind"] == "ConfigMap"]

    assert config["data"] == {"a": "5"}
    assert [without_hash(each) for each in before if each["kind"] != "ConfigMap"] == [
        without_hash(each) for each in after if each["kind"] != "ConfigMap"
    ]


def without_hash(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without the hash of the configuration, and see to it that pods have one."""
    template = manifest.get("spec", {}).get("template")
    if template:
        assert len(template["metadata"]["annotations"].pop("chronik.stream/config-hash")) == 64
        assert template["spec"]["volumes"].pop(0)["configMap"]["name"].startswith("production-config-")
    if manifest["kind"] == "Role":
        assert manifest["rules"][0].pop("resourceNames")[0].startswith("production-config-")
    return manifest


def test_a_new_kind_comes_last(cluster):
    """A kind that chronik does not know, made by somebody's template, is applied after all others."""
    text = 'apiVersion: example.com/v1\nkind: Budget\nmetadata: {{ part("metadata", name=name ~ "-pdb") }}\n'

    kinds = [each["kind"] for each in render(cluster, overridden(poddisruptionbudget=text))]

    assert kinds[-3:] == ["Budget"] * 3


HEAD = "apiVersion: v1\nkind: Service\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{# nothing #}", "the template does not make a map"),
        ("- a", "the template does not make a map"),
        ("words", "the template does not make a map"),
        ('kind: Service\nmetadata: {{ part("metadata") }}', "the template does not say which apiVersion and kind"),
        ('apiVersion: v1\nmetadata: {{ part("metadata") }}', "the template does not say which apiVersion and kind"),
        ("apiVersion: 1\nkind: Service", "the template does not say which apiVersion and kind"),
        ("apiVersion: apps\nkind: Service", "the template does not say which apiVersion and kind"),
        ("apiVersion: v1\nkind: {a: b}", "the template does not say which apiVersion and kind"),
        (HEAD, "the template makes no metadata.name: begin with"),
        (f"{HEAD}metadata: {{}}", "the template makes no metadata.name"),
        (f"{HEAD}metadata: {{name: 3}}", "the template makes no metadata.name"),
        (f"{HEAD}metadata: [name]", "the template makes no metadata.name"),
        (f"{HEAD}metadata: {{name: a, labels: [b]}}", "metadata.labels has to be a map"),
        (f"{HEAD}metadata: {{name: a, annotations: b}}", "metadata.annotations has to be a map"),
        (f"{HEAD}metadata: {{name: a, namespace: 1}}", "metadata.namespace has to be a string"),
        (f"{HEAD}metadata: {{name: a}}", "Service/a is made a second time: its name has to tell it from the first"),
    ],
)
def test_templates_that_make_no_object(cluster, text, message):
    """A template that does not make an object of its own is an error that names it."""
    with pytest.raises(TemplateError, match=r"^service\.yaml\.j2: ") as caught:
        render(cluster, overridden(service=text))

    assert message in caught.value.message


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_same_bytes_everywhere(tmp_path, output):
    """The same document makes the same bytes, whatever the hash seed, time zone, language or folder."""
    document = tmp_path / "cluster.yaml"
    document.write_text(EXAMPLE.read_text("utf-8").replace("streaming-team", "équipe de flux"), "utf-8")
    command = [sys.executable, "-m", "chronik", "render", "-f", str(document), "-o", output]
    surroundings = [
        {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8", "XDG_CACHE_HOME": str(tmp_path)},
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "XDG_CACHE_HOME": str(tmp_path)},
        {"PYTHONHASHSEED": "2", "PYTHONIOENCODING": "latin-1", "XDG_CACHE_HOME": str(document)},
    ]
    made = {
        subprocess.run(command, capture_output=True, check=True, cwd=folder, env={**os.environ, **each}).stdout
        for each, folder in zip(surroundings, (ROOT, tmp_path, ROOT), strict=True)
    }

    assert len(made) == 1
    assert "équipe de flux" in made.pop().decode("utf-8")


def test_templates_see_labels_and_annotations(tmp_path):
    """A template can use the document's labels and annotations, but not the copy that kubectl keeps in one."""
    document = yaml.safe_load((ROOT / "examples" / "minimal.yaml").read_text())
    document["metadata"] |= {
        "labels": {"team": "streaming"},
        "annotations": {"example.com/owner": "me", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }
    cluster = offline.validator().validate(document).cluster
    template = (
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {{ part("metadata") }}\n'
        "data: {{ merged(cluster.labels, cluster.annotations) }}\n"
    )
    (tmp_path / "configmap.yaml.j2").write_text(template)
    (config,) = [each for each in offline.render_clusters([cluster], str(tmp_path)) if each["kind"] == "ConfigMap"]

    assert config["data"] == {"team": "streaming", "example.com/owner": "me"}


VALUES = {"team": "streaming", "items": [{"name": "a", "size": 1.5}], "limits": {"cpu": 2.0, "none": None}}


def with_values(values):
    document = yaml.safe_load((ROOT / "examples" / "minimal.yaml").read_text())
    document["spec"]["templateValues"] = values
    return offline.validator().validate(document).cluster


def test_templates_see_template_values(tmp_path):
    """A template can use any JSON of spec.templateValues, under the user's keys whatever these are."""
    text = (
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {{ part("metadata") }}\n'
        "data:\n  team: {{ cluster.templateValues.team }}\n"
        "{% for item in cluster.templateValues.items %}\n  {{ item.name }}: '{{ item.size }}'\n{% endfor %}\n"
        "  cpu: '{{ cluster.templateValues.limits.cpu }}'\n"
    )
    (tmp_path / "configmap.yaml.j2").write_text(text)
    made = offline.render_clusters([with_values(VALUES)], str(tmp_path))
    (config,) = [each for each in made if each["kind"] == "ConfigMap"]

    assert config["data"] == {"team": "streaming", "a": "1.5", "cpu": "2"}


def test_template_values_in_snapshots(tmp_path, assert_manifests):
    """What a template of one's own makes of values is reviewed as a snapshot, like everything else."""
    text = (ROOT / "templates" / "serviceaccount.yaml.j2").read_text("utf-8")
    more = "automountServiceAccountToken: {{ cluster.templateValues.items | length > 1 }}\n"
    more += "imagePullSecrets: {{ cluster.templateValues.items }}\n"
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(("automount", "imagePull"))]
    (tmp_path / "serviceaccount.yaml.j2").write_text("".join(lines) + more)
    made = offline.render_clusters([with_values({"items": [{"name": "registry"}]})], str(tmp_path))

    assert_manifests([each for each in made if each["kind"] == "ServiceAccount"][:1])


def test_values_that_no_template_uses_change_nothing():
    """Not one byte of any object depends on values that no template asks for."""
    made = [offline.render_clusters([with_values(values)]) for values in ({}, VALUES, {"team": "other"})]

    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize(
    ("expression", "values", "message"),
    [
        ("cluster.templateValues.tema", VALUES, "there is no tema here: did you mean team?"),
        ("cluster.templateValues.limits.gpu", VALUES, "there is no gpu here: did you mean cpu?"),
        ("cluster.templateValues.zzz.deep", VALUES, "there is no zzz here: there are items, limits, team"),
        ("cluster.templateValues.team", {}, "there is no team here: the map is empty"),
        ("cluster.templatValues.team", VALUES, "there is no templatValues here: did you mean templateValues?"),
        ("cluster.templateValues.limits", VALUES, "a null inside a map or list: leave such values out, with given()"),
    ],
)
def test_template_values_that_are_missing(tmp_path, expression, values, message):
    """A key that the document lacks is an error that names key, template and line."""
    text = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {{ part("metadata") }}\ndata:\n  team: {{ %s }}\n'
    (tmp_path / "configmap.yaml.j2").write_text(text % expression)

    with pytest.raises(TemplateError) as caught:
        offline.render_clusters([with_values(values)], str(tmp_path))

    assert (caught.value.message, caught.value.template, caught.value.line) == (message, "configmap.yaml.j2", 5)
