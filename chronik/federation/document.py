"""What a ChronikFederation says, typed: its members, how a change goes from one to the next, and what each one gets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chronik.documents.writer import content_digest
from chronik.manifest import CLUSTER, FIELD_MANAGER, ClusterKey
from chronik.quantity import seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.manifest import Manifest

FEDERATION_MANAGER = "chronik-federation"
"""The field manager of what the hub writes to members."""
FEDERATION_ANNOTATION = "chronik.stream/federation"
"""On a member's ChronikCluster: namespace and name of the federation that it belongs to."""
MEMBER_ANNOTATION = "chronik.stream/federation-member"
"""On a member's ChronikCluster: which member it is."""
REVISION_ANNOTATION = "chronik.stream/federation-revision"
"""On a member's ChronikCluster: which revision of template and overrides it has."""
BEFORE_ANNOTATION = "chronik.stream/federation-before"
"""On a member's ChronikCluster, while a change by hand that may be taken back is on its way: what it had before."""
OWN_ANNOTATIONS = (FEDERATION_ANNOTATION, MEMBER_ANNOTATION, REVISION_ANNOTATION, BEFORE_ANNOTATION)
FORGET_ANNOTATION = "chronik.stream/forget"
"""On a federation: names of members that it is to let go of without a word to them, with commas between."""

_DIGITS = 8
"""Of a digest that tells revisions apart."""

assert FEDERATION_MANAGER != FIELD_MANAGER, "what the hub owns at a member is not its operator's"


class Address(NamedTuple):
    """Where a member's ChronikCluster is. `secret` is empty where none is named: then only people get there.

    `local` is that it is in the hub's own Kubernetes cluster.
    """

    secret: str
    key: str
    context: str
    namespace: str
    cluster: str
    local: bool = False

    @property
    def place(self) -> ClusterKey:
        """Namespace and name there."""
        return ClusterKey(self.namespace, self.cluster)

    def as_status(self) -> dict[str, str | bool]:
        """Return the address as the status has it, without what is empty."""
        return {_STATUS_NAMES.get(name, name): value for name, value in self._asdict().items() if value}

    @classmethod
    def of_status(cls, found: Mapping[str, Any]) -> Address:
        """Return the address that a status has."""
        texts = {name: str(found.get(name, "")) for name in cls._fields if name != "local"}
        return cls(**texts, local=bool(found.get("inCluster")))


_STATUS_NAMES = {"local": "inCluster"}


@dataclass(frozen=True, slots=True)
class Member:
    """A member; `overrides` is a merge patch on the template's spec. One that is `paused` is sent nothing."""

    name: str
    at: Address
    wave: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a change goes from member to member; times in seconds, numbers of members as they are now."""

    max_concurrent: int = 1
    soak: int = 0
    failure_budget: int = 0
    timeout: int = 3600
    on_failure: Literal["Halt", "Revert"] = "Halt"


@dataclass(frozen=True, slots=True)
class Federation:
    """A valid ChronikFederation. `template` has the metadata and the spec of a ChronikCluster."""

    name: str
    namespace: str
    template: Mapping[str, Any]
    members: tuple[Member, ...]
    rollout: Rollout = Rollout()
    on_delete: Literal["Orphan", "Delete"] = "Orphan"

    @property
    def key(self) -> ClusterKey:
        """Namespace and name."""
        return ClusterKey(self.namespace, self.name)

    @property
    def ordered(self) -> list[Member]:
        """The members in the order in which they get a change: by wave, then as listed."""
        return sorted(self.members, key=lambda each: each.wave)

    @property
    def revision(self) -> str:
        """What tells this template, and what is different where, from earlier ones; the list of members is no part."""
        return _digest(self.content)

    @property
    def content(self) -> dict[str, Any]:
        """Template and overrides, as `lastGood` keeps them."""
        overrides = {each.name: each.overrides for each in self.members if each.overrides}
        return {"template": self.template, **({"overrides": overrides} if overrides else {})}


def federation_of(document: Mapping[str, Any], fallback: str = "default") -> Federation:
    """Return the federation of a valid document with its defaults; `fallback` is the namespace of one without."""
    metadata, spec = document["metadata"], document["spec"]
    namespace = metadata.get("namespace") or fallback
    members = tuple(_member(each, metadata["name"], namespace) for each in spec["members"])
    rollout, count = spec["rollout"], len(members)
    return Federation(
        name=metadata["name"],
        namespace=namespace,
        template=spec["template"],
        members=members,
        rollout=Rollout(
            max_concurrent=max(1, _share(rollout["maxConcurrent"], count, math.ceil)),
            soak=seconds_of(rollout["soak"]),
            failure_budget=_share(rollout["failureBudget"], count, math.floor),
            timeout=seconds_of(rollout["timeout"]),
            on_failure=rollout["onFailure"],
        ),
        on_delete=spec["onDelete"],
    )


def _member(raw: Mapping[str, Any], name: str, namespace: str) -> Member:
    kubeconfig = raw.get("kubeconfig") or {}
    at = Address(
        secret=kubeconfig.get("secret", ""),
        key=kubeconfig.get("key", ""),
        context=raw.get("context", ""),
        namespace=raw.get("namespace") or namespace,
        cluster=raw.get("cluster") or name,
        local=bool(raw.get("inCluster")),
    )
    return Member(raw["name"], at, raw["wave"], raw.get("overrides") or {}, bool(raw.get("paused")))


def _share(value: int | str, count: int, rounded: Any) -> int:
    """Return a number of members, of all if it is a percentage."""
    return int(rounded(count * int(value[:-1]) / 100)) if isinstance(value, str) else value


def merged(target: Any, patch: Any) -> Any:
    """Return what a JSON merge patch makes of a value (RFC 7386): null removes, and lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def member_document(federation: Federation, member: Member) -> Manifest:
    """Return the ChronikCluster of a member, without what only the hub writes; it need not be a valid one."""
    metadata = federation.template.get("metadata") or {}
    texts = {name: dict(metadata[name]) for name in ("labels", "annotations") if metadata.get(name)}
    return {
        "apiVersion": CLUSTER.api_version,
        "kind": CLUSTER.name,
        "metadata": {"name": member.at.cluster, "namespace": member.at.namespace, **texts},
        "spec": merged(federation.template["spec"], member.overrides),
    }


def sent_document(federation: Federation, member: Member) -> Manifest:
    """Return what the hub sends to a member: its ChronikCluster, with annotations that say where it comes from."""
    document = member_document(federation, member)
    metadata = document["metadata"]
    own = {
        FEDERATION_ANNOTATION: str(federation.key),
        MEMBER_ANNOTATION: member.name,
        REVISION_ANNOTATION: _digest([federation.template.get("metadata") or {}, document["spec"]]),
    }
    return {**document, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **own}}}


def revision_of(document: Mapping[str, Any]) -> str:
    """Return which revision a member's ChronikCluster has; empty if it is not a federation's."""
    return str((document["metadata"].get("annotations") or {}).get(REVISION_ANNOTATION, ""))


def of_federation(document: Mapping[str, Any]) -> str:
    """Return the federation that a member's ChronikCluster belongs to: `namespace/name`, or nothing."""
    return str((document["metadata"].get("annotations") or {}).get(FEDERATION_ANNOTATION, ""))


def forgotten(document: Mapping[str, Any]) -> frozenset[str]:
    """Return the members that a person wants a federation to let go of."""
    text = str((document["metadata"].get("annotations") or {}).get(FORGET_ANNOTATION, ""))
    return frozenset(filter(None, (name.strip() for name in text.split(","))))


def _digest(data: Any) -> str:
    return content_digest(data)[:_DIGITS]
