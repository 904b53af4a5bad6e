"""`chronik diff --from A -f B` says what `chronik diff -f B` says where A runs."""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import monitoring
from support.cli_place import SPEC, Place, run
from support.document_pairs import Pair, pairs

from chronik.offline import loading as offline
from chronik.offline.played import played

if TYPE_CHECKING:
    from support.cli_place import Done

SAMPLE, PARTS, PART = 12, 4, 56
REFUSED = 2
"""The exit code where a rule forbids the change; the error then speaks of the old document, or of what runs."""
BALANCED = {"network": {"serviceType": "LoadBalancer"}}
NEVER: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "class": (BALANCED, BALANCED | {"components": {"ingest": {"service": {"loadBalancerClass": "a/b"}}}}, REFUSED),
    "size": ({}, {"storage": SPEC["storage"] | {"size": "5Gi"}}, REFUSED),
    "backend": ({}, {"storage": {"backend": "gcs", "gcs": {"bucket": "data"}}}, REFUSED),
    "storage class": ({}, {"storage": SPEC["storage"] | {"storageClass": "fast"}}, 1),
    "another type": (BALANCED, {}, 1),
    **{
        f"patch of {kind} {next(iter(spec))}": (
            {},
            {"patches": [{"target": {"kind": kind, "component": "ingest"}, "patch": {"spec": spec}}]},
            1,
        )
        for kind, spec in (
            ("StatefulSet", {"podManagementPolicy": "OrderedReady"}),
            (
                "StatefulSet",
                {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"volumeMode": "Block"}}]},
            ),
            ("Service", {"clusterIP": "None"}),
        )
    },
}
"""Fields that never change, each in what may not be said of a running cluster, or may, and how a diff ends."""


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
    of them to restart, and the fields of a map stand in the order in which the server prints them. Whether an operator
    will take steps is not known without a cluster, so that diff says it of each; here the command line applied it.
    """
    lines = (line for line in done.out.splitlines() if not line.startswith(" "))
    return [line for line in lines if not re.match(r"note: \S+: its operator ", line)]


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
    both = [*zip_longest(ours, theirs), *zip_longest(*texts), [each.code for each in plain]]
    disagreements = [(*each, pair) for each in both if each[0] != each[1]]
    return {each["outcome"] for each in ours}, disagreements


@pytest.mark.stand_in
@pytest.mark.parametrize("count", [SAMPLE // 4, pytest.param(SAMPLE, marks=pytest.mark.slow)])
def test_says_what_a_diff_with_a_server_says(server, namespace, tmp_path, count):
    """For generated pairs of documents, a diff without a cluster says what one does where the old document runs."""
    place = Place(server, namespace, tmp_path)
    with monitoring.installed(server):
        found = [compare(place, pair) for pair in pairs(count, namespace, tmp_path)]

    assert [each for _, disagreements in found for each in disagreements] == []
    assert sum("changed" in outcomes for outcomes, _ in found) >= count / 2


@pytest.mark.parametrize(("before", "after", "code"), NEVER.values(), ids=NEVER)
def test_fields_that_never_change(fake_server, tmp_path, before, after, code):
    """What cannot be changed ends a diff without a cluster as it does one with a cluster, and an apply."""
    place = Place(fake_server, fake_server.new_namespace(), tmp_path)
    old, new = (place.document(**each) for each in (before, after))
    assert run("apply", "-f", old, *place.flags()).code == 0
    offline, live = run("diff", "--from", old, "-f", new), run("diff", "-f", new, *place.flags())

    assert (offline.code, live.code) == (code, code)
    assert heads(offline) == heads(live)
    assert code != REFUSED or run("apply", "-f", new, *place.flags()).code == REFUSED


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


@pytest.mark.parametrize(
    ("before", "after", "outcomes"),
    [
        ([], ["orders-kafka"], {"orders-kafka": "created"}),
        (["orders-kafka"], ["orders-kafka"], {"orders-kafka": "unchanged"}),
        (["orders-kafka", "events-kafka"], ["orders-kafka"], {"orders-kafka": "unchanged", "events-kafka": "pruned"}),
        (["orders-kafka"], [], {"orders-kafka": "pruned"}),
    ],
)
def test_aliases_come_and_go(fake_server, tmp_path, before, after, outcomes):
    """Both diffs say what becomes of aliases, those that are dropped among them, and apply does just that."""
    place = Place(fake_server, fake_server.new_namespace(), tmp_path)
    old, new = (place.document(network={"aliases": each}) for each in (before, after))
    assert run("apply", "-f", old, *place.flags()).code == 0
    commands = (
        ["diff", "--from", old, "-f", new],
        ["diff", "-f", new, *place.flags()],
        ["apply", "-f", new, *place.flags()],
    )
    told = [run(*command, "--prune", "-o", "json").json["clusters"][0]["objects"] for command in commands]

    for each in told:
        assert {one["name"]: one["outcome"] for one in each if one["name"].endswith("-kafka")} == outcomes
