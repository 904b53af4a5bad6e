"""Word what becomes of a federation's members when it is deleted without a hub, or of it in the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chronik.errors import WaitTimeout
from chronik.report.data import ref_data
from chronik.report.page import BOLD, RED, Page
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chronik.errors import ChronikError
    from chronik.manifest import ObjectRef


@dataclass(frozen=True, slots=True)
class LettingGo:
    """What is to become of a member's ChronikCluster, or with no `member` of the federation in its hub, and what did.

    `how` is absent where there is nothing of ours. `error` is why it could not be looked at or let go. `left` is that
    it was still there after `waited` seconds.
    """

    member: str
    ref: ObjectRef
    how: Literal["orphan", "delete", "absent"]
    error: ChronikError | None = None
    done: bool = False
    left: bool = False
    waited: float = 0.0

    @property
    def title(self) -> str:
        """What it is called."""
        return f"{self.member}: {self.ref}" if self.member else str(self.ref)

    @property
    def failure(self) -> ChronikError | None:
        """Why it is not over, if it is not."""
        if self.error is not None or not self.left:
            return self.error
        return WaitTimeout(f"still there after {self.waited:.0f} s", subject=self.title)


_WILL = {
    "orphan": "will be let go, and runs on",
    "delete": "will be deleted",
    "absent": "nothing to let go",
}
_WOULD = _WILL | {"orphan": "would be let go, and runs on", "delete": "would be deleted"}
_OUTCOMES = {"orphan": "let go", "delete": "deleted", "absent": "absent"}
_DID = {"orphan": "let go, and runs on", "delete": "deleted", "absent": "nothing to let go"}


def forecast(going: Iterable[LettingGo], *, width: int | None, color: bool) -> str:
    """Return what will become of each."""
    page = Page(width, color=color)
    for each in going:
        if each.error is None:
            page.line((each.title, BOLD), f": {_WILL[each.how]}")
        else:
            page.labelled("error", RED, f"{each.title}: {each.error}")
    return page.text


def question(going: Sequence[LettingGo]) -> str:
    """Return what to ask before it is done."""
    deleted = [each for each in going if each.how == "delete" and each.error is None]
    released = [each for each in going if each.how == "orphan" and each.error is None]
    parts = [f"delete {counted(len(deleted), 'object')}"] if deleted else []
    parts += [f"let {counted(len(released), 'cluster')} go"] if released else []
    return f"{' and '.join(parts).capitalize()}?"


def outcome(going: Iterable[LettingGo], *, width: int | None, color: bool, dry_run: bool) -> str:
    """Return what became of each; errors are for `troubles`."""
    page = Page(width, color=color)
    for each in going:
        if each.error is None:
            gone = ", all gone" if each.how == "delete" and each.waited and not each.left else ""
            page.line((each.title, BOLD), f": {(_WOULD if dry_run else _DID)[each.how]}{gone}")
    return page.text


def troubles(going: Iterable[LettingGo], *, width: int | None, color: bool) -> str:
    """Return what went wrong, each with what to do about it."""
    page = Page(width, color=color)
    for each in going:
        if each.error is not None:
            page.labelled("error", RED, f"{each.title}: {each.error}")
        elif each.failure is not None:
            page.labelled("error", RED, str(each.failure))
    return page.text


def deletion_data(going: Iterable[LettingGo], *, dry_run: bool) -> str:
    """Return the same as one JSON object, whose keys only ever grow in number."""
    return json.dumps({"clusters": [_data(each, dry_run=dry_run) for each in going]}, indent=2) + "\n"


def _data(each: LettingGo, *, dry_run: bool) -> dict[str, Any]:
    return {
        **({"member": each.member} if each.member else {}),
        **ref_data(each.ref),
        "dryRun": dry_run,
        "ok": each.failure is None,
        "outcome": _OUTCOMES[each.how] if each.done or each.how == "absent" else None,
        "error": each.failure.message if each.failure else None,
    }
