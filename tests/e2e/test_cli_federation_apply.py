"""`chronik apply`, `diff` and `delete` of a federation: member by member by contexts and Secrets, and at the hub."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.cli_place import run
from support.federations import Hub, kubeconfig

from chronik.federation.document import BEFORE_ANNOTATION, FEDERATION_MANAGER, revision_of
from chronik.manifest import FEDERATION
from chronik.plan.drift import applied_fields

if TYPE_CHECKING:
    from pathlib import Path

    from support.api import ApiServer
    from support.cli_place import Done
    from support.federations import PlayedMember

NAMES = ("east", "west")


class Desk:
    """A person with a kubeconfig that has a context for each member and the hub's, and a file with a federation."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.file = folder / "federation.yaml"
        self.document = hub.document()
        for each in self.document["spec"]["members"]:
            del each["kubeconfig"]
        self.contexts(**{each.name: each.place.server.url for each in hub.members})

    def contexts(self, **urls: str) -> None:
        """Write the kubeconfig: the hub is its current context."""
        found = json.loads(kubeconfig(self.hub.place.server))
        found["current-context"] = "hub"
        found["contexts"][0]["name"] = "hub"
        for name, url in urls.items():
            found["clusters"].append({"name": name, "cluster": {**found["clusters"][0]["cluster"], "server": url}})
            found["contexts"].append({"name": name, "context": {"cluster": name, "user": "hub"}})
        (self.folder / "config").write_text(json.dumps(found))

    async def run(self, command: str, *arguments: str) -> Done:
        """Run a command about the file."""
        self.file.write_text(yaml.safe_dump(self.document))
        return await asyncio.to_thread(run, command, "-f", str(self.file), *self.where, *arguments)

    @property
    def where(self) -> tuple[str, str]:
        """The options that name its kubeconfig."""
        return "--kubeconfig", str(self.folder / "config")

    async def played(self, command: str, *arguments: str) -> Done:
        """Run a command while the members' operators work."""
        async with self.hub.playing():
            return await self.run(command, *arguments)


async def desk_of(server: ApiServer, folder: Path) -> Desk:
    """Return a desk with a hub and two members, all of them namespaces of one API server."""
    namespace = await asyncio.to_thread(server.new_namespace)
    return Desk(await Hub.of(server, namespace, dict.fromkeys(NAMES, server)), folder)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at members more often than people need."""
    monkeypatch.setattr("chronik.apply.roll._POLL", 0.1)


@pytest.fixture
async def desk(fake_server: ApiServer, tmp_path: Path) -> Desk:
    """Return a desk at the server of this process."""
    return await desk_of(fake_server, tmp_path)


def lines(text: str) -> list[str]:
    """Return lines without seconds."""
    return [line.partition(" in 0.")[0] for line in text.splitlines()]


async def test_members_get_it_one_after_the_other(server, tmp_path):
    """Each member gets its one object when the one in front is Ready; a second apply changes nothing."""
    desk = await desk_of(server, tmp_path)
    places = [str(each.place.name) for each in desk.hub.members]
    done = await desk.played("apply", "--wait")

    assert done.code == 0, done
    assert (desk.hub.order, desk.hub.overtaken) == ([*NAMES], [])
    told = [f"{name}: ChronikCluster/{place}/orders  created" for name, place in zip(NAMES, places, strict=True)]
    assert [
        line.rstrip() for line in done.out.splitlines() if "created  " in f"{line}  " and "changed" not in line
    ] == told
    live = await desk.hub["west"].live()
    assert live is not None
    assert applied_fields(live, FEDERATION_MANAGER)
    assert (await desk.run("diff")).code == 0
    again = await desk.run("apply")
    assert again.code == 0
    assert f"east: {places[0]}/orders: 0 created, 0 changed, 1 unchanged" in again.out
    assert list(desk.hub.strays()) == []


async def test_a_hub_takes_over_where_the_command_line_has_been(desk):
    """What was applied by hand is what a hub would have sent: given the document, too, it writes nothing."""
    assert (await desk.played("apply", "--wait")).code == 0
    before = [len(each.writes()) for each in desk.hub.members]
    desk.document = desk.hub.document()
    async with desk.hub.playing(), desk.hub.running():
        assert (await desk.run("apply", "--hub")).code == 0
        await desk.hub.until(phase="Complete", ready="2/2")
        assert (await desk.run("diff", "--hub")).code == 0

    assert [len(each.writes()) for each in desk.hub.members] == before


async def test_a_diff_shows_what_each_member_would_get(desk):
    """Each member's one object is shown with what changes in it, and nothing is sent."""
    await desk.played("apply", "--wait")
    desk.document["spec"]["members"][1]["overrides"] = {"ingestNodes": 3}
    done = await desk.run("diff")

    assert done.code == 1
    place = desk.hub["west"].place.name
    shown = lines(done.out)
    assert f"~ west: ChronikCluster/{place}/orders" in shown
    assert any(line.startswith("    spec.ingestNodes: ") and line.endswith(" -> 3") for line in shown), shown
    assert f"west: {place}/orders: 1 to change, 0 unchanged" in shown
    assert not any("~ east" in line for line in shown)
    assert (await desk.run("diff", "-o", "json")).json["clusters"][1]["member"] == "west"
    assert [len(each.writes()) for each in desk.hub.members] == [1, 1]


async def test_one_member_out_of_reach_hides_no_other(desk):
    """A diff tells of the others, and ends in 3; an apply halts at it, and says who waits for it."""
    desk.contexts(east="https://127.0.0.1:9", west=desk.hub.place.server.url)
    shown = await desk.run("diff")
    done = await desk.run("apply")

    assert (shown.code, done.code) == (3, 5)
    assert "+ west: ChronikCluster/" in shown.out
    assert "east: " in shown.err
    assert "https://127.0.0.1:9" in shown.err
    assert "not tried  the change was halted at east" in done.out
    assert await desk.hub["west"].live() is None


async def test_a_member_that_fails_halts_the_change(desk):
    """The next member gets nothing, and the member's own words are told."""
    desk.hub["east"].failing = True
    done = await desk.played("apply", "--wait")

    assert done.code == 5
    assert "east: Failed: played" in done.err
    assert "the change was halted at east" in done.out
    assert await desk.hub["west"].live() is None


async def test_without_a_wait_it_ends_once_all_have_it(desk):
    """The last member is sent the change, and not waited for."""
    desk.hub["west"].held = True
    done = await desk.played("apply")

    assert done.code == 0, done
    assert await desk.hub["west"].live() is not None


async def test_a_member_that_runs_out_of_time_without_a_wait(desk):
    """A member in front that is not Ready in time fails without --wait too, and the error says how long that was."""
    desk.hub["east"].held = True
    done = await desk.played("apply", "--timeout", "3s")

    found = re.search(r"1 object not ready after (\d+) s", done.err)
    assert found, done.err
    assert int(found[1]) >= 1


async def test_timeout_gives_each_member_so_long(desk):
    """With --timeout a member that is not Ready by then has failed: 6 if nothing else is wrong."""
    desk.hub["west"].held = True
    done = await desk.played("apply", "--wait", "--timeout", "1s")

    assert done.code == 6, (done.out, done.err)
    assert "west: " in done.err


async def test_what_a_person_has_changed_is_not_taken_unless_forced(desk):
    """A conflict names who owns the field, and ends in 4; --force-conflicts takes it."""
    await desk.played("apply", "--wait")
    await desk.hub["east"].place.change("orders", ingestNodes=5)
    shown, done = await desk.run("diff"), await desk.played("apply", "--wait")

    assert (shown.code, done.code) == (1, 4)
    assert "kubectl-edit" in shown.out
    assert "kubectl-edit" in done.err
    assert (await desk.played("apply", "--wait", "--force-conflicts")).code == 0
    assert (await desk.hub["east"].live())["spec"]["ingestNodes"] == 1


async def test_dry_runs_keep_nothing(desk):
    """Both say of each member what it would get, and nothing is there afterwards."""
    for way in ("client", "server"):
        done = await desk.run("apply", "--dry-run", way)
        assert done.code == 0, done
        assert done.out.count("1 created") == 2
    assert [await each.live() for each in desk.hub.members] == [None, None]


async def test_secrets_are_used_as_the_hub_uses_them(desk):
    """A member that names a Secret is reached by it, unless --contexts says otherwise; nothing of it is told."""
    desk.document = desk.hub.document()
    await desk.hub.secret("west", "users: [{name: me, user: {token: squirrel}}]")
    done = await desk.run("diff")

    assert done.code == 2
    assert "+ east: ChronikCluster/" in done.out
    assert f"Secret {desk.hub.place.name}/west-kubeconfig" in done.err
    assert "squirrel" not in done.err + done.out
    assert (await desk.run("diff", "--contexts")).out.count("to create") == 2


async def test_members_of_a_hub_are_left_to_it(desk):
    """Where a hub has the federation, members are not changed behind its back: 4, and what to do; --hub does that."""
    desk.document = desk.hub.document()
    made, shown, done = await desk.run("apply", "--hub"), await desk.run("diff", "--hub"), await desk.run("apply")

    assert (made.code, shown.code, done.code) == (0, 0, 4), (made, shown, done)
    assert f"ChronikFederation/{desk.hub.place.name}/orders  created" in made.out
    assert "--hub" in done.err
    assert await desk.hub["east"].live() is None
    desk.document["spec"]["rollout"] = {"soak": "5m"}
    changed = await desk.run("diff", "--hub")
    assert (changed.code, " -> 5m" in changed.out) == (1, True), changed
    assert (await desk.run("apply", "--hub")).code == 0
    assert (await desk.hub.place.get(FEDERATION, "orders"))["spec"]["rollout"]["soak"] == "5m"


async def test_some_members_can_be_picked(desk):
    """--members names those that are meant; one that there is not is an error that names them all."""
    done = await desk.played("apply", "--members", "west", "--wait")
    wrong = await desk.run("diff", "--members", "north")

    assert done.code == 0
    assert [await each.live() is None for each in desk.hub.members] == [True, False]
    assert wrong.code == 2
    assert "There are east, west." in wrong.err


async def test_a_paused_member_keeps_what_it_has(desk):
    """It is passed with a note, and that is no failure; a member of the hub's own cluster needs no kubeconfig."""
    east, west = desk.document["spec"]["members"]
    east["inCluster"], west["paused"] = True, True
    desk.contexts()
    done = await desk.played("apply", "--wait", "--members", "east")
    desk.contexts(west=desk.hub.place.server.url)
    both = await desk.played("apply", "--wait")

    assert (done.code, both.code) == (0, 0), (done, both)
    assert "the member is paused in the list" in both.err
    assert [await each.live() is None for each in desk.hub.members] == [False, True]


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "prune": (("apply", "--prune"), "a member of a federation gets one object"),
    "hub and members": (("diff", "--hub", "--members", "east"), "leave --members and --contexts out"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_options_that_do_not_go_together_are_refused(desk, case):
    """They are errors of use, and nothing is sent."""
    (command, *arguments), message = WRONG[case]
    done = await desk.run(command, *arguments)

    assert done.code == 2
    assert message in done.err


def test_options_of_federations_need_one(tmp_path):
    """--hub with clusters alone is an error, as --members is."""
    (tmp_path / "c.yaml").write_text("apiVersion: chronik.stream/v1alpha1\nkind: ChronikCluster\n")
    done = run("diff", "--from", str(tmp_path / "c.yaml"), "-f", str(tmp_path / "c.yaml"), "--hub")

    assert (done.code, "there is none" in done.err) == (2, True)


async def test_deleting_lets_members_go_and_leaves_them_running(desk):
    """With onDelete Orphan each cluster stays, without a word of the federation; what is gone is told as that."""
    await desk.played("apply", "--wait")
    shown, done, again = [await desk.run("delete", *more, "--yes") for more in (("--dry-run",), (), ())]

    assert (shown.code, done.code, again.code) == (0, 0, 0), (shown, done, again)
    assert shown.out.count("would be let go, and runs on") == done.out.count(": let go, and runs on") == 2
    assert again.out.count("nothing to let go") == 2
    live = await desk.hub["east"].live()
    assert live is not None
    assert (revision_of(live), applied_fields(live, FEDERATION_MANAGER)) == ("", None)


async def test_deleting_deletes_where_the_federation_says_so(desk):
    """With onDelete Delete each member's ChronikCluster goes; one that is out of reach is told, and stops no other."""
    await desk.played("apply", "--wait")
    desk.document["spec"]["onDelete"] = "Delete"
    desk.contexts(east="https://127.0.0.1:9", west=desk.hub.place.server.url)
    done = await desk.run("delete", "--yes")

    assert done.code == 5
    assert "west: ChronikCluster/" in done.out
    assert "deleted, all gone" in done.out
    assert "error: east: ChronikCluster/" in done.err
    assert [await each.live() is None for each in desk.hub.members] == [False, True]


async def test_deleting_at_the_hub_deletes_the_federation(desk):
    """Members that a hub looks after are not let go behind its back; --hub deletes the federation there."""
    desk.document = desk.hub.document()
    await desk.run("apply", "--hub")
    refused, done = await desk.run("delete", "--yes"), await desk.run("delete", "--yes", "--hub")

    assert (refused.code, done.code) == (4, 0), (refused, done)
    assert f"ChronikFederation/{desk.hub.place.name}/orders: deleted, all gone" in done.out
    assert await desk.hub.place.get(FEDERATION, "orders") is None


async def test_members_are_shown_without_a_hub(desk):
    """`status -f` asks the members: what each has and runs, who lacks the change, and who does not answer."""
    before = await desk.run("status")
    assert (before.code, before.out.count("it does not have what the document says")) == (1, 2)
    assert (await desk.played("apply", "--wait")).code == 0
    ready = await desk.run("status")
    places = [f"{each.place.name}/orders" for each in desk.hub.members]
    namespace = desk.hub.place.name
    head, *rows = (re.split("  +", each) for each in ready.out.splitlines()[1:])

    assert ready.code == 0, ready
    assert ready.out.startswith(f"{namespace}/orders: Complete, 2/2 ready\n")
    assert head == ["MEMBER", "STATE", "REVISION", "PODS", "OPERATOR", "IMAGES", "CLUSTER", "MESSAGE"]
    assert [[row[0], row[1], *row[3:]] for row in rows] == [
        [name, "Ready", "1/1 controllers, 1/2 ingest", "1.2.0", "1.4.2", place, "-"]
        for name, place in zip(NAMES, places, strict=True)
    ]
    desk.document["spec"]["template"]["spec"] |= {"ingestNodes": 2}
    desk.contexts(east=desk.hub["east"].place.server.url, west="http://127.0.0.1:1")
    changed = (await desk.run("status", "-o", "json")).json["federations"][0]
    assert [(each["name"], each["phase"]) for each in changed["members"]] == [
        ("east", "Pending"),
        ("west", "Unreachable"),
    ]
    assert "lastTransitionTime" not in json.dumps(changed)
    only = await desk.run("status", "--members", "east")
    assert "west" not in only.out
    assert (await desk.run("status", "--watch")).code == 2
    assert list(desk.hub.strays()) == []


async def test_the_hub_is_asked_where_there_is_one(desk):
    """Its word is shown, as `federation status` does; another document than the file's is told, and ends in 1."""
    nobody = await desk.run("status", "--hub")
    assert (nobody.code, "no hub has it" in nobody.err) == (3, True)
    desk.document = desk.hub.document()
    async with desk.hub.playing(), desk.hub.running():
        assert (await desk.run("apply", "--hub")).code == 0
        await desk.hub.until(phase="Complete", ready="2/2")
        shown = await desk.run("status")
        same = await asyncio.to_thread(run, "federation", "status", *desk.where, "-n", desk.hub.place.name)
        desk.document["spec"]["template"]["spec"] |= {"ingestNodes": 2}
        other = await desk.run("status")

    assert (shown.code, shown.out) == (0, same.out)
    assert (other.code, other.out) == (1, same.out)
    assert "another document of" in other.err


REVERT = {"onFailure": "Revert"}


async def test_a_failed_change_is_taken_back(desk):
    """With onFailure Revert those that got it get what they had, byte for byte; whoever did not is left alone."""
    desk.document["spec"]["rollout"] = REVERT
    assert (await desk.played("apply", "--wait")).code == 0
    before = [await annotated(each) for each in desk.hub.members]
    desk.hub["west"].fails_with = 3
    desk.document["spec"]["template"]["spec"] |= {"ingestNodes": 3}
    done = await desk.played("apply", "--wait")

    assert done.code == 5, done
    assert "played; it has back what it had" in done.err
    assert "the change was taken back, since it failed at west; it has back what it had" in done.err
    assert [await annotated(each) for each in desk.hub.members] == before
    assert [len(each.got) for each in desk.hub.members] == [3, 3]
    desk.document["spec"]["template"]["spec"] |= {"ingestNodes": 4}
    assert (await desk.played("apply", "--wait")).code == 0
    assert BEFORE_ANNOTATION not in (await annotated(desk.hub["east"]))[1]
    assert list(desk.hub.strays()) == []


async def annotated(member: PlayedMember) -> tuple[Any, Any]:
    """Return what a member has: spec and annotations."""
    live = await member.live()
    assert live is not None
    return live["spec"], live["metadata"]["annotations"]


async def test_without_a_change_before_there_is_nothing_to_take_back(desk):
    """Members that were only just made stay as they are, and it is said why."""
    desk.document["spec"]["rollout"] = REVERT
    desk.hub["east"].failing = True
    done = await desk.played("apply", "--wait")

    assert done.code == 5, done
    assert "it is not known what east had before" in done.err
    assert [len(each.got) for each in desk.hub.members] == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
async def test_a_command_that_is_killed_can_still_be_taken_back(desk, seed):
    """What members had goes with the change: the same command, killed anywhere, gives it back in the end."""
    chance = random.Random(seed)
    desk.document["spec"]["rollout"] = REVERT
    assert (await desk.played("apply", "--wait")).code == 0
    before = [await annotated(each) for each in desk.hub.members]
    desk.hub["west"].fails_with = 3
    desk.document["spec"]["template"]["spec"] |= {"ingestNodes": 3}
    desk.file.write_text(yaml.safe_dump(desk.document))
    command = [sys.executable, "-m", "chronik", "apply", "--wait", "-f", str(desk.file), *desk.where]
    kills = 0
    async with desk.hub.playing():
        while kills < 6:
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 1 + 6 * chance.random())
            if process.returncode is None:
                process.kill()
                await process.wait()
                kills += 1
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 5

    assert len(desk.hub["west"].got) > 2
    assert [await annotated(each) for each in desk.hub.members] == before
    assert list(desk.hub.strays()) == []
