"""`chronik switch`, and aliases without an operator: what is refused, the one thing that is written, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.cli_place import Place, run
from support.played_probes import mirror_pod, probe

from chronik.api.replication.copies import CopyState
from chronik.cli import streams
from chronik.cli.mirrors import options as moving
from chronik.cli.mirrors import switch as switch_command
from chronik.plan.aliases.services import alias_service

if TYPE_CHECKING:
    from chronik.manifest import Manifest

NAME = "orders-kafka"
NAMED: dict[str, Any] = {"network": {"aliases": [NAME]}}
BLUE = {"name": "blue", "bootstrapServers": ["blue-ingest-client:9092"], "topics": {"include": ["orders"]}}
COPIES: dict[str, Any] = NAMED | {"replication": {"sources": [BLUE | {"naming": "Identity"}]}}
WHOLE = CopyState(reachable=True, lag=1.0, missing=(), untranslated=())
CLUSTERS = "/apis/chronik.stream/v1alpha1/namespaces/{}/chronikclusters/{}"


class Pair:
    """A namespace with two clusters, `blue` and `green`, and an alias that leads to blue."""

    def __init__(self, server: Any, namespace: str, folder: Any) -> None:
        self.server, self.namespace = server, namespace
        self.blue, self.green = (Place(server, namespace, folder, name=name) for name in ("blue", "green"))

    def operate(self, green: dict[str, Any] = COPIES, blue: dict[str, Any] = NAMED) -> None:
        """Leave both as an operator would that has made the alias."""
        for place, spec in ((self.blue, blue), (self.green, green)):
            place.operate(**spec)
            self.says(place.name)
            self.node(place)
        client = self.blue.call("GET", "Service", "blue-ingest-client").body
        assert self.blue.call("POST", "Service", body=alias_service(NAME, client)).code == 201

    def says(self, name: str, phase: str = "Running", generation: int | None = None) -> None:
        """Have a cluster's status say something, as its operator does."""
        path = CLUSTERS.format(self.namespace, name)
        seen = generation or self.server.call("GET", path).body["metadata"]["generation"]
        status = {"status": {"phase": phase, "observedGeneration": seen}}
        answer = self.server.call("PATCH", f"{path}/status", status, patch="merge", fieldManager="chronik-operator")
        assert answer.code == 200, answer.body

    def node(self, place: Place) -> None:
        """Play an ingest node that is ready."""
        name = f"{place.name}-ingest-0"
        owner = place.call("GET", "StatefulSet", f"{place.name}-ingest").body
        metadata = {"name": name, "labels": owner["spec"]["template"]["metadata"]["labels"]}
        spec = {"containers": [{"name": "ingest", "image": "x"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        assert place.call("POST", "Pod", body=body).code == 201
        said = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        assert place.call("PATCH", "Pod", f"{name}/status", said, patch="merge").code == 200

    def switch(self, *arguments: str, to: str = "green", alias: str = NAME) -> Any:
        """Run the command in the namespace."""
        return run("switch", alias, "--to", to, *self.blue.flags(), "-n", self.namespace, *arguments)

    def alias(self) -> Manifest:
        """Return the alias."""
        return dict(self.blue.call("GET", "Service", NAME).body)

    def active(self) -> str:
        """Return where it leads."""
        found = self.alias()["spec"]["selector"]
        assert found["app.kubernetes.io/component"] == "ingest"
        return str(found["app.kubernetes.io/instance"])


@pytest.fixture
def pair(server, namespace, tmp_path) -> Pair:
    """Return a fresh namespace."""
    return Pair(server, namespace, tmp_path)


def test_it_switches_and_back(pair):
    """With a copy that lacks nothing one field is written; the way back lacks what came since, and says so."""
    pair.operate()
    before = pair.alias()
    with probe(WHOLE) as at:
        mirror_pod(pair.green, "green-mirror-blue", at, "green-mirror-blue-x")
        tried = pair.switch("--dry-run")
        after_trial = pair.alias()
        done, again = pair.switch("--yes"), pair.switch("--yes")
        after = pair.alias()
        refused, back = pair.switch("--yes", to="blue"), pair.switch("--yes", "--accept-loss", to="blue")

    assert (tried.code, after_trial) == (0, before)
    assert tried.out.splitlines() == [
        f"{pair.namespace}/{NAME}: blue -> green",
        f"  green is Running, names {NAME}, and 1 of its pods that clients connect to are ready",
        "  ports and TLS are those of blue",
        "  the source can be reached",
        "  the copy is 1 s behind",
        "  all partitions are here, and all groups are translated",
        f"  to be written: the selector of Service {pair.namespace}/{NAME}, nothing else",
    ]
    assert done.code == 0, done.err
    assert f"{pair.namespace}/{NAME}: leads to green. What is left to do:" in done.out
    assert "1. Restart the clients that are connected" in done.out
    assert (again.code, "it leads there already" in again.out) == (0, True)
    wanted = {"app.kubernetes.io/instance": "green", "app.kubernetes.io/component": "ingest"}
    assert after["spec"] == before["spec"] | {"selector": wanted}
    assert refused.code == 1
    assert "not known: whether blue has what green has: no mirror copies from there" in refused.out
    assert "go on with --accept-loss" in refused.err
    assert (back.code, pair.active()) == (0, "blue")


def test_programs_get_a_report(pair):
    """With -o json stdout is one report: what would be done, is done, was done already, is lacking or in the way."""
    pair.operate()
    with probe(WHOLE) as at:
        mirror_pod(pair.green, "green-mirror-blue", at, "green-mirror-blue-x")
        tried, done = pair.switch("--dry-run", "-o", "json"), pair.switch("--yes", "-o", "json")
        again, lacking = pair.switch("--yes", "-o", "json"), pair.switch("--yes", "-o", "json", to="blue")
    pair.says("blue", "Updating")
    hindered = pair.switch("--yes", "--accept-loss", "-o", "json", to="blue")
    answers = (tried, done, again, lacking, hindered)
    foretold, moved, unchanged, refused, blocked = (each.json["clusters"][0] for each in answers)

    assert [each.code for each in answers] == [0, 0, 0, 1, 1]
    assert moved == {
        "namespace": pair.namespace,
        "name": "green",
        "alias": NAME,
        "from": "blue",
        "ok": True,
        "dryRun": "none",
        "outcome": "switched",
        "obstacles": [],
        "known": [
            f"green is Running, names {NAME}, and 1 of its pods that clients connect to are ready",
            "ports and TLS are those of blue",
            "the source can be reached",
            "the copy is 1 s behind",
            "all partitions are here, and all groups are translated",
        ],
        "lost": [],
        "unknown": [],
        "next": foretold["next"],
    }
    assert "Restart the clients that are connected" in moved["next"][0]
    assert foretold == moved | {"dryRun": "client"}
    assert done.err == ""
    assert (unchanged["outcome"], unchanged["ok"]) == ("unchanged", True)
    assert (refused["outcome"], refused["ok"]) == ("refused", False)
    assert refused["unknown"] == ["whether blue has what green has: no mirror copies from there"]
    assert blocked["obstacles"] == ["blue is Updating, and not Running"]


def test_an_error_is_a_report(pair):
    """An error of -o json is a report of no cluster, with the reason, as of all other commands."""
    done = pair.switch("-y", "-o", "json")

    assert done.code == 3
    assert (done.json["clusters"], done.json["error"]["reason"]) == ([], "NotFound")
    assert done.json["error"]["subject"] == f"{pair.namespace}/{NAME}"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (WHOLE._replace(lag=90.0), "would be lost: what the source took in during 90 s, and 5 s are allowed"),
        (None, "not known: it has no pod that runs"),
    ],
    ids=["behind", "no-probe"],
)
def test_a_loss_has_to_be_accepted(pair, state, said):
    """What would be lacking, or may be, is named, and nothing is written unless that is accepted."""
    pair.operate()
    with probe(state or WHOLE) as at:
        if state:
            mirror_pod(pair.green, "green-mirror-blue", at, "green-mirror-blue-x")
        refused = pair.switch("--yes")
        still = pair.active()
        more = pair.switch("--dry-run", "--max-lag", "2m")
        accepted = pair.switch("--yes", "--accept-loss")

    assert (refused.code, still) == (1, "blue")
    assert said in refused.out
    assert "go on with --accept-loss" in refused.err
    assert more.code == (0 if state and state.lag == 90.0 else 1)
    assert (accepted.code, pair.active()) == (0, "green")


def test_a_cluster_that_is_not_ready_is_not_switched_to(pair):
    """Whatever is accepted: not to one that is not Running at its generation, does not name it, or has other TLS."""
    pair.operate()
    pair.says("green", "Updating")
    updating = pair.switch("--yes", "--accept-loss")
    pair.says("green", generation=99)
    unseen = pair.switch("--yes", "--accept-loss")
    pair.says("green")
    pair.green.call("DELETE", "Pod", "green-ingest-0", gracePeriodSeconds="0")
    without = pair.switch("--yes", "--accept-loss")

    assert [each.code for each in (updating, unseen, without)] == [1, 1, 1]
    assert "in the way: green is Updating, and not Running" in updating.out
    assert "its operator has not seen the newest spec" in unseen.out
    assert "no pod of green that clients connect to is ready" in without.out
    assert without.err == "nothing was written: fix that and try again\n"
    assert pair.active() == "blue"


def test_what_there_is_not_is_an_error(pair):
    """An alias or a cluster that is not there, and a Service that is no alias, are named, and nothing is written."""
    pair.operate(green={})
    alias, cluster = pair.switch("-y", alias="nothing"), pair.switch("-y", to="grean")
    service, unnamed = pair.switch("-y", alias="blue-ingest-client"), pair.switch("-y", "--accept-loss")

    assert [each.code for each in (alias, cluster, service, unnamed)] == [3, 3, 4, 1]
    assert "there is no such alias" in alias.err
    assert f"Did you mean {pair.namespace}/green?" in cluster.err
    assert "this Service was not made as an alias, so it is not touched" in service.err
    assert "It is a Service of cluster blue itself." in service.err
    assert "in the way: green does not name it in network.aliases" in unnamed.out


def test_it_asks_and_what_changed_meanwhile_counts(pair, monkeypatch):
    """A no writes nothing; and who switched it while the answer was awaited wins, which is told."""
    pair.operate()
    asked = []

    def answer(text: str, **_: Any) -> bool:
        asked.append(text)
        if len(asked) == 2:
            pair.blue.edit("Service", NAME, {"spec": {"selector": {"app.kubernetes.io/instance": "red"}}})
        return len(asked) > 1

    monkeypatch.setattr(moving.click, "confirm", answer)
    monkeypatch.setattr(streams, "can_ask", lambda: True)
    no, late = pair.switch("--accept-loss"), pair.switch("--accept-loss")
    left = pair.active()

    assert (no.code, no.err) == (1, "nothing was written\n")
    assert (late.code, left) == (4, "red")
    assert "somebody has switched it to red meanwhile, so nothing was written" in late.err
    assert asked == ["Switch it?"] * 2


def test_without_a_terminal_it_wants_a_word(pair):
    """Without a terminal and without --yes or --dry-run nothing is even read."""
    done = pair.switch()

    assert done.code == 2
    assert "there is no terminal to ask on" in done.err
    assert pair.blue.asked() == []


def test_a_write_in_between_is_tried_again(pair, monkeypatch):
    """A label that somebody sets meanwhile only means another try, with the version that is there then."""
    pair.operate()
    looked = switch_command._look

    async def look(*arguments: Any) -> Any:
        found = await looked(*arguments)
        pair.blue.edit("Service", NAME, {"metadata": {"labels": {"team": "a"}}})
        return found

    monkeypatch.setattr(switch_command, "_look", look)
    done = pair.switch("--yes", "--accept-loss")

    assert (done.code, pair.active()) == (0, "green")
    assert pair.alias()["metadata"]["labels"]["team"] == "a"


# --- before it is needed ---------------------------------------------------------------------------------------------


SECURE: dict[str, Any] = NAMED | {"security": {"tlsEnabled": True, "tlsSecret": "own"}}


def test_other_tls_is_told_before_it_is_applied(pair):
    """`validate` of both documents warns at the field; `diff` and `apply` of one do by what the live other one says."""
    green, blue = pair.green.document(**SECURE), pair.blue.document(**NAMED)
    together = run("validate", blue, green, "-o", "json")
    alone = run("validate", green, "-o", "json")
    pair.blue.operate(**NAMED)
    seen = pair.green.diff(**SECURE)
    applied = pair.green.apply(**SECURE)
    unlike = [each for each in together.json if each["code"] == "alias-tls"]

    assert together.code == alone.code == 0
    assert {(each["file"], each["path"], each["severity"]) for each in unlike} == {
        (green, "spec.security.tlsEnabled", "warning"),
        (green, "spec.security.tlsSecret", "warning"),
    }
    assert not [each for each in alone.json if each["code"].startswith("alias")]
    assert (seen.code, applied.code) == (1, 0), (seen.err, applied.err)
    for done in (seen, applied):
        assert f"find tlsEnabled true here, and false at {pair.namespace}/blue" in " ".join(done.err.split())
        assert "refuses to move an alias between them" in " ".join(done.err.split())


# --- without an operator ---------------------------------------------------------------------------------------------


def test_apply_makes_an_alias_once(pair):
    """The first that is applied makes it, a dry run says so, the second and any later apply leave it alone."""
    foretold = pair.blue.apply("--dry-run", "client", **NAMED)
    first = pair.blue.apply(**NAMED)
    made = pair.alias()
    second, again = pair.green.apply(**COPIES), pair.blue.apply("--prune", **NAMED)
    rendered = [each["metadata"]["name"] for each in pair.blue.rendered(**NAMED)]
    shown = pair.blue.diff(**NAMED)

    assert (foretold.code, first.code, second.code, again.code) == (0, 0, 0, 0), (first.err, second.err, again.err)
    for done in (foretold, first):
        assert NAME in done.out
    assert made["spec"]["selector"]["app.kubernetes.io/instance"] == "blue"
    assert pair.alias()["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert NAME not in rendered
    assert shown.code == 0, shown.out


def test_clusters_without_an_operator_are_switched_with_a_word(pair):
    """What they copy nobody knows, so that has to be accepted."""
    for place, spec in ((pair.blue, NAMED), (pair.green, COPIES)):
        assert place.apply(**spec).code == 0
        pair.node(place)
    refused, done = pair.switch("--yes"), pair.switch("--yes", "--accept-loss")

    assert (refused.code, done.code) == (1, 0), refused.out
    assert "no operator keeps it, so its document is not here" in refused.out
    assert pair.active() == "green"


def test_delete_takes_the_last_alias_along(pair):
    """It stays while another cluster names it, which is told, and goes with the last."""
    for place, spec in ((pair.blue, NAMED), (pair.green, COPIES)):
        assert place.apply(**spec).code == 0
    flags = [*pair.blue.flags(), "-n", pair.namespace, "--yes"]
    first = run("delete", "blue", *flags)
    kept = pair.blue.call("GET", "Service", NAME).code
    second = run("delete", "green", *flags)

    assert (first.code, kept, second.code) == (0, 200, 0), first.err
    assert f"Service/{pair.namespace}/{NAME} stays: it is named by another cluster" in first.out
    assert pair.blue.call("GET", "Service", NAME).code == 404


def test_those_that_are_deleted_together_take_their_alias_along(pair):
    """Of several clusters in one command, the last one takes it, and that is foretold."""
    for place in (pair.blue, pair.green):
        assert place.apply(**NAMED).code == 0
    flags = [*pair.blue.flags(), "-n", pair.namespace]
    foretold = run("delete", "blue", "green", *flags, "--dry-run")
    done = run("delete", "blue", "green", *flags, "--yes")
    listed = [line for line in foretold.out.splitlines() if line.split()[:1] == ["Service"]]

    assert (foretold.code, done.code) == (0, 0), done.err
    assert [NAME in line for line in listed] == [False, True]
    assert pair.blue.call("GET", "Service", NAME).code == 404


def test_pruning_takes_an_alias_that_is_named_no_more(pair):
    """Without --prune it stays; with it, it goes, unless something of that name is no alias."""
    assert pair.blue.apply(**NAMED).code == 0
    assert pair.blue.apply("--dry-run", "client", "--prune").code == 0
    still = pair.blue.call("GET", "Service", NAME).code
    done = pair.blue.apply("--prune")

    assert (still, done.code) == (200, 0), done.err
    assert pair.blue.call("GET", "Service", NAME).code == 404


def test_what_is_in_the_way_is_a_conflict(pair):
    """A Service of that name is left alone; the rest of the cluster is applied."""
    body = {"metadata": {"name": NAME}, "spec": {"ports": [{"port": 80}]}}
    assert pair.blue.call("POST", "Service", body=body).code == 201
    done, shown = pair.blue.apply(**NAMED), pair.blue.diff(**NAMED)

    assert (done.code, shown.code) == (4, 1), done.err
    assert "has the name of an alias, and was not made as one" in done.err
    assert pair.alias()["spec"]["ports"][0]["port"] == 80
    assert pair.blue.call("GET", "Service", "blue-ingest-client").code == 200
