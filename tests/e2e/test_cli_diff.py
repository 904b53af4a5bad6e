"""`chronik diff` against both servers: it shows what an apply would do, and does nothing."""

from __future__ import annotations

import asyncio
import base64
import re

import pytest
import yaml
from support.cli_place import SPEC, Place, run
from support.operators import Namespace, running, small

from chronik.manifest import ObjectRef
from chronik.offline import assets

OBJECTS = 17


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return Place(server, namespace, tmp_path)


@pytest.fixture
def applied(place):
    """Return a namespace in which the cluster is as it should be."""
    assert place.apply().code == 0
    return place


def test_nothing_to_change(applied):
    """A cluster that is as it should be has no difference: exit code 0, and one line."""
    done = applied.diff()

    assert done == (0, f"{applied.namespace}/c: {OBJECTS} unchanged\n", "")


def test_new_cluster(place):
    """Of a cluster that is not there, every object is to be created: exit code 1, and nothing is written."""
    done = place.diff()

    assert (done.code, done.err) == (1, "")
    assert done.out.count(": does not exist: is created\n") == OBJECTS
    assert done.out.endswith(f"{place.namespace}/c: {OBJECTS} to create, 0 unchanged\n")
    assert {request.method for request in place.asked()} == {"GET"}
    assert place.live() == {}


def test_namespace_that_does_not_exist_yet(place):
    """A namespace that is missing is a note, with the command that makes it; all objects are to be created."""
    lost = Place(place.server, "no-such-namespace", place.folder)
    done = lost.diff()

    assert done.code == 1
    assert (
        "note: namespace no-such-namespace does not exist yet: kubectl create namespace no-such-namespace" in done.out
    )
    assert f"{OBJECTS} to create" in done.out


def test_changes_are_shown_field_by_field(applied):
    """Each field that would change is shown with both values; pods that restart are announced with the reason."""
    image = {**SPEC["image"], "ingest": "chronik/ingest:1.5.0"}
    done = applied.diff(ingestNodes=4, image=image)

    assert done.code == 1
    assert f"~ StatefulSet/{applied.namespace}/c-ingest\n" in done.out
    assert "    spec.replicas: 2 -> 4\n" in done.out
    path = 'spec.template.spec.containers[name="ingest"].image'
    assert f"    {path}: chronik/ingest:1.4.2 -> chronik/ingest:1.5.0\n" in done.out
    assert '    its pods restart: spec.containers[name="ingest"].image\n' in done.out
    assert done.out.endswith(f"{applied.namespace}/c: 1 to change, {OBJECTS - 1} unchanged\n")


def test_configuration_is_shown_line_by_line(applied):
    """A value of several lines is shown as a unified diff, and the restart that follows is put down to it."""
    tracing = {"tracing": True, "otlpEndpoint": "http://collector:4317"}
    done = applied.diff(monitoring=tracing)

    assert re.search(
        rf"\+ ConfigMap/{applied.namespace}/c-config-\w+: does not exist: is created\n    replaces c-config-\w+\n",
        done.out,
    )
    assert "    data[monitoring.otlp.endpoint]: (nothing) -> http://collector:4317\n" in done.out
    assert "http://collector:4317" in done.out
    assert "the configuration that they read changes" in done.out


def test_edits_of_others_are_shown_with_their_owner(applied):
    """What `kubectl edit` changed is shown with who holds it, and what to do; then apply can take it."""
    applied.edit("StatefulSet", "c-ingest", {"spec": {"replicas": 5}})
    plain, forced = applied.diff(), applied.diff("--force-conflicts")

    assert plain.code == forced.code == 1
    assert f"! StatefulSet/{applied.namespace}/c-ingest: is in conflict\n" in plain.out
    assert "    spec.replicas: 5 -> 2  (held by kubectl-edit)\n" in plain.out
    assert "--force-conflicts" in plain.out
    assert "    spec.replicas: 5 -> 2  (taken from kubectl-edit)\n" in forced.out
    assert applied.apply("--force-conflicts").code == 0
    assert applied.diff().code == 0


def test_managed_fields_are_never_shown(applied):
    """Neither output shows the server's bookkeeping, whatever has changed."""
    applied.edit("StatefulSet", "c-ingest", {"spec": {"replicas": 5}, "metadata": {"labels": {"x": "y"}}})
    done, as_json = applied.diff(searchNodes=0), applied.diff("-o", "json", searchNodes=0)

    assert "managedFields" not in done.out + as_json.out
    assert "f:spec" not in done.out + as_json.out


def test_orphans_and_prunes(applied):
    """Without --prune, objects that are no longer wanted are named and are no change; with it, they are deletions."""
    kept, pruned = applied.diff(searchNodes=0), applied.diff("--prune", searchNodes=0)
    gone = {ObjectRef.of(each) for each in applied.rendered()} - {
        ObjectRef.of(each) for each in applied.rendered(searchNodes=0)
    }

    assert kept.code == int("to change" in kept.out)
    assert {f"? {ref}: is no longer part of the cluster; --prune deletes it" for ref in gone} <= set(
        kept.out.splitlines()
    )
    assert pruned.code == 1
    assert {f"- {ref}: is no longer part of the cluster: is deleted" for ref in gone} <= set(pruned.out.splitlines())
    assert f"{len(gone)} to delete" in pruned.out
    assert set(applied.live()) >= gone


def test_foreign_objects_are_named(place):
    """An object that is not ours is named with what to do about it, and its contents are not compared."""
    place.call("POST", "ServiceAccount", body={"metadata": {"name": "c-ingest", "annotations": {"theirs": "x"}}})
    done = place.diff()

    assert done.code == 1
    assert f"! ServiceAccount/{place.namespace}/c-ingest: is not touched\n    is not chronik's" in done.out
    assert "theirs" not in done.out
    assert f"{OBJECTS - 1} to create, 1 not ours, 0 unchanged" in done.out


def test_immutable_fields_are_foreseen(applied):
    """A change that the server would refuse is shown as such, with the way out."""
    done = applied.diff(storage={"backend": "local", "size": "10Gi", "storageClass": "fast"})

    assert done.code == 1
    assert f"! StatefulSet/{applied.namespace}/c-ingest: cannot be changed\n" in done.out
    assert "cannot be changed" in done.out


# --- of a cluster that an operator manages ----------------------------------------------------------------------------


def test_operator_has_nothing_to_do(place):
    """Of an operator's cluster that is as it should be, a diff shows no difference, and says whose it is."""
    place.operate()
    done = place.diff()
    note = f"note: {place.namespace}/c: an operator manages this cluster.\n"

    assert done == (0, f"{note}{place.namespace}/c: {OBJECTS} unchanged\n", "")


def test_what_an_operator_will_do(place):
    """A document that an operator has not got yet is compared as the operator does: pruning, and taking back."""
    place.operate()
    place.edit("StatefulSet", "c-ingest", {"spec": {"replicas": 5}})
    done, as_json = place.diff(searchNodes=0), place.diff("-o", "json", searchNodes=0)
    document = sorted(place.folder.iterdir())[-2]

    assert (done.code, as_json.code) == (1, 1)
    assert "    spec.replicas: 5 -> 2  (taken from kubectl-edit)\n" in done.out
    assert f"- Deployment/{place.namespace}/c-search: is no longer part of the cluster: is deleted\n" in done.out
    assert "is not touched" not in done.out
    assert "ownerReferences" not in done.out
    told = f"It will do this once the document is applied with `kubectl apply -f {document}`."
    assert done.out.count(f"an operator manages this cluster. {told}") == 1
    assert as_json.json["clusters"][0]["operator"] is True


async def test_what_a_running_operator_has_done(server, namespace, tmp_path):
    """What a running operator has brought about is no difference, seen from the document that it has got."""
    person, place = Namespace(server, namespace), Place(server, namespace, tmp_path)
    document = small(namespace, searchNodes=1, resources=SPEC["resources"])
    async with running(server, namespace):
        await person.launch(document)
    file = tmp_path / "document.yaml"
    file.write_text(yaml.safe_dump(document))
    done = await asyncio.to_thread(run, "diff", "-f", str(file), *place.flags())

    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"{OBJECTS} unchanged\n")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": "1Gi"}, "spec.storage.size: a volume can grow, but never shrink"),
        (
            {"backend": "s3", "s3": {"bucket": "bucket", "region": "eu", "credentialsSecret": "s"}},
            "spec.storage.backend: the backend of a cluster never changes, since its data would stay behind",
        ),
    ],
    ids=["smaller", "backend"],
)
@pytest.mark.parametrize("command", ["diff", "apply"])
def test_a_transition_that_the_server_refuses(place, command, change, told):
    """What the API server will refuse in place of the live document is an error with the rule's words, and no plan."""
    place.operate(storage={"backend": "local", "size": "2Gi"})
    storage = {"backend": "local", "size": "2Gi", **change}
    done = getattr(place, command)(storage=storage)
    as_json = getattr(place, command)("-o", "json", storage=storage)

    assert (done.code, done.out) == (2, "")
    assert f"error: {place.namespace}/c: the API server will refuse this document" in done.err
    assert f"  {told}\n" in done.err
    assert "ake a new cluster and move the data." in done.err
    assert as_json.json["clusters"][0]["error"]["reason"] == "InvalidTransition"
    assert as_json.json["clusters"][0]["operator"] is True


def test_a_larger_size_is_no_refused_transition(place):
    """A volume that grows is shown as what the operator will do."""
    place.operate(storage={"backend": "local", "size": "2Gi"})

    assert place.diff(storage={"backend": "local", "size": "3Gi"}).code == 1


def test_a_paused_cluster(place):
    """Of a paused cluster a diff says that it is, what ends the pause, and what else its changes wait for."""
    place.operate()
    pause = {"metadata": {"annotations": {"chronik.stream/paused": "true"}}}
    url = f"/apis/chronik.stream/v1alpha1/namespaces/{place.namespace}/chronikclusters/c"
    assert place.server.call("PATCH", url, pause, patch="merge").code == 200
    same, changed = place.diff(), place.diff(ingestNodes=4)
    resume = f"`kubectl annotate chronikcluster c -n {place.namespace} chronik.stream/paused-`"
    note = f"{place.namespace}/c: an operator manages this cluster, and it is paused. It goes on after {resume}."

    assert (same.code, changed.code) == (0, 1)
    assert f"note: {note}\n" in same.out
    assert f"{note} It will do this once the document is applied with `kubectl apply -f " in changed.out
    assert "`, too.\n" in changed.out


def test_operator_and_other_managers(place):
    """What an operator does not take from another manager is in conflict, --force-conflicts or not."""
    place.operate()
    place.edit("StatefulSet", "c-ingest", {"spec": {"replicas": 5}}, manager="argocd")
    done = place.diff("--force-conflicts")

    assert done.code == 1
    assert "    spec.replicas: 5 -> 2  (held by argocd)\n" in done.out
    assert "    Remove it from the configuration of argocd, or have argocd give it up.\n" in done.out
    assert "--force-conflicts" not in done.out
    assert "It will do this" not in done.out


def test_order_is_stable(applied):
    """Two diffs of the same state are the same text."""
    assert applied.diff("--prune", searchNodes=0, controllers=3) == applied.diff(
        "--prune", searchNodes=0, controllers=3
    )


def test_json_has_the_same_as_text(applied):
    """The JSON of a diff lists every object with what would become of it, changes and restarts."""
    image = {**SPEC["image"], "ingest": "chronik/ingest:1.5.0"}
    done = applied.diff("-o", "json", image=image)
    (cluster,) = done.json["clusters"]
    (changed,) = (each for each in cluster["objects"] if each["outcome"] == "changed")
    path = 'spec.template.spec.containers[name="ingest"].image'

    assert done.code == 1
    assert len(cluster["objects"]) == OBJECTS
    assert cluster["dryRun"] == "client"
    assert cluster["operator"] is False
    assert changed["changes"] == [
        {"path": path, "old": "chronik/ingest:1.4.2", "new": "chronik/ingest:1.5.0", "owner": ""}
    ]
    assert changed["restarts"] == [path]


def test_secrets_are_masked(applied):
    """The values of Secrets that an override renders are shown nowhere, nor where they turn up in other objects."""
    folder = applied.folder / "secretive"
    folder.mkdir()
    config = (assets.TEMPLATES / "configmap.yaml.j2").read_text()

    def write(word):
        encoded = base64.b64encode(word.encode()).decode()
        secret = (
            f'apiVersion: v1\nkind: Secret\nmetadata: {{{{ part("metadata") }}}}\ndata: {{password: "{encoded}"}}\n'
        )
        (folder / "serviceaccount.yaml.j2").write_text(secret)
        (folder / "configmap.yaml.j2").write_text(
            config.replace("data:\n", f"data:\n  leak: an URL with {word} in it\n")
        )

    words = ("hunter2-hunter2", "correct-horse")
    write(words[0])
    first = applied.diff("--templates", str(folder))
    applied.apply("--templates", str(folder))
    write(words[1])
    outputs = [applied.diff("--templates", str(folder), *more).out for more in ((), ("-o", "json"))]
    applied_json = applied.apply("--templates", str(folder), "-o", "json").out

    for text in (first.out, applied_json, *outputs):
        for word in words:
            assert word not in text
            assert base64.b64encode(word.encode()).decode() not in text
    assert all("*** (before)" in text and "*** (after)" in text for text in outputs)
    assert "data.leak: *** (before) -> *** (after)\n" in outputs[0]


def test_error_is_no_difference(place):
    """Input that is invalid exits with 2, a server that refuses with 3: a script can tell them from a difference."""
    place.context = "nobody"
    broken = place.folder / "broken.yaml"
    broken.write_text("kind: Nonsense\n")

    assert place.diff().code == 3
    assert "nobody may not list" in place.diff().err
    assert run("diff", "-f", str(broken), *place.flags()).code == 2
