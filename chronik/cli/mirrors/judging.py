"""What a copy lacks by the word of its mirror's probes: what `failover` and `switch` go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.api.replication.failover import judge, standing
from chronik.api.replication.mirrors import mirror_component
from chronik.cli.mirrors.probes import ask_probes
from chronik.manifest import CLUSTER_LABEL, COMPONENT_LABEL, POD, ClusterKey

if TYPE_CHECKING:
    from chronik.api.replication.failover import Judgement, Standing
    from chronik.api.sections.replication import ReplicationSource
    from chronik.kube import Kube
    from chronik.manifest import Manifest


async def judged_mirror(
    kube: Kube, document: Manifest, source: ReplicationSource, allowed: float
) -> tuple[Standing, Judgement]:
    """Return whether the mirror of a source runs, and what its copy lacks; `allowed` is in seconds."""
    key = ClusterKey.of(document)
    state = standing(document, source)
    selector = component_selector(key, mirror_component(source["name"]))
    answer = await ask_probes(kube, (await kube.list(POD, key.namespace, label_selector=selector)).items)
    judgement = judge(
        answer.state, allowed=allowed, heartbeats=source["heartbeats"], syncs=source["groups"]["syncOffsets"]
    )
    if answer.why and state == "running":
        judgement = judgement._replace(unknown=(*judgement.unknown, answer.why))
    if state == "unknown":
        stood = "what came since the mirror was paused: it stands still already, and not by a failover of this document"
        judgement = judgement._replace(known=(), lost=(), unknown=(stood,))
    return state, judgement


def component_selector(key: ClusterKey, component: str) -> str:
    """Return the label selector of a component's objects."""
    return f"{CLUSTER_LABEL}={key.name},{COMPONENT_LABEL}={component}"
