"""A hub and its members: API servers, the operators there as far as a hub sees them, and what the hub did."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.operator_process import OperatorProcess
from support.operators import Namespace, eventually, running, small

from chronik.federation.document import FEDERATION_MANAGER, revision_of
from chronik.manifest import CLUSTER, FEDERATION, SECRET
from chronik.operator.cache.cache import Selection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from support.api import ApiServer, Request

    from chronik.manifest import Manifest

POLL = 1.0
SPEC = small("unused")["spec"]


def kubeconfig(server: ApiServer, *, url: str = "", token: str = "", **user: Any) -> str:
    """Return a kubeconfig that has all in itself, as a Secret's has to."""
    cluster: dict[str, Any] = {"server": url or server.url}
    if server.ca:
        cluster["certificate-authority-data"] = base64.b64encode(server.ca.read_bytes()).decode()
    return json.dumps(
        {
            "current-context": "member",
            "clusters": [{"name": "member", "cluster": cluster}],
            "users": [{"name": "hub", "user": user or {"token": token or server.token}}],
            "contexts": [{"name": "member", "context": {"cluster": "member", "user": "hub"}}],
        }
    )


@dataclass
class PlayedMember:
    """A member: a namespace of some API server, and its operator, which brings a cluster Ready unless it is `held`.

    `failing` has it say that it cannot, `fails_with` that it cannot run so many ingest nodes. `got` are the revisions
    that came, in order.
    """

    name: str
    place: Namespace
    cluster: str = "orders"
    held: bool = False
    failing: bool = False
    fails_with: int = 0
    away: bool = False
    """Whether others may overtake it: it has left the list, or the budget allows it."""
    got: list[str] = field(default_factory=list)
    ready: str = ""

    async def live(self) -> Manifest | None:
        """Return its ChronikCluster."""
        return await self.place.get(CLUSTER, self.cluster)

    async def act(self) -> str:
        """Do what its operator would do now, and return a revision that has only just come."""
        live = await self.live()
        if live is None:
            self.ready = ""
            return ""
        revision, generation = revision_of(live), live["metadata"]["generation"]
        news = revision if revision and (not self.got or self.got[-1] != revision) else ""
        self.got += [news] if news else []
        status = live.get("status") or {}
        failing = self.failing or live["spec"].get("ingestNodes") == self.fails_with
        wanted = ready_status(generation, failing=failing)
        if not self.held and (status.get("observedGeneration"), status.get("phase")) != (generation, wanted["phase"]):
            path = self.place.path(CLUSTER, self.cluster, "status")
            await self.place.call("PATCH", path, {"status": wanted}, patch="merge", fieldManager="operator-there")
        if not self.held and not failing:
            self.ready = revision
        return news

    def writes(self) -> list[Request]:
        """Return what was written there by the hub: not by the test, nor by the operator there."""
        found = self.place.server.requests_of(self.place.name)
        people = ("suite", "kubectl", "operator-there")
        return [each for each in found if each.writes and not each.query.get("fieldManager", "").startswith(people)]


def ready_status(generation: int, *, failing: bool = False) -> dict[str, Any]:
    """Return the status of a cluster that is Ready, or that its operator has given up on."""
    reason = "InvalidSpec" if failing else "AllComponentsReady"
    told = {"reason": reason, "message": "played", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ready = {"type": "Ready", "status": str(not failing), "observedGeneration": generation, **told}
    stalled = {"type": "Stalled", "status": str(failing), "observedGeneration": generation, **told}
    phase = "Failed" if failing else "Running"
    return {"observedGeneration": generation, "phase": phase, "conditions": [ready, stalled], **RUNS}


RUNS = {
    "operatorVersion": "1.2.0",
    "readyReplicas": {"controllers": 1, "ingestNodes": 1},
    "replicas": {"controllers": 1, "ingestNodes": 2},
    "images": {"controllers": ["chronik/controller:1.4.2"], "ingestNodes": ["chronik/ingest:1.4.2"]},
}
"""What the operators there say that runs."""


@dataclass
class Hub:
    """A namespace of the hub's API server, and its members; `overtaken` are those that got a change out of turn."""

    place: Namespace
    members: list[PlayedMember]
    overtaken: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, server: ApiServer, namespace: str, members: dict[str, ApiServer]) -> Hub:
        """Return a hub whose Secrets are written, and whose members have their namespaces."""
        made = []
        for name, each in members.items():
            place = Namespace(each, await asyncio.to_thread(each.new_namespace))
            made.append(PlayedMember(name, place))
        hub = cls(Namespace(server, namespace), made)
        for member in made:
            await hub.secret(member.name, kubeconfig(member.place.server))
        return hub

    def __getitem__(self, name: str) -> PlayedMember:
        return next(each for each in self.members if each.name == name)

    async def secret(self, name: str, text: str, key: str = "kubeconfig") -> None:
        """Write the Secret with a member's kubeconfig."""
        await self.place.create(
            {
                "apiVersion": "v1",
                "kind": SECRET.name,
                "metadata": {"name": f"{name}-kubeconfig", "namespace": self.place.name},
                "data": {key: base64.b64encode(text.encode()).decode()},
            }
        )

    def document(
        self, *names: str, rollout: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **more: Any
    ) -> Manifest:
        """Return the federation of these members, or of all."""
        listed = [
            {
                "name": each.name,
                "kubeconfig": {"secret": f"{each.name}-kubeconfig"},
                "namespace": each.place.name,
            }
            for each in (map(self.__getitem__, names) if names else self.members)
        ]
        return {
            "apiVersion": FEDERATION.api_version,
            "kind": FEDERATION.name,
            "metadata": {"name": "orders", "namespace": self.place.name},
            "spec": {
                "template": {"spec": SPEC | (spec or {})},
                "members": listed,
                "rollout": rollout or {},
                **more,
            },
        }

    async def apply(self, *names: str, **more: Any) -> None:
        """Apply the federation as a person does."""
        await self.place.create(self.document(*names, **more))

    async def status(self) -> dict[str, Any]:
        """Return the federation's status."""
        found = await self.place.get(FEDERATION, "orders")
        return dict((found or {}).get("status") or {})

    async def until(self, seconds: float = 60.0, **wanted: Any) -> dict[str, Any]:
        """Wait until the status has these values; `east="Ready"` is the phase of a member."""
        status: dict[str, Any] = {}

        async def there() -> bool:
            status.clear()
            status.update(await self.status())
            phases = {each["name"]: each["phase"] for each in status.get("members") or ()}
            return all((phases | status).get(name) == value for name, value in wanted.items())

        try:
            await eventually(there, seconds)
        except AssertionError:
            raise AssertionError(f"not {wanted}: {json.dumps(status, indent=1)}") from None
        return status

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[None]:
        """Let the members' operators work while the block does."""
        task = asyncio.create_task(self._play())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _play(self) -> None:
        while True:
            for number, member in enumerate(self.members):
                with suppress(OSError, AssertionError):  # its server is down, or another write came between
                    news = await member.act()
                    if news:
                        self.order.append(member.name)
                        waits = [each.name for each in self.members[:number] if each.ready != news and not each.away]
                        self.overtaken += [f"{member.name} before {name}" for name in waits]
            await asyncio.sleep(0.1)

    def running(self, **options: Any) -> Any:
        """Run an operator that is a hub."""
        selection = Selection(namespaces=(self.place.name,), features=frozenset({"federation"}))
        return running(self.place.server, self.place.name, selection=selection, **({"federation_poll": POLL} | options))

    def strays(self) -> Iterator[tuple[str, Request]]:
        """Yield what the hub has written at members beside its one object."""
        for member in self.members:
            for each in member.writes():
                ours = (each.resource, each.name, each.subresource) == (CLUSTER.plural, member.cluster, "")
                applied = each.query.get("fieldManager") == FEDERATION_MANAGER and "force" not in {
                    key for key, value in each.query.items() if value == "true"
                }
                if not (ours and applied):
                    yield member.name, each


def hub_process(hub: Hub, folder: Path, poll: float = 0.4) -> OperatorProcess:
    """Start a hub of its own process."""
    arguments = ("--federation", "-n", hub.place.name, "--no-leader-elect", "--federation-poll", str(poll))
    return OperatorProcess(hub.place.server.kubeconfig, folder / "hub.log", *arguments, "--log-format", "json")
