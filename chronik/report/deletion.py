"""Word deletions: what will go and what stays, before the user is asked, and what became of it.

For people and programs. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chronik.errors import PartialFailure, WaitTimeout
from chronik.manifest import CLAIM, ObjectRef
from chronik.plan.results import Report
from chronik.report.data import ref_data
from chronik.report.page import BOLD, RED, YELLOW, Page
from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronik.errors import ChronikError
    from chronik.plan.deletion import Deletion
    from chronik.status.readiness import Unready

__all__ = ["DeletionResult", "deletion_json", "forecast", "outcome", "question"]


@dataclass(frozen=True, slots=True)
class DeletionResult:
    """What became of one deletion: `error` is why it could not begin, `left` what is still there.

    `left` is None without a wait.
    """

    deletion: Deletion
    report: Report = Report(())  # noqa: RUF009  # frozen
    error: ChronikError | None = None
    left: tuple[Unready, ...] | None = None
    waited: float = 0.0

    @property
    def failure(self) -> ChronikError | None:
        """What it amounts to as one error; None if all went well."""
        if self.error is not None:
            return self.error
        failed = [result.error for result in self.report.failed if result.error]
        if failed and not self.report.written and len({type(error) for error in failed}) == 1:
            return failed[0]
        if failed or self.report.untried:
            count = len(self.report.failed) + len(self.report.untried)
            return PartialFailure(f"{counted(count, 'object')} could not be deleted", subject=str(self.deletion.key))
        if self.left:
            text = f"{counted(len(self.left), 'object')} still there after {self.waited:.0f} s"
            return WaitTimeout(text, subject=str(self.deletion.key))
        return None


def forecast(deletions: Iterable[Deletion], *, width: int | None, color: bool) -> str:
    """Return what deletions will remove and what they will leave."""
    page = Page(width, color=color)
    for deletion in deletions:
        if not deletion.uids:
            page.line((str(deletion.key), BOLD), ": nothing to delete")
        else:
            page.line((str(deletion.key), BOLD), ": will be deleted")
            _listing(page, deletion.removes)
            follows = [ObjectRef.of(live) for live in deletion.follows]
            if follows:
                page.line("  and with that")
                _listing(page, follows)
            data = _claims_going(deletion)
            if data:
                page.hanging(f"{counted(data, 'volume claim')} will be deleted with all data", "  ", colour=RED)
        _write_kept(page, deletion)
    return page.text


def question(deletions: Iterable[Deletion]) -> str:
    """Return what to ask before it is done: by then, the list of what goes may have left the screen."""
    going = [each for each in deletions if each.uids]
    data = sum(_claims_going(each) for each in going)
    lost = f" and the data of {counted(data, 'volume claim')}" if data else ""
    return f"Delete {listed(each.key for each in going)}{lost}?"


def _claims_going(deletion: Deletion) -> int:
    refs = {*deletion.removes, *map(ObjectRef.of, deletion.follows)}
    return sum(ref.kind == CLAIM.name for ref in refs)


def _listing(page: Page, refs: Iterable[ObjectRef]) -> None:
    """Write objects, a line for each kind, in their order."""
    by_kind: dict[str, list[str]] = {}
    for ref in refs:
        by_kind.setdefault(ref.kind, []).append(ref.name)
    longest = max(map(len, by_kind), default=0)
    for kind, names in by_kind.items():
        if page.width is None or page.width > 2 * longest + 6:
            page.beside(f"    {kind:<{longest}}  ", ", ".join(names))
        else:
            page.line(f"    {kind}")
            page.paragraph(", ".join(names), "      ")


def _write_kept(page: Page, deletion: Deletion) -> None:
    for action in deletion.kept:
        page.hanging(f"{action.ref} stays: it {action.reason}", "  ", colour=YELLOW)
    if not deletion.volumes:
        return
    names = [ref.name for ref in deletion.volumes]
    many = f"{len(names)} volume claims stay with their data. To delete them, too:"
    one = "1 volume claim stays with its data. To delete it, too:"
    page.hanging(many if len(names) > 1 else one, "  ", colour=YELLOW)
    page.hanging(f"kubectl delete pvc -n {deletion.key.namespace} {' '.join(names)}", "    ")


def outcome(results: Iterable[DeletionResult], *, width: int | None, color: bool, dry_run: bool) -> str:
    """Return what became of deletions."""
    page = Page(width, color=color)
    for result in results:
        _write_outcome(page, result, dry_run=dry_run)
    return page.text


def _write_outcome(page: Page, deletion_result: DeletionResult, *, dry_run: bool) -> None:
    deletion, report = deletion_result.deletion, deletion_result.report
    done = len(report.written) + (deletion.document is not None and deletion_result.error is None)
    if not deletion.uids and deletion_result.error is None:
        page.line(f"{deletion.key}: nothing to delete")
    if deletion.uids:
        verb = "would be deleted" if dry_run else "deleted"
        gone = "" if dry_run or deletion_result.left is None or deletion_result.left else ", all gone"
        page.line((str(deletion.key), BOLD), f": {counted(done, 'object')} {verb}{gone}")
    for result in (*report.failed, *report.untried):
        text = f"{result.ref}: {result.error.message if result.error else f'not tried, {result.why}'}"
        page.hanging(text, "  ", colour=RED)
    for each in deletion_result.left or ():
        page.hanging(f"{each.ref} {each.health.message}", "  ", colour=RED)
    if not dry_run:
        _write_kept(page, deletion)


def refusals(results: Iterable[DeletionResult], *, width: int | None, color: bool) -> str:
    """Return what stood in the way of a whole cluster's deletion: it does not exist, or its document may not go."""
    page = Page(width, color=color)
    for result in results:
        if result.error is not None:
            page.labelled("error", RED, str(result.error))
    return page.text


def deletion_json(results: Iterable[DeletionResult], *, dry_run: bool) -> str:
    """Return deletions as one JSON object, whose keys only ever grow in number."""
    return json.dumps({"clusters": [_data(each, dry_run=dry_run) for each in results]}, indent=2) + "\n"


def _data(deletion_result: DeletionResult, *, dry_run: bool) -> dict[str, Any]:
    deletion, report = deletion_result.deletion, deletion_result.report
    document = [ObjectRef.of(deletion.document)] if deletion.document and deletion_result.error is None else []
    return {
        "namespace": deletion.key.namespace,
        "name": deletion.key.name,
        "dryRun": dry_run,
        "ok": deletion_result.failure is None,
        "deleted": _refs([*document, *(result.ref for result in report.written)]),
        "followed": _refs(ObjectRef.of(live) for live in deletion.follows),
        "kept": [{**ref_data(action.ref), "reason": action.reason} for action in deletion.kept],
        "volumesKept": _refs(deletion.volumes),
        "failed": [
            {**ref_data(result.ref), "message": result.error.message if result.error else result.why}
            for result in (*report.failed, *report.untried)
        ],
        "left": deletion_result.left
        and [{**ref_data(each.ref), "message": each.health.message} for each in deletion_result.left],
        "error": deletion_result.failure.message if deletion_result.failure else None,
    }


def _refs(refs: Iterable[ObjectRef]) -> list[dict[str, str]]:
    return [ref_data(ref) for ref in refs]
