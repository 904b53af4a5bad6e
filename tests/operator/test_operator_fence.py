"""The fence: what writes through a guarded connection does so while the lease is held, and at no other moment."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from support.candidates import TERMS, Candidate, named, two, until_held
from support.kube_clients import config_map
from support.virtual_server import VirtualServer, virtual_kube
from support.virtual_time import simulate

from chronik.errors import ServerBusy
from chronik.kube.credentials import FixedToken
from chronik.manifest import KIND_BY_NAME, ObjectRef
from chronik.operator.fence import NotLeading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chronik.kube.client import ApiKube

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]
REF = ObjectRef("ConfigMap", "n", "a")
WRITES = {
    "apply": lambda kube: kube.apply(config_map("n")),
    "apply of status": lambda kube: kube.apply(config_map("n"), force=True, subresource="status"),
    "merge": lambda kube: kube.merge(CONFIG_MAP, REF, {"data": None}),
    "create": lambda kube: kube.create(config_map("n")),
    "delete": lambda kube: kube.delete(CONFIG_MAP, REF),
    "delete of one": lambda kube: kube.delete(CONFIG_MAP, REF, uid="u", resource_version="1"),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
APPLIED = "PATCH /api/v1/namespaces/n/configmaps/a?fieldManager=chronik-operator&fieldValidation=Strict&force=false"
READ = "GET /api/v1/namespaces/n/configmaps/a"
FOREVER = 1000.0


def now() -> float:
    return asyncio.get_running_loop().time()


# --- who may write ----------------------------------------------------------------------------------------------------


@every_write
def test_standby_writes_nothing(write):
    """A standby's writes are refused before they are sent, in words that name who leads."""

    async def scenario() -> None:
        _, _, standby = await two()
        server = VirtualServer()
        async with virtual_kube(server, standby.leadership) as kube:
            with pytest.raises(NotLeading, match=r"was not sent.*a_\S+ does") as caught:
                await write(kube)
        assert (caught.value.retry_class, caught.value.reason) == ("transient", "NotLeading")
        assert caught.value.subject == "Lease/n/chronik-operator"
        assert server.sent == []

    simulate(scenario())


def test_standby_reads():
    """A standby reads as it likes, dry runs included."""

    async def scenario() -> None:
        _, _, standby = await two()
        server = VirtualServer()
        async with virtual_kube(server, standby.leadership) as kube:
            await kube.get(CONFIG_MAP, "n", "a")
            await kube.list(CONFIG_MAP, "n")
            await kube.apply(config_map("n"), dry_run=True)
            await kube.delete(CONFIG_MAP, REF, dry_run=True)
            assert kube.namespace == "n"
        assert [each.partition(" ")[0] for each in server.done] == ["GET", "GET", "PATCH", "DELETE"]
        assert "dryRun=All" in server.done[2]

    simulate(scenario())


@every_write
def test_leader_writes(write):
    """What the leader writes gets through."""

    async def scenario() -> None:
        _, leader, _ = await two()
        server = VirtualServer()
        async with virtual_kube(server, leader.leadership) as kube:
            await write(kube)
        assert len(server.done) == 1

    simulate(scenario())


# --- the lease cannot be renewed --------------------------------------------------------------------------------------


@every_write
def test_write_ends_before_the_lease_lapses(write):
    """A write that hangs while the lease cannot be renewed is cut off before another operator may begin."""

    async def scenario() -> None:
        etcd, leader, _ = await two()
        server = VirtualServer(answering=FOREVER)
        leader.link.cut = "there"
        renewed = max(when for when, _ in etcd.writes)
        async with virtual_kube(server, leader.leadership) as kube:
            with pytest.raises(NotLeading, match="was cut off"):
                await write(kube)
        assert now() - renewed <= TERMS.renew_deadline
        assert len(server.sent) == 1
        assert server.done == []

    simulate(scenario())


def test_long_write_goes_on_while_the_lease_is_renewed():
    """A write may take longer than the lease lasts, as long as the lease is renewed meanwhile."""

    async def scenario() -> None:
        _, leader, _ = await two()
        server = VirtualServer(answering=TERMS.duration * 3)
        async with virtual_kube(server, leader.leadership) as kube:
            await kube.apply(config_map("n"))
        assert server.done == [APPLIED]

    simulate(scenario())


class Slow(FixedToken):
    """Credentials that take their time, to be had or to be had anew."""

    def __init__(self, *, first: float = 0.0, again: float = 0.0) -> None:
        super().__init__("Bearer t")
        self.first, self.again, self.asked = first, again, 0

    async def authorization(self) -> str:
        """Return the header; the first time, when the connection is opened, at once."""
        self.asked += 1
        await asyncio.sleep(self.first if self.asked > 1 else 0)
        return await super().authorization()

    async def renew(self, rejected: str) -> bool:  # noqa: ARG002  # it is told, as all credentials are
        """Say, after a while, that there is something new."""
        await asyncio.sleep(self.again)
        return True


@asynccontextmanager
async def slot(leader: Candidate, seconds: int = 30) -> AsyncIterator[tuple[VirtualServer, ApiKube]]:
    """All places are taken by a request that hangs."""
    server = VirtualServer(answering=seconds)
    async with virtual_kube(server, leader.leadership, in_flight=1) as kube:
        reading = asyncio.ensure_future(kube.get(CONFIG_MAP, "n", "a"))
        await asyncio.sleep(0.1)
        yield server, kube
        await reading


@asynccontextmanager
async def gate(leader: Candidate, seconds: int = 30) -> AsyncIterator[tuple[VirtualServer, ApiKube]]:
    """The server has asked everybody to wait."""
    server = VirtualServer()
    server.refusals = [(429, seconds)]
    async with virtual_kube(server, leader.leadership) as kube:
        reading = asyncio.ensure_future(kube.get(CONFIG_MAP, "n", "a"))
        await asyncio.sleep(0.1)
        yield server, kube
        await reading


@asynccontextmanager
async def token(leader: Candidate, seconds: int = 30) -> AsyncIterator[tuple[VirtualServer, ApiKube]]:
    """A token takes its time."""
    server = VirtualServer()
    async with virtual_kube(server, leader.leadership, Slow(first=seconds)) as kube:
        yield server, kube


@asynccontextmanager
async def connecting(leader: Candidate, seconds: int = 30) -> AsyncIterator[tuple[VirtualServer, ApiKube]]:
    """A connection takes its time."""
    server = VirtualServer(connecting=seconds)
    async with virtual_kube(server, leader.leadership) as kube:
        yield server, kube


@asynccontextmanager
async def pause(leader: Candidate, seconds: int = 30) -> AsyncIterator[tuple[VirtualServer, ApiKube]]:
    """The first attempt fails, and the next one is some time away."""
    server = VirtualServer()
    server.refusals = [(503, seconds)]
    async with virtual_kube(server, leader.leadership) as kube:
        yield server, kube


@asynccontextmanager
async def renewal(leader: Candidate, seconds: int = 30) -> AsyncIterator[tuple[VirtualServer, ApiKube]]:
    """The first attempt is answered 401, and new credentials take their time."""
    server = VirtualServer()
    server.refusals = [(401, 0)]
    async with virtual_kube(server, leader.leadership, Slow(again=seconds)) as kube:
        yield server, kube


BEFORE_ANYTHING = (slot, gate, token, connecting)
AFTER_AN_ATTEMPT = (pause, renewal)
moments = pytest.mark.parametrize("moment", [*BEFORE_ANYTHING, *AFTER_AN_ATTEMPT], ids=lambda moment: moment.__name__)


@moments
def test_waiting_write_ends_with_the_lease(moment):
    """A write that waits for anything when the lease cannot be renewed ends in time, and is not sent after that."""

    async def scenario() -> None:
        etcd, leader, standby = await two()
        async with moment(leader) as (server, kube):
            leader.link.cut = "there"
            renewed = max(when for when, _ in etcd.writes)
            with pytest.raises(NotLeading, match="was cut off"):
                await kube.apply(config_map("n"))
            assert now() - renewed <= TERMS.renew_deadline
            await until_held([standby])
            await asyncio.sleep(60)
        assert server.sent.count(APPLIED) == (moment in AFTER_AN_ATTEMPT)
        assert APPLIED not in server.done

    simulate(scenario())


@moments
def test_waiting_write_goes_out_while_the_lease_is_renewed(moment):
    """A write that waits for longer than the lease lasts is sent then, if the lease was renewed all the time."""

    async def scenario() -> None:
        _, leader, _ = await two()
        async with moment(leader) as (server, kube):
            await kube.apply(config_map("n"))
        assert server.done.count(APPLIED) == 1

    simulate(scenario())


@moments
def test_waiting_write_ends_when_another_is_seen_to_lead(moment):
    """A write that waits for anything when another's name is read in the Lease ends at once."""

    async def scenario() -> None:
        etcd, leader, _ = await two()
        async with moment(leader) as (server, kube):
            writing = asyncio.ensure_future(kube.apply(config_map("n")))
            await asyncio.sleep(0.1)
            etcd.lease["metadata"]["resourceVersion"] = "5000"
            etcd.lease["spec"]["holderIdentity"] = "somebody"
            with pytest.raises(NotLeading, match=r"was cut off.*somebody does"):
                await asyncio.wait_for(writing, TERMS.retry + 0.1)
        assert server.sent.count(APPLIED) == (moment in AFTER_AN_ATTEMPT)

    simulate(scenario())


# --- the last moment --------------------------------------------------------------------------------------------------


@every_write
def test_suspended_machine_sends_nothing_late(write):
    """A write that was allowed a moment before the machine was suspended is held back a moment after it goes on."""

    async def scenario() -> None:
        _, leader, _ = await two()
        server = VirtualServer()

        def suspend() -> None:
            leader.suspended += 60  # the event loop's timers know nothing of it

        server.before_sending = suspend
        async with virtual_kube(server, leader.leadership) as kube:
            began = now()
            with pytest.raises(NotLeading, match="was held back: this operator no longer holds the lease") as caught:
                await write(kube)
        assert now() - began < 0.1  # it is not tried again
        assert caught.value.retry_class == "transient"
        assert server.sent == []

    simulate(scenario())


def test_every_attempt_is_looked_at():
    """A write whose first attempt failed is held back at the second, if the machine was suspended in between."""

    async def scenario() -> None:
        _, leader, _ = await two()
        server = VirtualServer()
        server.refusals = [(500, 0)]

        def suspend() -> None:
            leader.suspended += 60 if server.sent else 0

        server.before_sending = suspend
        async with virtual_kube(server, leader.leadership) as kube:
            with pytest.raises(NotLeading, match="was held back"):
                await kube.apply(config_map("n"))
        assert server.sent == [APPLIED]

    simulate(scenario())


def test_no_other_attempt_after_the_loss():
    """A write that fails when it may not be sent again ends in its own failure, without a pause."""

    async def scenario() -> None:
        _, leader, _ = await two()
        server = VirtualServer(answering=1)
        server.refusals = [(503, 20)]
        async with virtual_kube(server, leader.leadership) as kube:
            writing = asyncio.ensure_future(kube.apply(config_map("n")))
            await asyncio.sleep(0.5)
            releasing = asyncio.ensure_future(leader.leadership.release())
            began = now()
            with pytest.raises(ServerBusy):
                await writing
            await releasing
            assert now() - began < 1
        assert server.sent == [APPLIED]

    simulate(scenario())


# --- the lease is given away ------------------------------------------------------------------------------------------


def test_release_lets_writes_end():
    """Giving the lease away waits for what is being written, and lets nothing new begin."""

    async def scenario() -> None:
        etcd, leader, _ = await two()
        server = VirtualServer(answering=1.0)
        async with virtual_kube(server, leader.leadership) as kube:
            writing = asyncio.ensure_future(kube.apply(config_map("n")))
            await asyncio.sleep(0.1)
            releasing = asyncio.ensure_future(leader.leadership.release())
            await asyncio.sleep(0.1)
            with pytest.raises(NotLeading, match="was not sent"):
                await kube.apply(config_map("n"))
            assert named(etcd.lease["spec"]["holderIdentity"]) == "a"
            await writing
            await releasing
        assert etcd.lease["spec"]["holderIdentity"] == ""
        assert server.done == [APPLIED]

    simulate(scenario())


@pytest.mark.parametrize("moment", [slot, gate, token, connecting, renewal], ids=lambda moment: moment.__name__)
def test_release_sends_nothing_new(moment):
    """A write that waits for its turn when the lease is given away is held back, though it has time left."""

    async def scenario() -> None:
        etcd, leader, _ = await two()
        async with moment(leader, seconds=4) as (server, kube):
            writing = asyncio.ensure_future(kube.apply(config_map("n")))
            await asyncio.sleep(0.1)
            await leader.leadership.release(grace=6)
            with pytest.raises(NotLeading, match="was held back"):
                await writing
        assert etcd.lease["spec"]["holderIdentity"] == ""
        assert server.sent.count(APPLIED) == (moment is renewal)
        assert APPLIED not in server.done

    simulate(scenario())


def test_release_with_a_hanging_write_lets_the_lease_lapse():
    """A write without an answer may still be done, so the lease is not given away beside it, but lapses."""

    async def scenario() -> None:
        etcd, leader, standby = await two()
        async with virtual_kube(VirtualServer(answering=FOREVER), leader.leadership) as kube:
            writing = asyncio.ensure_future(kube.apply(config_map("n")))
            await asyncio.sleep(0.1)
            await leader.leadership.release(grace=1.0)
            with pytest.raises(NotLeading, match="was cut off"):
                await writing
        assert named(etcd.lease["spec"]["holderIdentity"]) == "a"
        assert await until_held([standby]) > TERMS.duration - TERMS.retry - 1.1

    simulate(scenario())


# --- what is no loss --------------------------------------------------------------------------------------------------


def test_timeout_of_the_write_itself_is_no_loss():
    """A TimeoutError that comes out of a write stays one while the lease holds."""

    async def scenario() -> None:
        _, leader, _ = await two()
        with pytest.raises(TimeoutError):
            async with leader.leadership.writing():
                raise TimeoutError

    simulate(scenario())


def test_timeout_around_a_write_is_no_loss():
    """A caller who gives a write less time than the lease does gets its own timeout, and nothing is left behind."""

    async def scenario() -> None:
        etcd, leader, _ = await two()
        async with virtual_kube(VirtualServer(answering=FOREVER), leader.leadership) as kube:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await kube.apply(config_map("n"))
            began = now()
            await leader.leadership.release()
        assert now() - began < 1
        assert etcd.lease["spec"]["holderIdentity"] == ""

    simulate(scenario())


def test_two_timeouts_at_the_same_moment():
    """When the caller's own time and the lease end together, the caller gets its timeout."""

    async def scenario() -> None:
        _, leader, _ = await two()
        async with virtual_kube(VirtualServer(answering=FOREVER), leader.leadership) as kube:
            leader.link.cut = "there"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(leader.leadership.remaining):
                    await kube.apply(config_map("n"))
            assert asyncio.current_task().cancelling() == 0

    simulate(scenario())


def test_cancelled_write_is_no_loss():
    """A write that is cancelled is cancelled, and the lease can be given away at once."""

    async def scenario() -> None:
        etcd, leader, _ = await two()
        async with virtual_kube(VirtualServer(answering=FOREVER), leader.leadership) as kube:
            writing = asyncio.ensure_future(kube.apply(config_map("n")))
            await asyncio.sleep(0.1)
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            assert writing.cancelled()
            began = now()
            await leader.leadership.release()
        assert now() - began < 1
        assert etcd.lease["spec"]["holderIdentity"] == ""

    simulate(scenario())
