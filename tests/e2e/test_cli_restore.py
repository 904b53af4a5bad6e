"""`chronik restore`: a new cluster from a backup, its document for Git, and what it says when that cannot be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import yaml
from support.cli_place import Done, run
from support.operators import in_phase, with_condition
from support.recoveries import NODES, backed_up, recovering, restored

from chronik.manifest import CLUSTER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Chronik = Callable[..., Awaitable[Done]]


@pytest.fixture
def chronik(place) -> Chronik:
    """Return the command line, pointed at the namespace."""
    flags = ("--kubeconfig", str(place.server.kubeconfig), "-n", place.name)

    async def call(*arguments: str) -> Done:
        return await asyncio.to_thread(run, *arguments, *flags)

    return call


async def test_a_disaster_and_the_way_back(place, played, volumes, chronik):
    """The cluster is gone: one command makes another from its newest backup, and status says what is lost."""
    async with played.playing(), volumes.playing(), recovering(place):
        backup = await backed_up(place, played, volumes)
        cut = backup["status"]["cutAt"]
        done = await chronik("restore", "c", "--as", "n", "--database", "second", "--wait")
        assert done.code == 0, done
        assert done.out.splitlines() == [
            f"ChronikCluster/{place.name}/n: asked for, from b, which was cut at {cut}",
            f"ChronikCluster/{place.name}/n: recovered. From ChronikBackup b: what was written after {cut} is lost",
        ]
        assert [await volumes.content(f"data-n-{node}") for node in NODES] == [f"what {node} has" for node in NODES]
        await place.roll_out_all()
        await in_phase(place, "n", "Running")
        made = await place.cluster("n")
        assert made["spec"]["metastore"]["connection"]["database"] == "second"
        assert made["metadata"]["labels"] == {"example.com/shard": place.name}
        shown = (await chronik("status", "n")).out
        assert all(each in shown for each in ("Recovery", "b, recovered ", f"{cut}, the metastore "))


@pytest.mark.stand_in
async def test_a_dry_run_prints_the_document_for_git(place, played, volumes, chronik):
    """What is printed is a document that an operator takes as it is; nothing was made."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        done = await chronik("restore", "c", "--from", "b", "--as", "n", "--nodes", "More", "--dry-run")
        assert done.code == 0
        document = yaml.safe_load(done.out)
        assert document["metadata"] == {
            "name": "n",
            "namespace": place.name,
            "labels": {"example.com/shard": place.name},
        }
        assert "topology" not in document["spec"], "what the server fills in is left out"
        assert document["spec"]["ingestNodes"] == 2
        assert document["spec"]["bootstrap"] == {"recovery": {"from": {"backup": "b"}, "nodes": "More"}}
        assert "names the old one's database, which has to be empty" in done.err
        assert await place.get(CLUSTER, "n") is None

        await place.create(document)
        await with_condition(place, "n", "Recovering", "False", "Recovered")


@pytest.mark.stand_in
async def test_a_time_is_written_as_one(place, played, volumes, chronik):
    """The document keeps a time, by which the operator chooses; if it is too early, the oldest backup is named."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        done = await chronik("restore", "c", "--from", "2099-01-01T00:00:00+01:00", "--as", "n", "--dry-run")
        wanted = {"recovery": {"from": {"cluster": "c", "targetTime": "2099-01-01T00:00:00+01:00"}}}
        assert yaml.safe_load(done.out)["spec"]["bootstrap"] == wanted

        done = await chronik("restore", "c", "--from", "2001-01-01T00:00:00Z", "--as", "n")
        assert done.code == 8
        assert "No usable backup of c was cut by 2001-01-01T00:00:00Z: the oldest is b, cut at " in done.err


@pytest.mark.stand_in
async def test_what_cannot_be_restored_is_said(place, played, volumes, chronik):
    """A backup that is not there, of another cluster, a name that is taken, and a recovery that cannot be done."""
    async with played.playing(), volumes.playing(), recovering(place):
        await backed_up(place, played, volumes)
        cases: list[tuple[tuple[str, ...], int, str]] = [
            (("c", "--from", "x", "--as", "n"), 8, "There is no ChronikBackup x in this namespace"),
            (("d", "--from", "b", "--as", "n"), 8, "ChronikBackup b is of c"),
            (("d", "--as", "n"), 8, "This namespace has no usable backup of ChronikCluster d"),
            (("c", "--as", "c"), 2, "a backup is never restored in place"),
            (("c", "--from", "yesterday at noon", "--as", "n"), 2, "neither the name of a backup nor a time"),
            (("c", "--as", "n", "--dry-run", "--wait"), 2, "--wait waits for a cluster"),
            (("--from", "b", "--as", "n"), 2, "Missing argument 'NAME'"),
        ]
        for arguments, code, says in cases:
            done = await chronik("restore", *arguments)
            assert (done.code, says in done.err) == (code, True), (arguments, done)

        await place.create(restored(volumes, {"from": {"backup": "gone"}}))
        taken = await chronik("restore", "c", "--as", "n")
        assert (taken.code, "there is a cluster of that name" in taken.err) == (4, True)
        waiting = await chronik("restore", "c", "--as", "m", "--wait")
        assert waiting.code == 0, waiting  # the other one is none of its business


async def test_apply_starts_nothing_that_is_to_be_recovered(place, volumes, tmp_path):
    """Without an operator nodes would begin empty: apply sends nothing, and says what to do; render says so, too."""
    document = restored(volumes)
    document["metadata"]["name"] = "new"  # n is a word for false in YAML
    file = tmp_path / "n.yaml"
    file.write_text(yaml.safe_dump(document))
    done = await asyncio.to_thread(run, "apply", "-f", str(file), "--kubeconfig", str(place.server.kubeconfig))
    assert done.code == 2
    assert "nodes begin empty, so nothing was sent" in done.err
    assert "kubectl apply" in done.err
    assert await place.workloads() == {}

    shown = await asyncio.to_thread(run, "render", "-f", str(file))
    assert "note: " in shown.err
    assert "nodes begin empty" in shown.err
