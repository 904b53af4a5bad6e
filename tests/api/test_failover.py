"""Whether clients may move to a copy, and what is written for it, by what is known alone."""

from __future__ import annotations

from typing import Any

import pytest
from support.clusters import small_cluster

from chronik.api.replication.copies import CopyState, best_state, copy_state
from chronik.api.replication.failover import judge, next_steps, standing, stopping_patch

WHOLE = CopyState(reachable=True, lag=1.0, missing=(), untranslated=())
GONE = WHOLE._replace(reachable=False, lag=900.0, gap=2.0)
NO_PROBE = "no probe of the mirror answers, so nobody knows how far the copy is behind"
CASES: dict[str, tuple[CopyState | None, dict[str, Any], list[str], list[str]]] = {
    "whole": (WHOLE, {}, [], []),
    "the source is lost, and the copy was whole": (GONE, {}, [], []),
    "no probe": (None, {}, [], [NO_PROBE]),
    "behind": (WHOLE._replace(lag=6.0), {}, ["what the source took in during 6 s, and 5 s are allowed"], []),
    "far behind": (WHOLE._replace(lag=7200.0), {}, ["what the source took in during 120 min, and 5 s are allowed"], []),
    "allowed": (WHOLE._replace(lag=6.0), {"allowed": 6.0}, [], []),
    "it was behind when the source was lost": (
        GONE._replace(gap=60.0),
        {},
        ["what the source took in during 60 s, and 5 s are allowed"],
        [],
    ),
    "the probe began after the source was lost": (
        GONE._replace(gap=None),
        {},
        [],
        ["how far the copy is behind, when its source was seen last"],
    ),
    "no heartbeat yet": (WHOLE._replace(lag=None), {}, [], ["how far the copy is behind"]),
    "no heartbeats at all": (
        WHOLE._replace(lag=None),
        {"heartbeats": False},
        [],
        ["how far the copy is behind: heartbeats is off"],
    ),
    "a topic is missing": (
        WHOLE._replace(missing=("a-0", "a-1", "a-2", "b-0")),
        {},
        ["4 partitions are not here: a-0, a-1, a-2 and 1 more"],
        [],
    ),
    "a group is missing": (WHOLE._replace(untranslated=("g",)), {}, ["1 consumer group is not translated: g"], []),
    "groups are not followed": (WHOLE._replace(untranslated=("g",)), {"syncs": False}, [], []),
    "nothing was compared": (
        WHOLE._replace(missing=None, untranslated=None),
        {},
        [],
        ["whether all partitions and groups are here: it has not looked yet"],
    ),
    "it may not look": (
        WHOLE._replace(missing=None, untranslated=None, trouble="no right"),
        {},
        [],
        ["whether all partitions and groups are here: no right"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_move_would_lose(case):
    """A move is safe only if it is known that nothing lacks; what is not known is told apart from what is lost."""
    state, options, lost, unknown = CASES[case]
    found = judge(state, **{"allowed": 5.0, "heartbeats": True, "syncs": True, **options})

    assert (list(found.lost), list(found.unknown)) == (lost, unknown)
    assert found.safe is (not lost and not unknown)


def test_what_a_lost_source_took_in_last_is_told():
    """Of a source that is gone, what it took in while the copy was behind is said to be lost."""
    assert judge(GONE, allowed=5, heartbeats=True, syncs=True).known == (
        "the source cannot be reached",
        "the copy was 2 s behind when the source was last seen: that much is lost",
        "all partitions are here, and all groups are translated",
    )


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"reachable": "yes"},
        {"reachable": True, "lag": "1"},
        {"reachable": True, "missing": "orders-1"},
        {"reachable": True, "untranslated": [1]},
        {"reachable": True, "trouble": None},
    ],
    ids=str,
)
def test_other_answers_are_none(data):
    """What is no answer of a probe is taken for none, and for no good news."""
    assert copy_state(data) is None


@pytest.mark.parametrize("state", [WHOLE, GONE, CopyState(reachable=False)])
def test_answers_are_read_as_they_are_written(state):
    """A state survives JSON, and one with fields of a later version is read."""
    assert copy_state({**state.as_data(), "later": 1}) == state


def test_the_pod_that_knows_most_is_believed():
    """Of several pods, one that reaches the source and has looked is believed rather than one that just began."""
    new = CopyState(reachable=True)

    assert best_state([new, WHOLE, GONE]) == WHOLE
    assert best_state([GONE._replace(gap=None), GONE]) == GONE
    assert best_state([]) is None


def document(**more: Any) -> dict[str, Any]:
    """Return a ChronikCluster with two sources."""
    sources = [{"name": "east", "bootstrapServers": ["e:9092"], **more}, {"name": "south", "paused": True}]
    return {
        "metadata": {"name": "west", "generation": 7, "resourceVersion": "123"},
        "spec": {"nodes": 3, "replication": {"alias": "w", "sources": sources}},
    }


def merged(base: Any, patch: Any) -> Any:
    """Return what a merge patch makes of something."""
    if not isinstance(patch, dict):
        return patch
    kept = dict(base) if isinstance(base, dict) else {}
    return kept | {key: merged(kept.get(key), value) for key, value in patch.items()}


def test_one_field_is_written():
    """The patch pauses one source in the document that was seen, and says that a failover did."""
    before = document()
    after = merged(before, stopping_patch(before, "east"))

    assert after["metadata"].pop("annotations") == {"chronik.stream/failover": "east@8"}
    assert after == document(paused=True)
    assert stopping_patch(before, "east")["metadata"]["resourceVersion"] == "123"


def test_what_a_failover_stopped_is_known_until_the_document_changes():
    """A mirror that a failover stopped is known by the generation; after another change nobody knows."""
    source: dict[str, Any] = {"name": "east", "paused": True}
    stopped = merged(document(), stopping_patch(document(), "east"))
    stopped["metadata"]["generation"] = 8

    assert standing(stopped, source) == "stopped"
    assert standing(stopped, {**source, "paused": False}) == "running"
    stopped["metadata"]["generation"] = 9
    assert standing(stopped, source) == "unknown"
    assert standing(document(), source) == "unknown"


def test_several_failovers_are_kept_apart():
    """The annotation keeps what an earlier failover of another source wrote."""
    first = merged(document(), stopping_patch(document(), "east"))
    first["metadata"]["generation"] = 8

    assert stopping_patch(first, "south")["metadata"]["annotations"] == {"chronik.stream/failover": "east@8 south@9"}


@pytest.mark.parametrize(("naming", "expected"), [("Prefixed", True), ("Identity", False)])
def test_what_is_left_to_do(naming, expected):
    """People are told the new address, what topics are called, and never to write to the source again."""
    given = {"name": "east", "bootstrapServers": ["e:9092"], "topics": {"include": ["orders"]}, "naming": naming}
    cluster = small_cluster("west", replication={"sources": [given]})
    steps = next_steps(cluster, cluster.spec["replication"]["sources"][0])

    assert steps[0].startswith(
        "Point the clients to west-ingest-client.default.svc.cluster.local:9092, or from elsewhere"
    )
    assert any("Consumers read east.TOPIC" in each for each in steps) is expected
    assert steps[-1].startswith("Let no client write to east again.")


def test_clients_that_come_by_an_alias_have_it_switched():
    """Where the copy names an alias, that is the first thing to do, with the whole command."""
    given = {"name": "east", "bootstrapServers": ["e:9092"], "topics": {"include": ["orders"]}}
    cluster = small_cluster("west", replication={"sources": [given]}, network={"aliases": ["orders-kafka"]})
    steps = next_steps(cluster, cluster.spec["replication"]["sources"][0])

    assert steps[0] == "If clients come by this alias: chronik switch orders-kafka --to west -n default"
    assert steps[1].startswith("Point the clients to west-ingest-client")
