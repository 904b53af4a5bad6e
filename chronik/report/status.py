"""Word how clusters are: a picture of one, a table of many, a line for each change.

Pure: the time is an argument. `report.data` says the same to programs.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chronik.api.components import COMPONENTS
from chronik.report.page import BOLD, DIM, GREEN, RED, YELLOW, Page, cells, fitting, visible
from chronik.rollout.words import component_texts, state_text
from chronik.status.health import State
from chronik.status.view_parts import is_growing
from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chronik.api.components import ComponentType
    from chronik.status.view import ClusterView
    from chronik.status.view_parts import ComponentView, Volume

_PHASE_COLOURS = {"Running": GREEN, "Failed": RED, "Deleting": RED}
_WIDE, _BAR, _SHORT_BAR = 60, 12, 6
NOT_INSTALLED = (
    "note: the kind ChronikCluster is not installed; only clusters applied from the command line can be shown"
)
_READY = {False: "Ready", True: "Ready as it is: it is paused, and need not be what its document says"}
_POD = "spec.template.spec."
_MOST_ADDED = 8
_LABEL = max(len(each.plural) for each in COMPONENTS.values()) + 2


def picture(
    views: Sequence[ClusterView], now: str, *, width: int | None, color: bool, height: int | None = None
) -> str:
    """Return one or more clusters for a person; `width` is the terminal's, None if there is none.

    They are shown in full, or in no more than `height` lines: then what can best be spared is left out, and never the
    end, which says what they wait for.
    """
    lines: list[str] = []
    for spared in range(len(_SPARED) + 1):
        page = Page(width, color=color)
        for number, view in enumerate(views):
            if number:
                page.line()
            _Picture(page, view, now).draw(_SPARED[:spared])
        lines = page.text.splitlines(keepends=True)
        if height is None or len(lines) <= height:
            return page.text
    assert height is not None
    end = height // 2
    return "".join([*lines[: height - end - 1], "…\n", *lines[len(lines) - end :]])


_SPARED = ("addresses", "conditions", "images", "volumes", "additions", "backups", "recovery")
"""The sections of a picture that can be left out, the first to go first."""


class _Picture:
    """One cluster being drawn on a page, section by section."""

    def __init__(self, page: Page, view: ClusterView, now: str) -> None:
        self.page, self.view, self.now = page, view, now

    def draw(self, spared: Sequence[str]) -> None:
        self._header()
        self._components()
        rest = {
            "volumes": self._volumes,
            "images": self._images,
            "addresses": self._addresses,
            "additions": self._additions,
            "backups": self._backups,
            "recovery": self._recovery,
            "rollout": self._rollout,
            "conditions": self._conditions,
        }
        for name, draw in rest.items():
            if name not in spared:
                draw()
        self._waits()

    def _header(self) -> None:
        page, view = self.page, self.view
        colour = _PHASE_COLOURS.get(view.phase, YELLOW)
        page.line((str(view.key), BOLD), "  ", (view.state, f"{BOLD} {colour}"))
        facts = [f"created {age(view.created, self.now)} ago"] if view.created else []
        facts += [f"generation {view.generation}"] if view.generation else ["applied without an operator"]
        version = view.status.get("operatorVersion")
        facts += [f"by the operator {version}"] if version else []
        page.paragraph(", ".join(facts), "  ", colour=DIM)
        for note in view.notes:
            page.paragraph(note, "  ", colour=YELLOW)

    def _section(self, title: str) -> None:
        self.page.line()
        self.page.line((title, BOLD))

    def _row(self, label: str, text: str) -> None:
        """Write a text beside its label, or below it if a word of it is too long for that."""
        used, width = 2 + _LABEL, self.page.width
        if width is None or max(map(cells, text.split()), default=0) <= width - used:
            self.page.beside(f"  {label:<{_LABEL}}", text)
        else:
            self.page.line(f"  {label}")
            self.page.paragraph(text, "    ")

    def _components(self) -> None:
        self._section("Components")
        counts = max((len(_count(part)) for part in self.view.components), default=0)
        for part in self.view.components:
            bar = _bar(part, self.page.width)
            drawn = (f"{bar} " if bar else "") + f"{_count(part):>{counts}}"
            first = self.page.styled(f"  {part.words:<{_LABEL}}", (drawn, _colour(part)), "  ")
            self.page.beside(first, ", ".join(_remarks(part)))
            for trouble in part.troubles:
                self.page.hanging(trouble, "    ", colour=RED)
            for unready in part.unready:
                self.page.hanging(unready, "    ", colour=YELLOW)

    def _volumes(self) -> None:
        rows = [(part.words, _volumes(part.volumes)) for part in self.view.components if part.volumes]
        if rows:
            self._section("Volumes")
        for words, text in rows:
            self._row(words, text)

    def _images(self) -> None:
        rows = [(part.words, ", ".join(part.status.images)) for part in self.view.components if part.status.images]
        if rows:
            self._section("Images")
        for words, text in rows:
            self._row(words, text)

    def _addresses(self) -> None:
        served = [part for part in self.view.components if part.status.endpoints]
        aliases = self.view.status.get("aliases") or ()
        if not (served or aliases or self.view.addresses):
            return
        self._section("Addresses")
        for address in self.view.addresses:
            outside = f", from outside {', '.join(address.external)}" if address.external else ""
            self._row("clients", f"{address.internal} ({address.type}){outside}")
        for alias in aliases:
            active = alias.get("active")
            leads = "here" if active == self.view.key.name else f"to {active}" if active else "nowhere: it is not there"
            self._row("alias", f"{alias['name']} leads {leads}")
        for part in served:
            self._row(part.words, endpoints(part.status.endpoints))

    def _additions(self) -> None:
        words = {part.ref: part.words for part in self.view.components}
        found: dict[str, list[str]] = {}
        for ref, owner in self.view.additions:
            what = f"{owner.field.removeprefix(_POD)} ({owner.manager})"
            found.setdefault(words.get(ref, ref.kind), []).append(what)
        if found:
            self._section("Added by others")
        for label, texts in found.items():
            self._row(label, listed(texts, _MOST_ADDED))

    def _backups(self) -> None:
        """Write which backup is the newest, which failed last, and when the next one of each schedule is due."""
        backup = self.view.status.get("backup") or {}
        if not backup:
            return
        self._section("Backups")
        for label, key in (("last usable", "lastUsable"), ("last failed", "lastFailed")):
            if found := backup.get(key):
                self._row(label, f"{found['name']}, {age(found['at'], self.now)} ago")
        if not backup.get("lastUsable"):
            self._row("last usable", "none yet")
        for each in backup.get("schedules") or ():
            rests = "rests" if each.get("suspended") else f"next at {each.get('next', 'no time')}"
            self._row(each["name"], rests)

    def _recovery(self) -> None:
        """Write what the cluster was made from, to the second, and how far that is."""
        found = self.view.status.get("recovery") or {}
        if not found:
            return
        self._section("Recovery")
        done = f"recovered {age(found['finishedAt'], self.now)} ago" if "finishedAt" in found else "not recovered yet"
        self._row("from", f"{found['backup']}, {done}")
        metastore = found.get("metastoreCutAt")
        also = f", the metastore {metastore}" if metastore else ""
        self._row("as of", f"{found['cutAt']}{also}: what was written later is lost")

    def _rollout(self) -> None:
        """Write how far a canary is, while one is on its way or has failed."""
        found = self.view.status.get("rollout") or {}
        if found.get("phase", "Complete") == "Complete":
            return
        self._section("Rollout")
        self._row("canary", state_text(found))
        for name, text in component_texts(found).items():
            self._row(name, text)

    def _conditions(self) -> None:
        conditions = self.view.status.get("conditions") or ()
        if not conditions or self.view.generation is None:  # without an operator they say what stands above
            return
        self._section("Conditions")
        rows = []
        for each in conditions:
            since = each.get("lastTransitionTime")
            stamp = age(since, self.now) if since else ""
            rows.append((f"  {each.get('type', '')}", f"{each.get('status', ''):<5}", f"{stamp:>4}", _condition(each)))
        self.page.columns(rows)

    def _waits(self) -> None:
        page, view = self.page, self.view
        page.line()
        if view.ready:
            page.line((_READY[view.paused], f"{BOLD} {GREEN}"))
        for reason in view.waits_besides:
            page.hanging(f"Waits for {reason}", colour=YELLOW)
        names = [f"{part.words} ({_lack(part)})" for part in view.waiting]
        if names or not (view.ready or view.waits_besides):
            page.hanging(f"Waits for {', '.join(names) or 'its operator'}", colour=YELLOW)


def endpoints(addresses: Sequence[str]) -> str:
    """Return addresses in one, where they differ in the pod's number only: `c-ingest-{0,1}.c-ingest.ns.svc:9092`."""
    pods, services = zip(*(address.partition(".")[::2] for address in addresses), strict=True)
    stems, numbers = zip(*(pod.rpartition("-")[::2] for pod in pods), strict=True)
    if len(addresses) == 1 or len({*stems}) > 1 or len({*services}) > 1:
        return ", ".join(addresses)
    return f"{stems[0]}-{{{','.join(numbers)}}}.{services[0]}"


def _lack(part: ComponentView) -> str:
    """Return how many pods are ready, or what else is to come if enough are."""
    enough = part.status.ready >= part.status.wanted
    return (enough and part.status.health.message) or _count(part)


def _count(part: ComponentView) -> str:
    return f"{part.status.ready}/{part.status.wanted}"


def _colour(part: ComponentView) -> str:
    if part.status.is_ready:
        return GREEN
    return RED if part.status.health.state is State.FAILED else YELLOW


def _bar(part: ComponentView, width: int | None) -> str:
    """Draw how many pods are ready; what is no terminal gets no bar."""
    if width is None:
        return ""
    length = _BAR if width >= _WIDE else _SHORT_BAR
    share = min(1.0, part.status.ready / part.status.wanted) if part.status.wanted else 1.0
    full = int(length * share)
    return "█" * full + "░" * (length - full)


def _remarks(part: ComponentView) -> Iterator[str]:
    """Yield what there is to say beside a component's count."""
    if not part.status.is_ready and not part.troubles:
        yield part.reason
    if part.existing and part.updated < part.existing and "revision" not in part.reason:
        yield f"{part.updated} of {part.existing} on the newest revision"
    restarts = sum(pod.restarts for pod in part.pods)
    if restarts:
        yield counted(restarts, "restart")
    scaler = part.autoscaler
    if scaler:
        goal = "" if scaler.desired in {scaler.current, 0} else f", going to {scaler.desired}"
        yield f"scaled between {scaler.minimum} and {scaler.maximum}, now {scaler.current}{goal}"
        if scaler.trouble:
            yield f"the autoscaler is stuck: {scaler.trouble}"


def _volumes(volumes: Sequence[Volume]) -> str:
    """Sum volumes up: how many of which size, and which are not as they should be."""
    used = [volume for volume in volumes if not volume.spare]
    sizes = Counter(volume.requested for volume in used)
    text = " and ".join(f"{count} x {size}" for size, count in sizes.items())
    odd = {
        phase.lower(): [volume.name for volume in used if volume.phase == phase]
        for phase in sorted({volume.phase for volume in used} - {"Bound"})
    }
    odd["growing"] = [volume.name for volume in used if is_growing(volume)]
    states = [f"{listed(names)} {state}" for state, names in odd.items() if names]
    parts = [text, *(states or (["bound"] if used else []))]
    spare = [volume.name for volume in volumes if volume.spare]
    parts += [f"kept from before: {listed(spare)}"] if spare else []
    return ", ".join(filter(None, parts))


def _condition(condition: Mapping[str, Any]) -> str:
    """Word a condition, but for what the components above say better."""
    reason, message = condition.get("reason", ""), condition.get("message", "")
    told = message.startswith(tuple(f"{each.plural}: " for each in COMPONENTS.values()))
    return f"{reason}: {message}" if message and not told else reason


def table(views: Sequence[ClusterView], now: str, *, width: int | None, color: bool) -> str:
    """Return many clusters, a line each; columns that matter less make room for what is waited for."""
    used = {part.status.component.type.topology for view in views for part in view.components}
    shown = [each for each in COMPONENTS.values() if each.topology in used]
    counts = tuple(each.plural.upper().removesuffix(" NODES") for each in shown)
    head = (*_HEAD, *counts, *_TAIL)
    choices = ((), ("AGE",), ("AGE", *counts))
    rows = fitting([head, *(_cells(view, shown, now) for view in views)], choices, width)
    colours = [BOLD, *map(_row_colour, views)]
    page = Page(width, color=color)
    page.columns([[(cell, colour) for cell in row] for row, colour in zip(rows, colours, strict=True)], cut=True)
    return page.text


_HEAD, _TAIL = ("NAMESPACE", "NAME", "PHASE", "READY"), ("AGE", "WAITS FOR")


def _row_colour(view: ClusterView) -> str:
    return "" if view.ready else _PHASE_COLOURS.get(view.phase, YELLOW) if view.phase != "Running" else YELLOW


def _cells(view: ClusterView, shown: Sequence[ComponentType], now: str) -> tuple[str, ...]:
    counts = {part.name: _count(part) for part in view.components}
    return (
        view.key.namespace,
        view.key.name,
        view.state,
        "yes" if view.ready else "no",
        *(counts.get(each.name, "-") for each in shown),
        age(view.created, now) if view.created else "-",
        "; ".join(view.waits_for),
    )


def line(view: ClusterView) -> str:
    """Return a cluster in one line, for a log."""
    counts = ", ".join(f"{part.words} {_count(part)}" for part in view.components)
    end = "; ready" if view.ready else f"; waits for {'; '.join(view.waits_for) or 'its operator'}"
    return visible(f"{view.key} {view.state}: {counts}{end}") + "\n"


def age(since: str, now: str) -> str:
    """Return how long ago something was, in two letters or so: `12s`, `5m`, `3h`, `8d`; both times are RFC 3339."""
    try:
        seconds = int((_time(now) - _time(since)).total_seconds())
    except ValueError:
        return "?"
    for unit, length, least in (("d", 86_400, 172_800), ("h", 3_600, 7_200), ("m", 60, 120)):
        if seconds >= least:
            return f"{seconds // length}{unit}"
    return f"{max(0, seconds)}s"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
