"""A cluster that runs as its document says, played without one."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import yaml
from support.cli_place import SPEC, run

from chronik.manifest import ObjectRef
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.offline.played import played

SECRET = 'apiVersion: v1\nkind: Secret\nmetadata: {{{{ part("metadata") }}}}\nstringData: {{password: {word}}}\n'


def document(folder, name="c", **spec):
    """Write a document, and return the file's name."""
    file = folder / f"{name}-{len([*folder.iterdir()])}.yaml"
    metadata = {"name": name, "namespace": "demo"}
    whole = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": metadata,
        "spec": SPEC | spec,
    }
    file.write_text(yaml.safe_dump(whole))
    return str(file)


def live(folder, **spec):
    """Return what there is of a cluster."""
    (cluster,), _ = offline.load_clusters([document(folder, **spec)])
    return played(cluster, offline.render_clusters([cluster]))


def test_pods_run_and_volumes_are_bound(tmp_path):
    """Each pod that is asked for runs, and has its volume."""
    found = live(tmp_path)
    claims = [ObjectRef.of(claim).name for claim in found.claims]

    assert found.pod_counts[ObjectRef("StatefulSet", "demo", "c-ingest")] == SPEC["ingestNodes"]
    assert claims == ["data-c-controller-0", "data-c-ingest-0", "data-c-ingest-1"]
    assert {claim["status"]["phase"] for claim in found.claims} == {"Bound"}


def test_claims_go_with_their_statefulset_where_it_says_so(tmp_path):
    """Claims are owned by their StatefulSet if they are to be deleted with it, and by nothing else."""
    storage = SPEC["storage"] | {"retention": {"whenDeleted": "Delete"}}
    kept, going = (live(tmp_path, **more).claims for more in ({}, {"storage": storage}))

    assert not any("ownerReferences" in claim["metadata"] for claim in kept)
    assert {claim["metadata"]["ownerReferences"][0]["kind"] for claim in going} == {"StatefulSet"}


def test_autoscaled_pods_start_at_the_minimum(tmp_path):
    """A workload that an autoscaler scales has as many pods as that starts with, and its count is held for it."""
    scaled = {"ingestNodes": {"minReplicas": 4, "maxReplicas": 9, "targetCpuUtilizationPercentage": 70}}
    found = live(tmp_path, autoscaling=scaled)
    ref = ObjectRef("StatefulSet", "demo", "c-ingest")
    managers = [entry["manager"] for entry in found.objects[ref]["metadata"]["managedFields"]]

    assert found.pod_counts[ref] == 4
    assert managers == ["chronik-operator", "chronik-operator-replicas"]


def test_the_same_document_changes_nothing():
    """Every example is as it should be on a cluster that runs it."""
    examples = assets.TEMPLATES.parent / "examples"
    done = run("diff", "--from", str(examples), "-f", str(examples), "--prune")

    assert (done.code, done.err) == (0, "")
    assert "to " not in done.out


def test_secrets_of_templates_are_masked_and_their_kinds_not_pruned(tmp_path):
    """A Secret that a template makes is compared and hidden, in Markdown too; what other kinds leave is not deleted."""
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "serviceaccount.yaml.j2").write_text(SECRET.format(word="{{ cluster.spec.podLabels.word }}"))
    old, new = (document(tmp_path, podLabels={"word": word}) for word in ("hunter2-hunter2", "correct-horse"))
    outputs = [
        run("diff", "--from", old, "-f", new, "--templates", str(templates), "-o", form).out
        for form in ("text", "json", "markdown")
    ]

    for text in outputs:
        assert "hunter2" not in text
        assert "correct-horse" not in text
        assert "Secret" in text


def test_a_cluster_whose_document_is_gone(tmp_path):
    """A cluster that only the old documents describe is deleted, with how to do it and what becomes of its volumes."""
    kept = document(tmp_path)
    done = run("diff", "--from", kept, "--from", document(tmp_path, name="old"), "-f", kept)

    assert done.code == 1
    assert done.out.startswith("demo/c: 17 unchanged\n- ")
    assert "operator deletes it with its ChronikCluster, or else `chronik delete old -n demo` does." in done.out
    assert done.out.endswith("3 volumes with data stay.\ndemo/old: 17 to delete, 0 unchanged\n")


def test_standard_input_is_one_of_the_sides(tmp_path, monkeypatch):
    """Either side may be standard input, as the documents of `git show` are."""
    file = document(tmp_path)
    text = Path(file).read_bytes()
    for command in (["--from", "-", "-f", file], ["--from", file, "-f", "-"]):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))
        assert run("diff", *command) == (0, "demo/c: 17 unchanged\n", "")
