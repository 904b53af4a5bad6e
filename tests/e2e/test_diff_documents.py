"""`chronik diff --from A -f B` says what `chronik diff -f B` says where A runs."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from support.cli_place import Place, run
from support.spec_generator import Generator

from chronik.api.rules import RuleBook
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.offline.played import played

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cli_place import Done

SAMPLE, ALL = 12, 240
MOST_CHANGES = 4
REFUSED = 2
"""The exit code where a rule forbids the change; a server that holds no ChronikCluster has nothing to say of that."""


@dataclass(frozen=True)
class Pair:
    """Two documents of one cluster, both valid, in files of their own."""

    old: str
    new: str

    @property
    def cluster(self) -> Any:
        """The cluster as the old document describes it."""
        return offline.load_clusters([self.old])[0][0]


def pairs(count: int, namespace: str, folder: Path) -> Iterator[Pair]:
    """Yield pairs of documents: the second has some of the first's fields set to what a third document says."""
    random = Random(count)
    documents = (
        Generator(assets.schema(), RuleBook(assets.rules_text()), seed).good() for seed in range(count, 100 * count)
    )
    made = 0
    while made < count:
        old, other = next(documents), next(documents)
        new = copy.deepcopy(old)
        for key in random.sample(sorted(other["spec"]), min(len(other["spec"]), random.randint(1, MOST_CHANGES))):
            new["spec"][key] = other["spec"][key]
        if new == old:
            continue
        files = [folder / f"{made}-{side}.yaml" for side in ("old", "new")]
        for file, document in zip(files, (old, new), strict=True):
            document["metadata"] = {"name": f"c{made}", "namespace": namespace}
            file.write_text(json.dumps(document))
        _, problems = offline.check(list(map(str, files[:1])))
        _, more = offline.check(list(map(str, files[1:])))
        if not any(problem.severity == "error" for problem in (*problems, *more)):
            made += 1
            yield Pair(*map(str, files))


def bind_claims(place: Place, pair: Pair) -> None:
    """Do what controllers would: make the volume claims, bound, and owned where they go with their StatefulSet."""
    found = played(pair.cluster, offline.render_clusters([pair.cluster]))
    names = {live["metadata"]["uid"]: live["metadata"]["name"] for live in found.objects.values()}
    for claim in found.claims:
        owners = claim["metadata"].get("ownerReferences", [])
        for owner in owners:
            owner["uid"] = place.call("GET", "StatefulSet", names[owner["uid"]]).body["metadata"]["uid"]
        metadata = {key: claim["metadata"].get(key) for key in ("name", "labels", "ownerReferences")}
        made = place.call("POST", "PersistentVolumeClaim", body={"metadata": metadata, "spec": claim["spec"]})
        url = f"{place.url('PersistentVolumeClaim', metadata['name'])}/status"
        bound = place.server.call("PATCH", url, {"status": claim["status"]}, patch="merge")
        assert (made.code, bound.code) == (201, 200), (made.body, bound.body)


def allow_growth(place: Place, pair: Pair) -> None:
    """Make the StorageClasses that the documents name; without a cluster all are taken to let volumes grow."""
    for file in (pair.old, pair.new):
        storage = json.loads(Path(file).read_text("utf-8"))["spec"].get("storage") or {}
        name = storage.get("storageClass")
        if name:
            body = {"metadata": {"name": name}, "provisioner": "example.com/none", "allowVolumeExpansion": True}
            place.server.call("POST", "/apis/storage.k8s.io/v1/storageclasses", body)


def said(done: Done) -> list[dict[str, Any]]:
    """Return what a diff says of objects."""
    assert done.code in {0, 1, 2}, done
    (cluster,) = done.json["clusters"]
    return cluster["objects"]


def heads(done: Done) -> list[str]:
    """Return the lines about objects and clusters in the text of a diff.

    The lines below them say what the JSON does. But no pods run on a server without controllers, so there is no number
    of them to restart, and the fields of a map stand in the order in which the server prints them.
    """
    return [line for line in done.out.splitlines() if not line.startswith(" ")]


def compare(place: Place, pair: Pair) -> tuple[set[str], list[Any]]:
    """Compare both diffs of one pair; return what becomes of objects, and what one says and the other does not."""
    applied = run("apply", "-f", pair.old, *place.flags())
    assert applied.code == 0, applied
    allow_growth(place, pair)
    bind_claims(place, pair)
    without = ["diff", "--from", pair.old, "-f", pair.new]
    on_server = ["diff", "-f", pair.new, *place.flags()]
    disagreements: list[Any] = []
    for flags in ((), ("--prune",)):
        theirs, ours = (said(run(*command, *flags, "-o", "json")) for command in (on_server, without))
        disagreements += [(*both, pair, flags) for both in zip_longest(ours, theirs) if both[0] != both[1]]
    if run(*without).code != REFUSED:
        texts = [heads(run(*command)) for command in (without, on_server)]
        disagreements += [(*both, pair) for both in zip_longest(*texts) if both[0] != both[1]]
    return {each["outcome"] for each in ours}, disagreements


def test_says_what_a_diff_with_a_server_says(server, namespace, tmp_path):
    """For generated pairs of documents, a diff without a cluster says what one does where the old document runs."""
    place = Place(server, namespace, tmp_path)
    found = [compare(place, pair) for pair in pairs(SAMPLE, namespace, tmp_path)]

    assert [each for _, disagreements in found for each in disagreements] == []
    assert sum("changed" in outcomes for outcomes, _ in found) > SAMPLE / 2


@pytest.mark.slow
def test_says_so_for_hundreds_of_pairs(real_server, tmp_path):
    """On a real server more than two hundred pairs are compared, most of which change something."""
    place = Place(real_server, real_server.new_namespace(), tmp_path)
    found = [compare(place, pair) for pair in pairs(ALL, place.namespace, tmp_path)]

    assert [each for _, disagreements in found for each in disagreements] == []
    assert len(found) == ALL
    assert sum("changed" in outcomes for outcomes, _ in found) > ALL / 2
    assert {"changed", "created", "pruned", "grown", "recreated", "blocked"} <= set.union(*(each for each, _ in found))
