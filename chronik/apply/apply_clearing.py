"""Make room for an apply: remove what others have put where ours has to be. `apply` asks, `clashes` says what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronik.errors import ConflictError
from chronik.manifest import KIND_BY_NAME

if TYPE_CHECKING:
    from chronik.kube.interface import Kube
    from chronik.plan.actions import Apply


async def cleared(kube: Kube, action: Apply, version: str, *, dry_run: bool) -> str:
    """Send the patch that has to come before an apply, and return the version that it leaves the object in.

    Raises:
        ConflictError: this is a dry run, which cannot build one change upon another.
    """
    assert action.clearing is not None, "nothing is in the way"
    if dry_run:
        fields = ", ".join(owner.path.removeprefix(".") for owner in action.takes)
        raise ConflictError(f"{fields} would have to go first, which a dry run cannot do", subject=str(action.ref))
    patch = action.clearing | {"metadata": {"resourceVersion": version}}
    answer = await kube.merge(KIND_BY_NAME[action.ref.kind], action.ref, patch)
    return str(answer["metadata"]["resourceVersion"])
