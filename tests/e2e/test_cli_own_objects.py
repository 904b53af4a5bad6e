"""`chronik apply`, `diff`, `status` and `delete` against both servers, with templates that add objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.cli_place import Done, Place, run
from support.own_templates import folder, free_kind, install, new_kind, texts

if TYPE_CHECKING:
    from typing import Any

    from chronik.manifest import Kind


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return Place(server, namespace, tmp_path)


@pytest.fixture
def kind(server):
    """Return a kind that is installed."""
    kind = new_kind()
    install(server, kind)
    return kind


def gadgets(place: Place, kind: Kind) -> dict[str, Any]:
    """Return the sizes of a namespace's gadgets, by name."""
    path = f"/apis/{kind.api_version}/namespaces/{place.namespace}/{kind.plural}"
    return {each["metadata"]["name"]: each["spec"]["size"] for each in place.server.call("GET", path).body["items"]}


def outcomes(done: Done) -> dict[str, str]:
    """Return what became of objects that something became of."""
    (cluster,) = done.json["clusters"]
    found = {f"{each['kind']}/{each['name']}": each["outcome"] for each in cluster["objects"]}
    return {name: outcome for name, outcome in found.items() if outcome != "unchanged"}


def test_added_changed_repaired_and_pruned(place, kind):
    """What templates add is made, changed, repaired and pruned, the last of a kind too; diff says so before."""
    flags = ["--templates", folder(place.folder / "t", texts(kind)), "-o", "json"]
    made = place.apply(*flags)
    again = place.apply(*flags)

    assert (made.code, made.err) == (0, "")
    assert outcomes(made)["Gadget/c-ingest"] == outcomes(made)["ConfigMap/c-extra"] == "created"
    assert outcomes(again) == {}
    assert place.diff(*flags).code == 0

    folder(place.folder / "t", texts(kind, "two"))
    assert outcomes(place.diff(*flags)) == {"ConfigMap/c-extra": "changed", "Gadget/c-ingest": "changed"}
    assert place.apply(*flags).code == 0
    assert gadgets(place, kind) == {"c-ingest": "two"}

    path = f"/apis/{kind.api_version}/namespaces/{place.namespace}/{kind.plural}/c-ingest"
    edited = place.server.call("PATCH", path, {"spec": {"size": "x"}}, patch="merge", fieldManager="kubectl-edit")
    assert edited.code == 200
    assert place.diff(*flags).code == 1
    assert outcomes(place.apply("--force-conflicts", *flags)) == {"Gadget/c-ingest": "changed"}
    assert gadgets(place, kind) == {"c-ingest": "two"}

    kept = place.apply("-o", "json")
    assert outcomes(kept) == {"ConfigMap/c-extra": "orphaned", "Gadget/c-ingest": "orphaned"}
    foretold = outcomes(place.diff("--prune", "-o", "json"))
    pruned = place.apply("--prune", "-o", "json")
    assert outcomes(pruned) == foretold
    assert {foretold[name] for name in ("ConfigMap/c-extra", "Gadget/c-ingest")} == {"pruned"}
    assert gadgets(place, kind) == {}
    assert place.diff("--prune").code == 0
    (config,) = [each for ref, each in place.live().items() if ref.kind == "ConfigMap"]
    assert "annotations" not in config["metadata"]


def test_a_kind_that_is_not_installed(place):
    """A kind that is not there is told, with what to do, and keeps nothing else from being made or pruned."""
    kind = new_kind()
    flags = ["--templates", folder(place.folder / "t", texts(kind))]
    assert place.apply(searchNodes=1).code == 0
    foretold = place.diff("--prune", *flags, searchNodes=0)
    done = place.apply("--prune", *flags, searchNodes=0)

    assert foretold.code == 1
    assert (done.code, outcomes(place.apply(*flags, "-o", "json", searchNodes=0))) == (
        0,
        {"Gadget/c-ingest": "not-installed"},
    )
    assert f"the cluster does not know the kind Gadget ({kind.api_version})" in done.err
    assert "Install the CustomResourceDefinition that defines it." in " ".join(done.err.split())
    assert place.call("GET", "ConfigMap", "c-extra").code == 200
    assert place.call("GET", "Deployment", "c-search").code == 404

    install(place.server, kind)
    assert place.apply(*flags, searchNodes=0).code == 0
    assert gadgets(place, kind) == {"c-ingest": "one"}


def test_a_kind_that_is_not_installed_is_told(place):
    """What templates add of such a kind is noted as what chronik makes is: all else is done, waited for, and well."""
    kind = new_kind()
    flags = ["--templates", folder(place.folder / "t", texts(kind))]
    shown = place.diff(*flags)
    done = place.apply(*flags)
    waited = place.apply(*flags, "--wait", "--timeout", "1s")

    assert "1 not installed" in shown.out
    assert (done.code, done.out.count("1 not installed")) == (0, 1)
    assert f"note: Gadget/{place.namespace}/c-ingest: the cluster does not know the kind Gadget" in done.err
    assert "Install the CustomResourceDefinition that defines it." in " ".join(done.err.split())
    assert place.call("GET", "ConfigMap", "c-extra").code == 200
    assert "Gadget" not in waited.err.partition("not ready")[2]


def test_a_kind_that_lies_in_no_namespace(place):
    """A custom resource that lies in no namespace is refused with the reason."""
    kind = new_kind()
    place.server.install([free_kind(kind, scope="Cluster")])
    place.server.wait_served(f"/apis/{kind.api_version}/{kind.plural}")
    done = place.apply("--templates", folder(place.folder / "t", texts(kind)))

    assert done.code == 2
    assert f"Gadget/{place.namespace}/c-ingest: the kind Gadget ({kind.api_version}) lies in no namespace" in done.err
    assert place.live() == {}
    assert "Keep it beside the clusters." in done.err


def test_deleted_with_the_cluster(place, kind):
    """A cluster's deletion takes along what templates have added, whether they are still there or not."""
    assert place.apply("--templates", folder(place.folder / "t", texts(kind))).code == 0
    assert place.apply().code == 0
    done = run("delete", "c", "-n", place.namespace, "--yes", *place.flags())

    assert (done.code, done.err) == (0, "")
    assert gadgets(place, kind) == {}
    assert place.live() == {}


def test_status_and_wait(place, kind):
    """`status` says what a custom resource waits for, in the words of its conditions, and `apply --wait` waits."""
    flags = ["--templates", folder(place.folder / "t", texts(kind))]
    assert place.apply(*flags).code == 0
    path = f"/apis/{kind.api_version}/namespaces/{place.namespace}/{kind.plural}/c-ingest/status"
    waiting = {"type": "Ready", "status": "False", "reason": "Pending", "message": "no key yet"}
    assert place.server.call("PATCH", path, {"status": {"conditions": [waiting]}}, patch="merge").code == 200
    shown = run("status", "c", "-n", place.namespace, *place.flags())
    waited = place.apply(*flags, "--wait", "--timeout", "1s")

    assert "Waits for Gadget/c-ingest: Pending: no key yet" in shown.out
    assert waited.code == 6
    assert f"Gadget/{place.namespace}/c-ingest" in waited.err
    assert "no key yet" in waited.err


def test_patches_of_the_document(place, kind):
    """spec.patches reach objects of templates, too: maps of a custom resource are merged, and lists replaced."""
    flags = ["--templates", folder(place.folder / "t", texts(kind))]
    patches = [
        {"target": {"kind": "Gadget"}, "patch": {"spec": {"size": "large"}}},
        {"target": {"kind": "ConfigMap", "name": "c-extra"}, "patch": [{"op": "add", "path": "/data/b", "value": "c"}]},
    ]
    done = place.apply(*flags, patches=patches)

    assert (done.code, done.err) == (0, "")
    assert gadgets(place, kind) == {"c-ingest": "large"}
    assert place.call("GET", "ConfigMap", "c-extra").body["data"] == {"text": "one", "b": "c"}


def test_offline_diff_says_the_same(place, kind):
    """`diff --from` plays objects of templates as well: what templates drop is pruned there, too."""
    templates = folder(place.folder / "t", texts(kind))
    old = place.document(templateValues={"a": "b"})
    done = run("diff", "--from", old, "-f", place.document(ingestNodes=3), "--templates", templates, "--prune")

    assert done.code == 1
    assert "Gadget" not in done.out
    gone = run("diff", "--from", old, "-f", str(place.folder), "--templates", templates)
    assert gone.err == "" or "error" in gone.err
