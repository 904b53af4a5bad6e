"""`chronik diff --from A -f B` says what `chronik diff -f B` says where A runs."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from support import monitoring
from support.cli_place import Place, run
from support.spec_generator import Generator

from chronik.api.rules import RuleBook
from chronik.errors import InputError
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.offline.played import played

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cli_place import Done

SAMPLE, PARTS, PART = 12, 4, 56
MOST_CHANGES, MOST_NODES = 4, 12
GROWING = 0.2
"""How often volumes are asked to grow, and nothing else is done about storage."""
PATCHES: list[dict[str, Any]] = [
    {"target": {"kind": kind, "component": "ingest"}, "patch": patch}
    for kind, patch in (
        ("StatefulSet", {"spec": {"template": {"spec": {"priorityClassName": "streaming"}}}}),
        ("StatefulSet", {"spec": {"template": {"spec": {"schedulerName": "default-scheduler"}}}}),  # the default
        ("StatefulSet", {"spec": {"template": {"spec": {"volumes": [{"name": "more", "emptyDir": {}}]}}}}),
        ("StatefulSet", {"spec": {"template": {"spec": {"containers": [{"name": "more", "image": "more"}]}}}}),
        ("StatefulSet", [{"op": "add", "path": "/spec/revisionHistoryLimit", "value": 10}]),  # the default
        ("Service", {"metadata": {"annotations": {"example.com/name": "a"}}}),
        ("Service", {"spec": {"sessionAffinity": "None"}}),  # the default
    )
]
"""What no field of the spec says; some of it is what a server fills in anyway."""
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


def pairs(count: int, namespace: str, folder: Path, seed: int = 0) -> Iterator[Pair]:
    """Yield pairs of documents: the second has some of the first's fields set to what a third document says."""
    random = Random(seed)
    rules = RuleBook(assets.rules_text())
    made = 0
    while made < count:
        old, other = (Generator(assets.schema(), rules, random.getrandbits(32)).good() for _ in range(2))
        old["spec"]["patches"] = random.sample(PATCHES, random.randint(0, 2))
        other["spec"]["patches"] = random.sample(PATCHES, random.randint(0, 2))
        new = copy.deepcopy(old)
        for key in random.sample(sorted(other["spec"]), min(len(other["spec"]), random.randint(1, MOST_CHANGES))):
            new["spec"][key] = other["spec"][key]
        if random.random() < GROWING:
            new["spec"]["storage"] = old["spec"]["storage"] | {"size": "64Ti"}
        for document in (old, new):
            document["spec"].pop("bootstrap", None)  # what recovers is applied by an operator only
            for component in document["spec"].get("components", {}).values():
                component.get("service", {}).pop("nodePort", None)  # which ports there are is the server's setting
            external = document["spec"].get("network", {}).get("external", {})
            external |= {"firstNodePort": 31000} if "firstNodePort" in external else {}  # likewise
            counts = document["spec"].keys() & {"controllers", "ingestNodes", "searchNodes"}
            document["spec"] |= {key: min(document["spec"][key], MOST_NODES) for key in counts}
        files = [folder / f"{made}-{side}.yaml" for side in ("old", "new")]
        for file, document in zip(files, (old, new), strict=True):
            document["metadata"] = {"name": f"c{made}", "namespace": namespace}
            file.write_text(json.dumps(document))
        if new != old and not any(_is_wrong(file) for file in files):
            made += 1
            yield Pair(*map(str, files))


def _is_wrong(file: Path) -> bool:
    """Return whether a document has errors, or patches what it does not have."""
    clusters, problems = offline.check([str(file)])
    try:
        offline.render_clusters(clusters)
    except InputError:
        return True
    return any(problem.severity == "error" for problem in problems)


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
    """Return what a diff says of objects.

    The fields of a map stand in the order in which the server prints them, which is that of its own sources. So what is
    said of several fields is put into one order here.
    """
    assert done.code in {0, 1, 2}, done
    (cluster,) = done.json["clusters"]
    for each in cluster["objects"]:
        each["changes"].sort(key=itemgetter("path"))
        each["restarts"].sort()
        fields, cannot, rest = each["reason"].partition(" cannot be changed")
        each["reason"] = ", ".join(sorted(fields.split(", "))) + cannot + rest
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
    theirs, ours = (said(run(*command, "--prune", "-o", "json")) for command in (on_server, without))
    plain = [run(*command) for command in (without, on_server)]
    texts = [] if plain[0].code == REFUSED else [heads(each) for each in plain]
    both = [*zip_longest(ours, theirs), *zip_longest(*texts)]
    disagreements = [(*each, pair) for each in both if each[0] != each[1]]
    return {each["outcome"] for each in ours}, disagreements


def test_says_what_a_diff_with_a_server_says(server, namespace, tmp_path):
    """For generated pairs of documents, a diff without a cluster says what one does where the old document runs."""
    place = Place(server, namespace, tmp_path)
    with monitoring.installed(server):
        found = [compare(place, pair) for pair in pairs(SAMPLE, namespace, tmp_path)]

    assert [each for _, disagreements in found for each in disagreements] == []
    assert sum("changed" in outcomes for outcomes, _ in found) >= SAMPLE / 2


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_says_so_for_hundreds_of_pairs(real_server, tmp_path, part):
    """On a real server more than two hundred pairs are compared, with changes of all kinds."""
    place = Place(real_server, real_server.new_namespace(), tmp_path)
    with monitoring.installed(real_server):
        found = [compare(place, pair) for pair in pairs(PART, place.namespace, tmp_path, part + 1)]

    assert [each for _, disagreements in found for each in disagreements] == []
    assert len(found) == PART
    assert {"changed", "created", "grown", "recreated"} <= set.union(*(outcomes for outcomes, _ in found))
