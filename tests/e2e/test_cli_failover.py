"""`chronik failover` against both servers: what it refuses, the one thing that it writes, and that it goes on."""

from __future__ import annotations

from typing import Any

import pytest
from support.api import USERS
from support.cli_place import Place, run
from support.played_probes import mirror_pod, own_address, probe

from chronik.api.replication.copies import CopyState
from chronik.cli import streams
from chronik.cli.mirrors import options as moving
from chronik.cli.mirrors import probes

EAST = {"name": "east", "bootstrapServers": ["east:9092"], "topics": {"include": ["orders"]}}
SOUTH = {"name": "south", "bootstrapServers": ["south:9092"], "topics": {"include": ["prices"]}}
BOTH = {"replication": {"sources": [EAST, SOUTH]}}
WHOLE = CopyState(reachable=True, lag=1.0, missing=(), untranslated=())


@pytest.fixture
def place(server, namespace, tmp_path) -> Place:
    """Return a fresh namespace."""
    return Place(server, namespace, tmp_path)


def failover(place: Place, *arguments: str, primary: str = "east", standby: str = "c") -> Any:
    """Run the command in the namespace."""
    return run("failover", primary, standby, *place.flags(), "-n", place.namespace, *arguments)


def pod(place: Place, at: tuple[str, int], name: str = "c-mirror-east-x") -> None:
    """Play a pod of the mirror of east, whose probe answers at an address."""
    mirror_pod(place, "c-mirror-east", at, name)


def document(place: Place) -> dict[str, Any]:
    """Return the cluster's document."""
    return dict(place.server.call("GET", f"{base(place)}/c").body)


def base(place: Place) -> str:
    """Return the path of the namespace's documents."""
    return f"/apis/chronik.stream/v1alpha1/namespaces/{place.namespace}/chronikclusters"


def paused(place: Place) -> list[bool]:
    """Return which sources are paused."""
    return [each["paused"] for each in document(place)["spec"]["replication"]["sources"]]


def test_a_whole_copy_is_moved_to(place):
    """With a copy that lacks nothing the mirror is stopped, and the rest of the document stays as it was."""
    place.operate(**BOTH)
    before = document(place)
    with probe(WHOLE) as at:
        pod(place, at)
        tried = failover(place, "--dry-run")
        after_trial = document(place)
        cut = failover(place, "--yes", "--timeout", "1s")
        place.call("DELETE", "Pod", "c-mirror-east-x", gracePeriodSeconds="0")
        again = failover(place, "--yes")
    after = document(place)

    assert (tried.code, after_trial) == (0, before)
    assert tried.out.splitlines() == [
        f"east -> {place.namespace}/c",
        "  the source can be reached",
        "  the copy is 1 s behind",
        "  all partitions are here, and all groups are translated",
        f"  to be written: paused: true for source east of ChronikCluster {place.namespace}/c, nothing else",
    ]
    assert cut.code == 6
    assert "c-mirror-east-x is still there" in cut.err
    assert again.code == 0, again.err
    assert "stopped by an earlier failover" in again.out
    assert "1. Point the clients to c-ingest-client." in again.out
    assert paused(place) == [True, False]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    before["spec"]["replication"]["sources"][0]["paused"] = True
    assert after["spec"] == before["spec"]


def test_programs_get_a_report(place):
    """With -o json stdout is one report: what would be lost and is not accepted, what is done, and what is left."""
    place.operate(**BOTH)
    with probe(WHOLE._replace(lag=90.0)) as at:
        pod(place, at)
        refused = failover(place, "--yes", "-o", "json")
        cut = failover(place, "--yes", "--accept-loss", "--timeout", "0s", "-o", "json")
        place.call("DELETE", "Pod", "c-mirror-east-x", gracePeriodSeconds="0")
        done = failover(place, "--yes", "-o", "json")
    said, ended = (each.json["clusters"][0] for each in (refused, done))

    assert [each.code for each in (refused, cut, done)] == [1, 6, 0]
    assert {name: said[name] for name in ("namespace", "name", "source", "ok", "outcome")} == {
        "namespace": place.namespace,
        "name": "c",
        "source": "east",
        "ok": False,
        "outcome": "refused",
    }
    assert said["lost"] == ["what the source took in during 90 s, and 5 s are allowed"]
    assert (cut.json["clusters"], cut.json["error"]["reason"]) == ([], "WaitTimeout")
    assert (ended["ok"], ended["outcome"]) == (True, "unchanged"), "an earlier one has stopped it"
    assert ended["next"][0].startswith("Point the clients to c-ingest-client.")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (WHOLE._replace(lag=90.0), "would be lost: what the source took in during 90 s, and 5 s are allowed"),
        (WHOLE._replace(missing=("orders-1",)), "would be lost: 1 partition is not here: orders-1"),
        (WHOLE._replace(untranslated=("billing",)), "would be lost: 1 consumer group is not translated: billing"),
        (WHOLE._replace(reachable=False), "not known: how far the copy is behind, when its source was seen last"),
    ],
    ids=["behind", "partition", "group", "unknown"],
)
def test_a_loss_has_to_be_accepted(place, state, said):
    """What would be lost, or may be, is named, and nothing is written unless that is accepted."""
    place.operate(**BOTH)
    with probe(state) as at:
        pod(place, at)
        refused = failover(place, "--yes")
        still = paused(place)
        accepted = failover(place, "--yes", "--accept-loss", "--timeout", "0s")

    assert refused.code == 1, refused.err
    assert said in refused.out
    assert "go on with --accept-loss" in refused.err
    assert still == [False, False]
    assert (accepted.code, paused(place)) == (6, [True, False])


def test_without_a_probe_nothing_is_known(place, monkeypatch):
    """A mirror without pods, and one whose probe cannot be asked, are never taken for whole."""
    monkeypatch.setattr(probes, "_WITHIN", 0.3)
    place.operate(**BOTH)
    without = failover(place, "--yes")
    pod(place, (own_address(), 9))
    silent = failover(place, "--yes")

    assert (without.code, silent.code) == (1, 1)
    assert "not known: it has no pod that runs" in without.out
    assert "not known: the probe of c-mirror-east-x" in silent.out
    assert paused(place) == [False, False]


def test_a_mirror_that_was_paused_before_is_not_known_to_be_whole(place):
    """Of a mirror that stands still already, and not by a failover, nobody knows what its copy lacks."""
    place.operate(replication={"sources": [EAST | {"paused": True}]})
    refused, accepted = failover(place, "--yes"), failover(place, "--yes", "--accept-loss")

    assert refused.code == 1
    assert "not known: what came since the mirror was paused" in refused.out
    assert accepted.code == 0
    assert "What is left to do:" in accepted.out


def test_what_comes_from_git_is_not_written(place):
    """A document that Argo CD or Flux brings is left alone, and the error says what to commit and what comes then."""
    place.operate(**BOTH)
    mark = {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}}
    place.server.call("PATCH", f"{base(place)}/c", mark, patch="merge", fieldManager="argocd-controller")
    with probe(WHOLE) as at:
        pod(place, at)
        done = failover(place, "--yes")

    assert (done.code, paused(place)) == (2, [False, False])
    assert "Argo CD brings its spec from Git" in done.err
    assert "Commit paused: true for source east there." in done.err
    assert "1. Point the clients to" in done.err


def test_what_there_is_not_is_an_error(place):
    """A source, a cluster or an operator that is not there is named, with what there is."""
    place.operate(**BOTH)
    source, cluster = failover(place, "-y", primary="north"), failover(place, "-y", standby="d")

    assert (source.code, cluster.code) == (2, 3)
    assert "has no source north" in source.err
    assert "It copies from east, south." in source.err
    assert f"{place.namespace}/d: there is no such cluster" in cluster.err


def test_a_cluster_without_an_operator_is_changed_by_its_file(place):
    """Of a cluster that was applied from a file there is no document to write, and the error says so."""
    assert place.apply(**BOTH).code == 0
    done = failover(place, "-y")

    assert done.code == 2
    assert "is kept by no operator" in done.err
    assert "Set paused: true for east in its file, and apply that." in done.err


def test_it_asks_on_a_terminal_only(place):
    """Without a terminal and without --yes or --dry-run nothing is even read."""
    done = failover(place)

    assert done.code == 2
    assert "there is no terminal to ask on" in done.err
    assert place.asked() == []


def test_the_status_has_what_the_probe_knows(place):
    """`chronik replication status` shows the lag, and names what is not here."""
    place.operate(**BOTH)
    with probe(WHOLE._replace(lag=12.4, missing=("orders-1",), untranslated=("billing",))) as at:
        pod(place, at)
        table = run("replication", "status", "c", *place.flags(), "-n", place.namespace)
        data = run("replication", "status", "c", "-o", "json", *place.flags(), "-n", place.namespace)
    lines = [line.split(maxsplit=6) for line in table.out.splitlines()]

    assert lines[0] == ["NAMESPACE", "CLUSTER", "SOURCE", "STATE", "PODS", "LAG", "MESSAGE"]
    assert lines[1][5:] == [
        "12s",
        "1 partition is not here: orders-1; 1 consumer group is not translated: billing",
    ]
    copies = [each["copy"] for each in data.json["clusters"][0]["mirrors"]]
    assert copies == [
        {
            "reachable": True,
            "lag": 12.4,
            "gap": None,
            "missing": ["orders-1"],
            "untranslated": ["billing"],
            "trouble": "",
        },
        None,
    ]


def test_without_the_right_to_ask_nothing_is_known(place):
    """A user who may not get pods/proxy is told so, and of the status there is all but the lag."""
    place.operate(**BOTH)
    rules = [
        {"apiGroups": ["chronik.stream"], "resources": ["chronikclusters"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["list"]},
    ]
    place.grant(USERS[0], *rules, proof=base(place))
    place.context = USERS[0]
    with probe(WHOLE) as at:
        pod(place, at)
        refused = failover(place, "--yes")
        shown = run("replication", "status", "c", *place.flags(), "-n", place.namespace)

    assert (refused.code, paused(place)) == (1, [False, False])
    assert "not known: the probe of c-mirror-east-x cannot be asked: " in refused.out
    assert "pods/proxy" in refused.out
    assert (shown.code, shown.err) == (1, "")
    assert [line.split()[5] for line in shown.out.splitlines()] == ["LAG", "-", "-"]


def test_a_person_is_asked_and_what_changed_meanwhile_counts(place, monkeypatch):
    """A no writes nothing, and a copy that fell behind while the answer was awaited is not moved to."""
    place.operate(**BOTH)
    asked = []
    with probe(WHOLE) as at, probe(WHOLE._replace(lag=90.0)) as later:
        pod(place, at)

        def answer(text: str, **_: Any) -> bool:
            asked.append(text)
            if len(asked) > 1:
                place.call("DELETE", "Pod", "c-mirror-east-x", gracePeriodSeconds="0")
                pod(place, later, "c-mirror-east-y")
            return len(asked) > 1

        monkeypatch.setattr(moving.click, "confirm", answer)
        monkeypatch.setattr(streams, "can_ask", lambda: True)
        no, late = failover(place, "-o", "json"), failover(place)

    assert (no.json["clusters"][0]["outcome"], "the copy is 1 s behind" in no.err) == ("not-tried", True)
    assert (no.code, late.code, paused(place)) == (1, 1, [False, False])
    assert no.err.endswith("nothing was written\n")
    assert "would be lost: what the source took in during 90 s" in late.out
    assert asked == ["Stop the mirror?"] * 2
