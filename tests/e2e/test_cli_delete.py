"""`chronik delete` against both servers: what goes, in which order, what stays, and what is asked before."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli_place import Place, environment, run

from chronik.manifest import CLUSTER, KINDS, ClusterKey, Manifest, ObjectRef
from chronik.plan.actions import Prune
from chronik.plan.deletion import deletion
from chronik.plan.live import LiveCluster
from chronik.plan.volumes.sizes import claim_retention
from chronik.report.deletion import forecast, question

OBJECTS = 17
OWN = "chronik.stream/cluster"
CLAIMS = ["data-c-controller-0", "data-c-ingest-0", "data-c-ingest-1"]
RETAIN, DELETE = ({"backend": "local", "retention": {"whenDeleted": wish}} for wish in ("Retain", "Delete"))


class DeletePlace(Place):
    """A place from which a cluster is deleted."""

    def delete(self, *arguments: str) -> Any:
        """Run `chronik delete` in the namespace, without asking."""
        return run("delete", *self.flags(), "-n", self.namespace, "--yes", *arguments)

    def claim(self, name: str, instance: str = "c", **metadata: Any) -> None:
        """Create a volume claim, labelled as a StatefulSet controller does."""
        component = name.split("-")[2] if name.count("-") > 2 else "ingest"
        labels = {"app.kubernetes.io/instance": instance, "app.kubernetes.io/component": component}
        body = {
            "metadata": {"name": name, "labels": labels, **metadata},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        answer = self.call("POST", "PersistentVolumeClaim", body=body)
        assert answer.code == 201, answer.body

    def claims(self) -> list[str]:
        """Return the names of all volume claims that nobody is deleting."""
        items = self.call("GET", "PersistentVolumeClaim").body["items"]
        return sorted(each["metadata"]["name"] for each in items if "deletionTimestamp" not in each["metadata"])

    def declare(self, **metadata: Any) -> dict[str, Any]:
        """Create the ChronikCluster, and return it."""
        whole = yaml.safe_load(Path(self.document()).read_text("utf-8"))
        whole["metadata"] |= metadata
        answer = self.server.call("PATCH", self.document_url(), whole, fieldManager="somebody")
        assert answer.code == 201, answer.body
        return answer.body

    def document_url(self) -> str:
        """Return the path of the ChronikCluster."""
        return f"/apis/{CLUSTER.api_version}/namespaces/{self.namespace}/{CLUSTER.plural}/{self.name}"

    def adopt(self, owner: dict[str, Any]) -> None:
        """Make the ChronikCluster the owner of all objects, as an operator does."""
        reference = {
            "apiVersion": CLUSTER.api_version,
            "kind": CLUSTER.name,
            "name": self.name,
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        for ref in self.live():
            self.edit(ref.kind, ref.name, {"metadata": {"ownerReferences": [reference]}}, manager="chronik-operator")

    def deletions(self) -> list[tuple[str, str]]:
        """Return what chronik deleted, as plural and name, in order; a dry run is told in the body."""
        asked = [each for each in self.asked() if each.verb == "delete"]
        return [(each.resource, each.name) for each in asked if "dryRun" not in (each.body or {})]


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return DeletePlace(server, namespace, tmp_path)


# --- what goes --------------------------------------------------------------------------------------------------------


@pytest.mark.stand_in  # the orphans of a deleted StatefulSet are a controller's work
def test_pods_whose_set_is_gone_go_too(place):
    """Pods that an apply has left, which was cut off while it created their StatefulSet anew, do not run for ever."""
    place.apply()
    template = place.call("GET", "StatefulSet", "c-ingest").body["spec"]["template"]["metadata"]
    pod = {"metadata": {**template, "name": "c-ingest-0"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    assert place.call("POST", "Pod", body=pod).code == 201
    assert place.call("DELETE", "StatefulSet", "c-ingest", propagationPolicy="Orphan").code == 200
    done = place.delete("--no-wait", "c")

    assert done.code == 0, done.err
    assert place.call("GET", "Pod", "c-ingest-0").code == 404


def test_everything_goes_in_reverse(place):
    """Each object of the cluster is deleted by one request, in the reverse order of an apply."""
    place.apply()

    done = place.delete("c")

    order = [kind.plural for kind in KINDS]
    stages = {kind.plural: kind.stage for kind in KINDS}
    gone = [stages[plural] for plural, _ in place.deletions()]
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{place.namespace}/c: {OBJECTS} objects deleted, all gone\n"
    assert place.live() == {}
    assert len(gone) == OBJECTS
    assert gone == sorted(gone, reverse=True)
    assert {plural for plural, _ in place.deletions()} <= {*order}


def test_deletions_have_preconditions(place):
    """Every deletion names the uid and the version of what was looked at, so nothing else can be hit."""
    place.apply()

    place.delete("c")

    bodies = [each.body for each in place.asked() if each.verb == "delete"]
    assert all({"uid", "resourceVersion"} <= body["preconditions"].keys() for body in bodies)
    assert {body["propagationPolicy"] for body in bodies} == {"Background"}


def test_deleting_again(place):
    """What is gone already is an error, unless --ignore-not-found says otherwise, and no request."""
    place.apply()
    place.delete("c")
    before = len(place.deletions())

    done, dry, ignored = place.delete("c"), place.delete("c", "--dry-run"), place.delete("c", "--ignore-not-found")

    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"error: {place.namespace}/c: there is no such cluster")
    assert dry.code == 3
    assert ignored == (0, f"{place.namespace}/c: nothing to delete\n", "")
    assert len(place.deletions()) == before


def test_a_slip_in_a_name(place):
    """A name that no cluster has deletes nothing of the cluster that was meant, which is named."""
    events = DeletePlace(place.server, place.namespace, place.folder, name="events")
    events.apply()

    done = events.delete("evnts")
    (as_json,) = events.delete("evnts", "-o", "json").json["clusters"]

    assert done.code == 3
    assert f"Did you mean {place.namespace}/events?" in done.err
    assert (as_json["ok"], as_json["deleted"]) == (False, [])
    assert "there is no such cluster" in as_json["error"]
    assert len(events.live()) == OBJECTS


def test_one_of_two_is_missing(place):
    """Of several clusters those that exist are deleted, the others are errors, and a part was done."""
    place.apply()

    done = place.delete("c", "d")

    assert done.code == 5
    assert f"error: {place.namespace}/d: there is no such cluster" in done.err
    assert place.live() == {}


def test_by_file(place):
    """A file says which cluster, and its namespace."""
    place.apply()

    done = run("delete", *place.flags(), "--yes", "-f", place.document())

    assert done.code == 0
    assert place.live() == {}


def test_others_stay(place):
    """Another cluster, objects that are only labelled alike, and what somebody asked to keep, stay and are named."""
    place.apply()
    other = DeletePlace(place.server, place.namespace, place.folder, name="d")
    other.apply()
    labels = {OWN: "c"}
    answer = place.call("POST", "ConfigMap", body={"metadata": {"name": "mine", "labels": labels}})
    assert answer.code == 201, answer.body
    place.edit("Service", "c-search", {"metadata": {"annotations": {"chronik.stream/prune": "keep"}}})

    done = place.delete("c")

    assert done.code == 0
    assert {str(ref) for ref in place.live()} == {
        f"ConfigMap/{place.namespace}/mine",
        f"Service/{place.namespace}/c-search",
    }
    assert len(other.live()) == OBJECTS
    assert f"ConfigMap/{place.namespace}/mine stays: it " in done.out
    assert f"Service/{place.namespace}/c-search stays: it is annotated chronik.stream/prune: keep" in done.out


def test_a_foreign_owner(place):
    """An object that somebody else controls is never touched, whatever its labels."""
    place.apply()
    owner = place.call("POST", "ConfigMap", body={"metadata": {"name": "owner"}}).body
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    place.edit("Service", "c-search", {"metadata": {"ownerReferences": [{**reference, "controller": True}]}})

    done = place.delete("c")

    assert [ref.name for ref in place.live()] == ["c-search"]
    assert "c-search stays: it is controlled by ConfigMap/owner" in done.out


def test_dry_run(place):
    """A dry run shows what would go, has the server check it, and deletes nothing."""
    place.apply()
    place.claim(CLAIMS[0])

    done = run("delete", *place.flags(), "-n", place.namespace, "c", "--dry-run")

    assert done.code == 0
    assert "    StatefulSet " in done.out
    assert "  1 volume claim stays with its data. To delete it, too:\n" in done.out
    assert f"kubectl delete pvc -n {place.namespace} {CLAIMS[0]}" in done.out
    assert done.out.endswith(f"{place.namespace}/c: {OBJECTS} objects would be deleted\n")
    assert len(place.live()) == OBJECTS
    assert place.deletions() == []


def test_json(place):
    """Programs learn what was deleted, what stayed and what went by itself."""
    place.apply()
    place.claim(CLAIMS[1])

    (cluster,) = place.delete("c", "-o", "json").json["clusters"]

    assert (cluster["name"], cluster["ok"], cluster["dryRun"], cluster["error"]) == ("c", True, False, None)
    assert len(cluster["deleted"]) == OBJECTS
    assert cluster["deleted"][-1]["kind"] == "ServiceAccount"
    assert [each["name"] for each in cluster["volumesKept"]] == [CLAIMS[1]]
    assert (cluster["left"], cluster["failed"], cluster["kept"]) == ([], [], [])


# --- volumes ----------------------------------------------------------------------------------------------------------


def test_volumes_stay(place):
    """Volume claims stay by default, and the command that deletes them is printed, then and ever after."""
    place.apply()
    for name in CLAIMS:
        place.claim(name)

    first, again = place.delete("c"), place.delete("c")

    assert place.claims() == CLAIMS
    for done in (first, again):
        assert "  3 volume claims stay with their data. To delete them, too:\n" in done.out
        assert f"    kubectl delete pvc -n {place.namespace} {' '.join(CLAIMS)}\n" in done.out


def test_volumes_go(place):
    """With whenDeleted: Delete the cluster's claims go, too, those that nothing owns included, and no others."""
    place.apply(storage=DELETE)
    for name in (*CLAIMS, "data-d-ingest-0", "data-c-ingest-0-backup"):
        place.claim(name)

    done = place.delete("c")

    assert (done.code, place.claims()) == (0, ["data-c-ingest-0-backup", "data-d-ingest-0"])
    assert sorted(name for plural, name in place.deletions()[-3:]) == CLAIMS
    assert "volume claim" not in done.out


def test_volumes_that_were_left_go_by_file(place):
    """Once the cluster is gone, a file that says Delete still removes what it left."""
    for name in CLAIMS:
        place.claim(name)

    done = run("delete", *place.flags(), "--yes", "-f", place.document(storage=DELETE))

    assert (done.code, place.claims()) == (0, [])


def test_volumes_that_would_go_against_the_file(place):
    """If the volumes would go with their StatefulSet although the file keeps them, nothing is deleted."""
    place.apply(storage=DELETE)

    done = run("delete", *place.flags(), "--yes", "-f", place.document(storage=RETAIN))

    assert done.code == 4
    assert "its volumes would go with it" in done.err
    assert "Run `chronik apply` first" in done.err
    assert len(place.live()) == OBJECTS
    assert place.deletions() == []


# --- with an operator -------------------------------------------------------------------------------------------------


def test_a_cluster_of_an_operator(place):
    """Where an operator keeps a cluster, its document is deleted, and the garbage collector takes the rest."""
    place.apply()
    place.adopt(place.declare())

    done = place.delete("c")

    assert (done.code, done.out) == (0, f"{place.namespace}/c: 1 object deleted, all gone\n")
    assert place.deletions() == [(CLUSTER.plural, "c")]
    assert place.live() == {}
    assert place.server.call("GET", place.document_url()).code == 404


def test_a_document_beside_a_cluster(place):
    """A document that no operator ever looked at goes together with what was applied from the command line."""
    place.apply()
    place.declare()

    done = place.delete("c")

    assert done.code == 0
    assert place.deletions()[0] == (CLUSTER.plural, "c")
    assert len(place.deletions()) == OBJECTS + 1
    assert place.live() == {}


def test_a_dead_operator(place):
    """A document that its operator's finalizer holds is waited for, until the time is up, and the finalizer named."""
    place.declare(finalizers=["chronik.stream/finalizer"])

    done = place.delete("c", "--timeout", "1s")

    assert done.code == 6
    assert "finalizer chronik.stream/finalizer holds it" in done.out
    place.server.call("PATCH", place.document_url(), {"metadata": {"finalizers": None}}, patch="merge")


def test_without_waiting(place):
    """--no-wait sends the deletions and looks no further."""
    place.declare(finalizers=["chronik.stream/finalizer"])

    done = place.delete("c", "--no-wait")

    assert (done.code, done.out) == (0, f"{place.namespace}/c: 1 object deleted\n")
    place.server.call("PATCH", place.document_url(), {"metadata": {"finalizers": None}}, patch="merge")


def test_without_the_definition(bare_server, tmp_path):
    """Where ChronikClusters are not installed, clusters from the command line are deleted all the same."""
    place = DeletePlace(bare_server, bare_server.new_namespace(), tmp_path)
    place.apply()

    assert place.delete("c").code == 0
    assert place.live() == {}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_no_rights(place):
    """Who may not look is told all rights that are missing at once, and nothing is deleted."""
    place.apply()
    bob = DeletePlace(place.server, place.namespace, place.folder, context="bob")

    done = bob.delete("c")

    assert done.code == 3
    for plural in ("serviceaccounts", "statefulsets.apps", "deployments.apps", "configmaps"):
        assert f"may not list {plural} in namespace {place.namespace}" in done.err
    assert done.err.count("error: ") == 1
    assert len(place.live()) == OBJECTS


def test_a_part_only(place):
    """What cannot be deleted keeps what it needs: the stages after it are not tried, and all of it is told."""
    place.apply()
    every = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
    budgets = {"apiGroups": ["policy"], "resources": ["*"], "verbs": ["delete"]}
    stateless = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["delete"]}
    place.grant("alice", every, budgets, stateless, proof=place.url("StatefulSet"))
    alice = DeletePlace(place.server, place.namespace, place.folder, context="alice")

    done = alice.delete("c")

    left = {ref.kind for ref in place.live()}
    assert done.code == 5
    assert {"StatefulSet", "Service", "ConfigMap", "Role"} <= left
    assert left.isdisjoint({"Deployment", "PodDisruptionBudget"})
    assert f"StatefulSet/{place.namespace}/c-ingest: " in done.out
    assert re.search(rf"ConfigMap/{place.namespace}/c-config-\w+: not tried, because of StatefulSet/", done.out)


def test_objects_that_change_meanwhile(place, monkeypatch):
    """An object that is written between the look and the deletion is looked at again, and goes all the same."""
    place.apply()
    looked = []
    from chronik.cli import delete  # noqa: PLC0415  # to step in between

    read = delete._live_cluster

    async def meddled(kube: Any, key: ClusterKey) -> LiveCluster:
        found = await read(kube, key)
        if not looked:
            place.edit("StatefulSet", "c-ingest", {"metadata": {"annotations": {"a": "b"}}})
        looked.append(key)
        return found

    monkeypatch.setattr(delete, "_live_cluster", meddled)

    done = place.delete("c")

    assert (done.code, len(looked)) == (0, 2)
    assert done.out.startswith(f"{place.namespace}/c: {OBJECTS} objects deleted, all gone\n")
    assert place.live() == {}


@pytest.mark.parametrize("arguments", [(), ("c", "-f", "x.yaml")], ids=["nothing", "both"])
def test_which_clusters(place, arguments):
    """Either names or files must be given: nothing is ever deleted for want of a name."""
    done = place.delete(*arguments)

    assert done.code == 2
    assert "say which clusters" in done.err


# --- asking -----------------------------------------------------------------------------------------------------------


def test_nobody_to_ask(place):
    """Off a terminal nothing is deleted without --yes."""
    place.apply()

    done = run("delete", *place.flags(), "-n", place.namespace, "c")

    assert done.code == 2
    assert "--yes" in done.err
    assert len(place.live()) == OBJECTS


@pytest.mark.parametrize(("answer", "left"), [("n", OBJECTS), ("y", 0), ("\x03", OBJECTS)], ids=["no", "yes", "ctrl-c"])
def test_asking(place, answer, left):
    """On a terminal it shows what goes and what stays, and deletes if the answer is yes."""
    place.apply()
    place.claim(CLAIMS[0])
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", IN_CHARGE, "delete", *place.flags(), "-n", place.namespace, "c"]
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment(NO_COLOR="1"), start_new_session=True
    ) as process:
        os.close(follower)
        shown = read_until(leader, "[y/N]")
        rest = read_until(leader, None, answer if answer == "\x03" else f"{answer}\n")
        process.wait(30)
    os.close(leader)

    assert len(place.live()) == left
    assert process.returncode == (130 if answer == "\x03" else 0), rest
    assert "will be deleted" in shown
    assert f"Delete {place.namespace}/c? [y/N]" in shown
    assert "StatefulSet" in shown
    assert CLAIMS[0] in shown


IN_CHARGE = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from chronik.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
"""Runs chronik with the terminal on its standard input as its own, so that ^C reaches it."""


def read_until(leader: int, awaited: str | None, answer: str = "") -> str:
    """Return what a terminal shows until a text comes, or until the end; answer whenever it shows nothing for a while.

    What is typed between a prompt and the reading of it can be lost, as a line editor sets the terminal up in between.
    """
    shown, deadline = "", time.monotonic() + 60
    os.write(leader, answer.encode())
    while awaited is None or awaited not in shown:
        assert time.monotonic() < deadline, shown
        if not select.select([leader], [], [], 5)[0]:
            os.write(leader, answer.encode())
            continue
        try:
            shown += os.read(leader, 65536).decode(errors="replace")
        except OSError:  # the last one on the other side is gone
            if awaited is None:
                return shown
            raise
    return shown


@pytest.mark.parametrize("command", ["delete", "status"])
def test_names_are_names(command):
    """What is no name of a cluster is refused before anybody is asked, with a word on where namespaces go."""
    done = run(command, "demo/events")

    assert done.code == 2
    assert "'demo/events' is no name of a cluster; its namespace is given with -n" in done.err


# --- pure -------------------------------------------------------------------------------------------------------------


def live(kind: str, name: str, **rest: Any) -> Manifest:
    """Return an object that chronik applied for `c`."""
    return {
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": {OWN: "c", "app.kubernetes.io/managed-by": "chronik-operator"},
            "managedFields": [{"manager": "chronik-operator", "operation": "Apply"}],
        },
        "spec": {},
        **rest,
    }


def claim(name: str, **metadata: Any) -> Manifest:
    """Return a volume claim."""
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "1", **metadata},
    }


def stateful(policy: str | None) -> Manifest:
    """Return the StatefulSet of the ingest nodes with a retention policy."""
    spec = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": policy}} if policy else {}
    return live("StatefulSet", "c-ingest", spec=spec)


KEY = ClusterKey("ns", "c")


@pytest.mark.parametrize(
    ("policy_of_live", "file", "fate"),
    [
        (None, None, "stays"),
        ("Retain", None, "stays"),
        ("Delete", None, "goes"),
        ("Retain", "Delete", "goes"),
        ("Delete", "Delete", "goes"),
        ("Retain", "Retain", "stays"),
        ("Delete", "Retain", "forbidden"),
        ("gone", None, "stays"),
        ("gone", "Retain", "stays"),
        ("gone", "Delete", "goes"),
    ],
)
def test_fate_of_volumes(policy_of_live, file, fate):
    """A file decides about volumes, else the live StatefulSet, else they stay; what cannot be kept is forbidden."""
    objects = {} if policy_of_live == "gone" else {ObjectRef.of(stateful(None)): stateful(policy_of_live)}

    found = deletion(KEY, LiveCluster(objects=objects, claims=[claim("data-c-ingest-0")]), file)

    planned = [action.ref.name for action in found.plan.actions if action.ref.kind == "PersistentVolumeClaim"]
    assert (found.error is not None) == (fate == "forbidden")
    assert planned == (["data-c-ingest-0"] if fate == "goes" else [])
    assert [ref.name for ref in found.volumes] == ([] if fate == "goes" else ["data-c-ingest-0"])


def test_volumes_that_their_workload_takes_along():
    """A claim that its StatefulSet owns needs no request: it goes with it, and is waited for."""
    owned = claim("data-c-ingest-0", ownerReferences=[{"uid": "uid-c-ingest"}])

    found = deletion(KEY, LiveCluster(objects={ObjectRef.of(stateful("Delete")): stateful("Delete")}, claims=[owned]))

    assert [action.ref.kind for action in found.plan.actions] == ["StatefulSet"]
    assert found.uids == {"uid-c-ingest", "uid-data-c-ingest-0"}


def test_policy():
    """A StatefulSet without a policy keeps its volumes."""
    assert [claim_retention(stateful(wish)) for wish in (None, "Retain", "Delete")] == ["Retain", "Retain", "Delete"]


def test_only_what_was_shown():
    """Of a later look nothing is taken but what somebody has agreed to."""
    first = deletion(KEY, LiveCluster(objects={ObjectRef.of(stateful(None)): stateful(None)}))
    anew = live("StatefulSet", "c-ingest") | {}
    anew["metadata"]["uid"] = "another"
    later = deletion(KEY, LiveCluster(objects={ObjectRef.of(anew): anew}, pods=[claim("x")]))

    assert later.plan.actions
    assert later.only(first.uids).plan.actions == ()
    assert later.only(first.uids).follows == ()
    assert [type(action) for action in first.only(first.uids).plan.actions] == [Prune]


@pytest.mark.parametrize("width", [40, 80, 160, None])
def test_forecasts_fit(width):
    """What will be deleted is shown by kind, on terminals of every width."""
    objects = [live("Service", f"c-service-{number}") for number in range(9)]
    objects += [live("HorizontalPodAutoscaler", "c-ingest-hpa")]
    found = deletion(
        KEY, LiveCluster(objects={ObjectRef.of(each): each for each in objects}, claims=[claim(CLAIMS[0])])
    )

    shown = forecast([found], width=width, color=False)

    assert max(map(len, shown.splitlines())) <= (width or 400)
    assert "c-service-8" in shown
    assert shown.index("HorizontalPodAutoscaler") < shown.index("Service")


def test_what_a_workload_that_stays_uses_stays():
    """A StatefulSet that somebody keeps keeps its pods and their data, whatever retention says."""
    kept = stateful("Delete")
    kept["metadata"]["annotations"] = {"chronik.stream/prune": "keep"}
    claims = [claim(f"data-c-ingest-{number}", ownerReferences=[{"uid": kept["metadata"]["uid"]}]) for number in (0, 1)]
    pod = {"kind": "Pod", "metadata": {"name": "c-ingest-0", "namespace": "ns", "uid": "p", "labels": COMPONENT}}
    found = deletion(
        KEY, LiveCluster(objects={ObjectRef.of(kept): kept}, pods=[pod], claims=claims), retention="Delete"
    )

    assert [action.ref.name for action in found.kept] == ["c-ingest"]
    assert (found.plan.actions, found.follows) == ((), ())
    assert [ref.name for ref in found.volumes] == ["data-c-ingest-0", "data-c-ingest-1"]


COMPONENT = {"chronik.stream/component": "ingest"}


@pytest.mark.parametrize(
    ("retention", "asked"), [("Retain", "Delete ns/c?"), ("Delete", "Delete ns/c and the data of 1 volume claim?")]
)
def test_the_question_says_what_is_lost(retention, asked):
    """The last line before the answer names the cluster, and its data if that goes, too."""
    objects = {ObjectRef.of(each): each for each in [live("Service", "c-ingest")]}
    found = deletion(KEY, LiveCluster(objects=objects, claims=[claim(CLAIMS[0])]), retention=retention)

    assert question([found]) == asked


# --- with controllers -------------------------------------------------------------------------------------------------


@pytest.mark.real  # only real controllers make pods and claims, and remove them
@pytest.mark.parametrize("wish", ["Retain", "Delete"])
def test_with_real_controllers(real_cluster, tmp_path, wish):
    """Pods go with their cluster; the claims that a real StatefulSet controller made stay or go as the spec says."""
    place = DeletePlace(real_cluster, real_cluster.new_namespace(), tmp_path)
    place.apply(storage=DELETE if wish == "Delete" else RETAIN)
    deadline = time.monotonic() + 60
    while not set(CLAIMS) <= set(place.claims()) or len(place.call("GET", "Pod").body["items"]) < 4:
        assert time.monotonic() < deadline, place.claims()
        time.sleep(0.3)

    done = place.delete("c", "-o", "json", "--timeout", "60s")

    assert done.code == 0, done.out
    assert [name for name in place.claims() if name in CLAIMS] == ([] if wish == "Delete" else CLAIMS)
    assert place.call("GET", "Pod").body["items"] == []
    assert len(json.loads(done.out)["clusters"][0]["followed"]) >= 4
