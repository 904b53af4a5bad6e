"""What is done at one member of a federation, by its hub as from the command line: how to get there, and let it go."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from chronik.errors import FieldConflict, KubeconfigError, ObjectMissing
from chronik.federation.document import FEDERATION_MANAGER, OWN_ANNOTATIONS
from chronik.federation.facts import is_ours
from chronik.federation.status import CONFLICT
from chronik.manifest import CLUSTER, SECRET, ObjectRef
from chronik.status.assess import describe_error
from chronik.status.compute import Reason
from chronik.wording import listed

if TYPE_CHECKING:
    from typing import Literal

    from chronik.errors import ChronikError
    from chronik.federation.document import Address
    from chronik.kube import Kube
    from chronik.manifest import Manifest


async def kubeconfig_of(hub: Kube, namespace: str, at: Address) -> bytes:
    """Return the kubeconfig in a member's Secret; `namespace` is the federation's. Nothing of it is part of an error.

    Raises:
        ChronikError: the Secret cannot be had, or has no such key.
    """
    subject = f"Secret {namespace}/{at.secret}"
    if not at.secret:
        raise KubeconfigError(
            "the member names no kubeconfig", subject="kubeconfig", hint="Write spec.members[].kubeconfig.secret."
        )
    secret = await hub.get(SECRET, namespace, at.secret)
    if secret is None:
        raise ObjectMissing("there is no such Secret", subject=subject, hint="It holds the member's kubeconfig.")
    data = secret.get("data") or {}
    if at.key not in data:
        raise KubeconfigError(f"it has no key {at.key}", subject=subject, hint="Name it in kubeconfig.key.")
    try:
        return base64.b64decode(data[at.key])
    except ValueError:
        raise KubeconfigError(f"its key {at.key} cannot be read", subject=subject) from None


async def let_go(
    kube: Kube, live: Manifest, federation: str, how: Literal["orphan", "delete"], *, dry_run: bool = False
) -> Manifest | None:
    """Let a member's ChronikCluster go, or delete it, and return it as it is then; one that is not ours stays.

    `federation` is `namespace/name`.
    """
    if not is_ours(live, federation):
        return live
    ref = ObjectRef.of(live)
    if how == "orphan":
        return await kube.merge(CLUSTER, ref, _released(live), dry_run=dry_run)
    if "deletionTimestamp" not in live["metadata"]:
        await kube.delete(CLUSTER, ref, uid=live["metadata"]["uid"], dry_run=dry_run)
    return await kube.get(CLUSTER, ref.namespace, ref.name)


def _released(live: Manifest) -> dict[str, Any]:
    """Return the patch that takes our ownership and our annotations away, and leaves all values as they are."""
    metadata = live["metadata"]
    others = [each for each in metadata.get("managedFields") or () if each["manager"] != FEDERATION_MANAGER]
    # An empty list would change nothing: a list with an empty entry resets it.
    return {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "managedFields": others or [{}],
            "annotations": dict.fromkeys(OWN_ANNOTATIONS),
        }
    }


def why_blocked(error: ChronikError) -> Reason:
    """Return why a member cannot be gone on with; a conflict names who owns what."""
    if isinstance(error, FieldConflict) and error.answer.owners:
        owned = listed(f"{each.field} ({each.manager})" for each in error.answer.owners)
        message = f"others have changed what the template sets, and nothing is forced: {owned}"
        return Reason(CONFLICT, message)
    return describe_error(error)
