from __future__ import annotations

from pathlib import Path

import pytest

from chronik.cli import main as cli
from chronik.offline import assets, loading
from chronik.render.kubernetes import FieldTable

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
HEAD = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {{ part("metadata") }}\n'
CASES = {
    "a-misspelt-field": (
        HEAD + 'data:\n  a: "{{ spec.storge.backend }}"\n',
        "5:15",
        "there is no storge here: did you mean storage?",
        "",
    ),
    "a-misspelt-variable": (HEAD + 'data:\n  a: "{{ nme }}"\n', "5:10", "nme is not defined", "Did you mean name?"),
    "a-misspelt-part": (
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {{ part("metdata") }}\n',
        "3:20",
        "there is no part metdata",
        "Did you mean metadata?",
    ),
    "a-misspelt-filter": (
        HEAD + 'data:\n  a: "{{ name | uper }}"\n',
        "5:17",
        "there is no filter uper",
        "Did you mean upper?",
    ),
    "a-filter-with-arguments": (
        HEAD + "data:\n  a: {{ spec.storage.size | quantity(1) }}\n",
        "5:29",
        "quantity() takes no arguments",
        "docs/templates.md",
    ),
    "an-open-statement": (
        HEAD + "{% if spec.network %}\ndata: {}\n",
        "5:1",
        "{% if %} is not closed",
        "Write {% endif %}",
    ),
    "an-open-expression": (HEAD + "data: {{ name\n", "4:7", "`{{` is not closed", "Write }}."),
    "an-unknown-statement": (
        HEAD + "{% iff spec.network %}\n",
        "4:4",
        "there is no statement {% iff %}",
        "There are if,",
    ),
    "broken-yaml": (
        HEAD + "data:\n a: b\n  c: d\n",
        "6:3",
        "not YAML: a key cannot stand here",
        "Indent it like its neighbours",
    ),
    "division": (HEAD + "data: {{ 1 / 0 }}\n", "4:1", "this divides by zero", ""),
    "a-misspelt-kind": (
        'apiVersion: v1\nkind: ConfgMap\nmetadata: {{ part("metadata") }}\n',
        "2:7",
        "Kubernetes has no kind ConfgMap in v1",
        "Did you mean ConfigMap of v1?",
    ),
    "an-unknown-field": (HEAD + "dta: {}\n", "4:1", "dta is no field that Kubernetes knows", "Did you mean data?"),
    "a-value-of-a-wrong-type": (HEAD + "immutable: 5\n", "4:1", "immutable must be true or false, and is a number", ""),
    "a-list-for-a-map": (HEAD + "data: []\n", "4:1", "data must be a map, and is a list", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_say_where_and_what_to_do(case, tmp_path, capsys):
    """A mistake in a template is shown in its file, line and column, in plain words, with what to write instead."""
    text, place, message, hint = CASES[case]
    file = tmp_path / "configmap.yaml.j2"
    file.write_text(text)

    assert cli.run(["render", "-f", str(ROOT / "examples" / "minimal.yaml"), "--templates", str(tmp_path)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert message in told
    assert f"--> {file}:{place}" in told
    assert hint in told


def test_errors_say_for_what_a_template_was_rendered(tmp_path, capsys):
    """A template that is wrong for one component alone is told with that component and its cluster."""
    (tmp_path / "service.yaml.j2").write_text("{% if component.name == 'ingest' %}{{ nope }}{% endif %}")

    assert cli.run(["render", "-f", str(ROOT / "examples" / "minimal.yaml"), "--templates", str(tmp_path)]) == 2
    assert "component controller of default/minimal" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_table_knows_what_chronik_makes(path):
    """Everything that chronik's own templates make is, by the table, what Kubernetes knows."""
    table = FieldTable(assets.kubernetes_fields())
    clusters, _ = loading.load_clusters([str(path)])

    assert [problem for each in loading.render_clusters(clusters) for problem in table.problems(each)] == []


def test_kinds_of_others_are_not_judged():
    """A kind that a CustomResourceDefinition may define is left alone."""
    table = FieldTable(assets.kubernetes_fields())
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "m"}, "any": 1}

    assert list(table.problems(monitor)) == []
