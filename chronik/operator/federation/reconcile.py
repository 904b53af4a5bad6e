"""The task of one ChronikFederation: look at what its members' tasks found, plan, write the status, say what is wanted.

The status is written before anything is sent, so the next hub knows whatever this one has begun.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chronik.errors import ChronikError, InvalidDocuments, ObjectChanged, ObjectMissing
from chronik.federation.document import forgotten
from chronik.federation.plan import Progress, plan_federation, plan_removal
from chronik.federation.status import announcements, deleting, derive, refused
from chronik.manifest import FEDERATION, FINALIZER, ClusterKey, is_paused
from chronik.offline.federations import read_federation
from chronik.operator.federation.connection import MemberConnection
from chronik.operator.federation.member import POLL, MemberTask, Wanted
from chronik.operator.fence import NotLeading
from chronik.operator.lifecycle import hold, is_deleting, let_go
from chronik.operator.telemetry.logs import correlated
from chronik.problem import format_path
from chronik.status.assess import describe_error
from chronik.status.compute import Reason
from chronik.tasks import ended
from chronik.times import elapsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronik.clock import Clock
    from chronik.federation.plan import MemberPlan
    from chronik.federation.validation import ValidFederation
    from chronik.kube import ConnectOptions
    from chronik.manifest import Manifest
    from chronik.operator.context import ReconcileContext
    from chronik.operator.telemetry.metrics import Metrics
    from chronik.problem import Problem

    Read = tuple[ValidFederation | None, tuple[Problem, ...]]

_log = logging.getLogger("chronik.operator.federation")

_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0
_COOLDOWN = 0.3
"""Seconds between two passes, so that what many members have to say at once makes one pass and one write."""
_MOST_TOLD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HubTools:
    """What all federations of a hub work with. `connect` is how members are asked; `poll` is in seconds."""

    context: ReconcileContext
    connect: ConnectOptions
    clock: Clock
    metrics: Metrics
    poll: float = POLL


@dataclass(slots=True)
class _Running:
    """A member's task, and what it runs in."""

    task: MemberTask
    work: asyncio.Task[None]


@dataclass(slots=True)
class FederationTask:
    """One federation, from when it is first seen until it is gone. `observe` gives it its document."""

    key: ClusterKey
    tools: HubTools
    document: Manifest | None = None
    _members: dict[str, _Running] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _failures: int = 0
    _ended: float = float("-inf")
    _read: tuple[tuple[str, int], Read] | None = None
    """What the present generation of the document was found to be: to hold it to all rules takes a while."""

    def observe(self, document: Manifest | None) -> None:
        """Take in what the hub's server has; None once it is gone. What is older than what we wrote changes nothing."""
        if document is not None and self.document is not None and _same(document, self.document):
            known, new = (int(each["metadata"]["resourceVersion"]) for each in (self.document, document))
            if new <= known:
                return
        self.document = document
        self._wake.set()

    def check_secrets(self) -> None:
        """Have members looked at whose kubeconfig has changed."""
        for each in self._members.values():
            each.task.check_secret()

    async def run(self) -> None:
        """Pass over the federation whenever something has changed, until it is gone, or until cancelled."""
        try:
            while True:
                self._wake.clear()
                if self.document is None:
                    return
                with correlated(str(self.key)):
                    seconds = await self._safe_pass()
                self._ended = self.tools.clock.now()
                await self._pause(seconds)
        finally:
            self.tools.metrics.federation_gone(self.key)
            await ended(*(each.work for each in self._members.values()))
            self._members.clear()

    async def _pause(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        await self.tools.clock.sleep(max(0.0, self._ended + _COOLDOWN - self.tools.clock.now()))

    async def _safe_pass(self) -> float | None:
        """Pass, and return in how many seconds to pass again though nothing has changed, None if never."""
        try:
            again_at = await self._pass()
        except NotLeading as error:
            _log.info("not the leader any more: %s", error.message)
            return None
        except ChronikError as error:
            self.tools.metrics.failed(error)
            _log.warning("%s: %s", *describe_error(error))
        except Exception as error:  # noqa: BLE001  # one federation's bug must not stop the others
            self.tools.metrics.failed(error)
            _log.exception("a bug in chronik stopped this pass; please report it")
        else:
            self._failures = 0
            return max(0.05, elapsed(self.tools.context.now(), again_at)) if again_at else None
        self._failures += 1
        return float(min(_FIRST_PAUSE * 2.0 ** min(self._failures - 1, 16), _LONGEST_PAUSE))

    async def _pass(self) -> str:
        """Bring the federation one step further, and return when time alone changes something."""
        document, context = self.document, self.tools.context
        assert document is not None, "a federation that is gone has no passes"
        if is_deleting(document):
            await self._delete(document)
            return ""
        if FINALIZER not in (document["metadata"].get("finalizers") or ()):
            await hold(document, context, FEDERATION)
            return ""  # the event of that is on its way
        found, problems = self._valid(document)
        previous, generation = _status_of(document), int(document["metadata"]["generation"])
        if found is None:
            failure = _invalid(problems)
            await self._write(document, refused(previous, failure, context.now(), generation))
            for each in self._members.values():
                each.task.rest()
            return ""
        paused, seen = is_paused(document), {name: each.task.seen for name, each in self._members.items()}
        plan = plan_federation(
            found.federation, previous, seen, context.now(), forget=forgotten(document), paused=paused
        )
        status = derive(plan, previous, context.now(), generation, paused=paused)
        if await self._write(document, status):
            self._want(plan.members)
        return plan.again_at

    def _valid(self, document: Manifest) -> Read:
        """Return the federation of a document, and what is wrong with it."""
        generation = document["metadata"]["uid"], int(document["metadata"]["generation"])
        if self._read is None or self._read[0] != generation:
            self._read = generation, read_federation(document, None, self.key.namespace, stored=True)
        return self._read[1]

    async def _delete(self, document: Manifest) -> None:
        """Let go of all members as the federation asks, and of the federation once they are."""
        context, previous = self.tools.context, _status_of(document)
        if FINALIZER not in (document["metadata"].get("finalizers") or ()):
            return
        known = [Progress.of_status(each) for each in previous.get("members") or ()]
        seen = {name: each.task.seen for name, each in self._members.items()}
        on_delete: Literal["Orphan", "Delete"] = "Delete" if document["spec"].get("onDelete") == "Delete" else "Orphan"
        left = plan_removal(known, on_delete, seen, context.now(), forgotten(document))
        if not left:
            await let_go(document, context, FEDERATION)
            _log.info("lets the federation go: no member is left")
            return
        status = deleting(left, previous, context.now(), int(document["metadata"]["generation"]))
        if await self._write(document, status):
            self._want(left)

    async def _write(self, document: Manifest, status: dict[str, Any]) -> bool:
        """Write a status if it says anything new; return whether it stands there, so that it may be acted upon."""
        context = self.tools.context
        self.tools.metrics.federation(self.key, status["phase"], [each["phase"] for each in status.get("members", ())])
        previous = _status_of(document)
        if status == previous:
            return True
        metadata = document["metadata"]
        applied = {
            "apiVersion": FEDERATION.api_version,
            "kind": FEDERATION.name,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "status": status,
        }
        try:
            answer = await context.kube.apply(applied, force=True, subresource="status")
        except (ObjectMissing, ObjectChanged):
            return False  # it is gone, and an event is on its way that says so
        for event in announcements(previous, status):
            level = logging.WARNING if event.type == "Warning" else logging.INFO
            _log.log(level, "%s: %s", event.reason, event.note)
            context.announce(document, event)
        self._observe_write(answer)
        return True

    def _observe_write(self, answer: Manifest) -> None:
        """Go on from what we have written; if others changed the document meanwhile, there is another pass."""
        current = self.document
        if current is not None and _same(answer, current):
            if answer["metadata"]["generation"] != current["metadata"]["generation"]:
                self._wake.set()
            self.document = answer

    def _want(self, plans: Iterable[MemberPlan]) -> None:
        """Say to each member's task what is wanted; those that are not in the plan any more end."""
        names = set()
        for plan in plans:
            name = plan.progress.name
            names.add(name)
            if name not in self._members:
                self._members[name] = self._started(name)
            self._members[name].task.want(Wanted(plan.progress.at, plan.action, plan.document, plan.busy))
        for name in self._members.keys() - names:
            self._members.pop(name).work.cancel()

    def _started(self, name: str) -> _Running:
        connection = MemberConnection(self.key.namespace, self.tools.context, self.tools.connect)
        task = MemberTask(self.key, name, connection, self.tools.clock, self._wake.set, self.tools.poll)

        async def run() -> None:
            with correlated(str(self.key)):
                await task.run()

        return _Running(task, asyncio.create_task(run(), name=f"member {name} of {self.key}"))


def _same(one: Manifest, other: Manifest) -> bool:
    return bool(one["metadata"]["uid"] == other["metadata"]["uid"])


def _status_of(document: Manifest) -> Mapping[str, Any]:
    return document.get("status") or {}


def _invalid(problems: Iterable[Problem]) -> Reason:
    """Return what is wrong with a document, in a sentence for a condition."""
    wrong = [each for each in problems if each.severity == "error"]
    told = "; ".join(f"{format_path(each.path)}: {each.message}" for each in wrong[:_MOST_TOLD])
    more = f"; and {len(wrong) - _MOST_TOLD} more" if len(wrong) > _MOST_TOLD else ""
    return Reason(InvalidDocuments.reason, told + more)
