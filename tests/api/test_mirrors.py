"""Mirrors as a document describes them, and the loops that several documents would make."""

from __future__ import annotations

from typing import Any

import pytest
from support.clusters import small_cluster

from chronik.api.replication.loops import loops
from chronik.api.replication.mirrors import mirrors
from chronik.offline import loading


def cluster(name: str, *sources: dict[str, Any], alias: str | None = None, **spec: Any):
    """Return a cluster that copies from some others."""
    replication = {"sources": list(sources), **({"alias": alias} if alias else {})}
    return small_cluster(name, **({"replication": replication} if sources else {}), **spec)


def source(name: str, naming: str = "Identity", server: str = "kafka.example.com:9092", *topics: str) -> dict[str, Any]:
    """Return a source."""
    return {"name": name, "naming": naming, "bootstrapServers": [server], "topics": {"include": list(topics) or [".*"]}}


EAST = "east-ingest-client.default.svc.cluster.local:9092"
LOOPS = {
    "both ways": ([cluster("east", source("west")), cluster("west", source("east"))], [("west", "east")]),
    "by an address": ([cluster("east", source("west")), cluster("west", source("e", server=EAST))], [("west", "east")]),
    "by a short address": (
        [cluster("east", source("west")), cluster("west", source("e", server="east-ingest-client:9092"))],
        [("west", "east")],
    ),
    "by an alias": ([cluster("east", source("w")), cluster("west", source("east"), alias="w")], [("west", "east")]),
    "one Identity is enough": (
        [cluster("east", source("west")), cluster("west", source("east", "Prefixed"))],
        [("west", "east")],
    ),
    "around three": (
        [cluster("a", source("c")), cluster("b", source("a")), cluster("c", source("b"))],
        [("b", "c", "a")],
    ),
    "prefixes see it": ([cluster("east", source("west", "Prefixed")), cluster("west", source("east", "Prefixed"))], []),
    "one way": ([cluster("east"), cluster("west", source("east"))], []),
    "a fan": ([cluster("a"), cluster("b", source("a")), cluster("c", source("a"))], []),
    "others' topics": (
        [
            cluster("east", source("west", "Identity", "west:9092", "prices")),
            cluster("west", source("east", "Identity", "east:9092", "orders")),
        ],
        [],
    ),
    "an expression may be any topic": (
        [
            cluster("east", source("west", "Identity", "west:9092", "prices.*")),
            cluster("west", source("east", "Identity", "east:9092", "orders")),
        ],
        [("west", "east")],
    ),
    "somebody else": ([cluster("east", source("north")), cluster("west", source("east"))], []),
}


@pytest.mark.parametrize("case", LOOPS)
def test_loops(case):
    """Clusters that copy from each other in a circle are found, each circle once, if a name on it hides the origin."""
    clusters, expected = LOOPS[case]
    found = [{f"default/{name}" for name in each} for each in expected]

    assert [set(each.around) for each in loops(clusters)] == found


def test_a_loop_is_an_error_where_all_documents_are_seen(tmp_path):
    """`validate` of a folder refuses a loop, at the naming that makes it; one document alone is warned of."""
    for name, other in (("east", "west"), ("west", "east")):
        (tmp_path / f"{name}.yaml").write_text(DOCUMENT.format(name=name, other=other))
    _, together = loading.check([str(tmp_path)])
    _, alone = loading.check([str(tmp_path / "east.yaml")])

    (error,) = [each for each in together if each.severity == "error"]
    assert error.message == "topics would be copied for ever: default/west to default/east to default/west"
    assert (error.code, error.location and error.location.line) == ("replication-loop", 15)
    assert [(each.code, each.severity) for each in alone if "loop" in each.code] == [("replication-loop", "warning")]


DOCUMENT = """\
apiVersion: chronik.stream/v1alpha1
kind: ChronikCluster
metadata:
  name: {name}
spec:
  storage: {{backend: local}}
  metastore:
    connection: {{host: postgres, database: chronik, credentialsSecret: chronik-postgres}}
  replication:
    sources:
    - name: {other}
      bootstrapServers: ["kafka.example.com:9092"]
      topics:
        include: [".*"]
      naming: Identity
"""


def test_a_source_is_not_the_cluster_itself(tmp_path):
    """A source that is called as the cluster is refused, whether by its alias or by its own name."""
    (tmp_path / "east.yaml").write_text(DOCUMENT.format(name="east", other="east"))
    _, problems = loading.check([str(tmp_path / "east.yaml")])

    (error,) = [each for each in problems if each.severity == "error"]
    assert error.path == ("spec", "replication", "sources", 0, "name")
    assert error.message == "a source must not be called as this cluster itself is, which is east"


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, ""),
        ({"maxLag": "5m", "paused": True, "naming": "Identity"}, ""),
        ({"naming": "Prefixed"}, "the naming of a source never changes"),
        ({"name": "other", "naming": "Prefixed"}, ""),
    ],
)
def test_what_never_changes(change, refused):
    """The naming of a source stays as it is; under another name it is another source."""
    before = source("east")
    problems = loading.validator().transition(cluster("west", before | change), document(cluster("west", before)))

    assert [refused in each.message for each in problems] == ([True] if refused else [])


def test_the_alias_never_changes():
    """The alias can neither be changed nor be given later."""
    for alias in (None, "here"):
        problems = loading.validator().transition(
            cluster("west", source("east"), alias="w"), document(cluster("west", source("east"), alias=alias))
        )
        assert [each.code for each in problems] == ["replication-alias-changes"]


def document(of: Any) -> dict[str, Any]:
    """Return the live document of a cluster."""
    metadata = {"name": of.name, "namespace": of.namespace, "generation": 1}
    return {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": metadata, "spec": of.spec}


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("10m", 600), ("24h", 86_400)])
def test_lengths_of_time(text, seconds):
    """MaxLag is read in its unit."""
    (mirror,) = mirrors(cluster("west", source("east") | {"maxLag": text}))

    assert mirror.lag == seconds


def test_copies_are_kept_by_as_many_brokers_as_there_are():
    """Topics of a mirror have three copies, or as many as there are brokers."""
    assert [mirrors(cluster("west", source("east"), ingestNodes=each))[0].factor for each in (1, 2, 3, 9)] == [
        1,
        2,
        3,
        3,
    ]
