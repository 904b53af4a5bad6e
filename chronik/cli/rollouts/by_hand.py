"""How `chronik apply` takes a canary from step to step where no operator does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from chronik.quantity import seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronik.api.spec import Cluster
    from chronik.manifest import ClusterKey, Manifest, ObjectRef
    from chronik.plan.planner import PlanContext

ALL = "all"
HELD = 7
"""The exit code of a canary that waits for a person."""


class Step(click.ParamType[int]):
    """A step of a canary: its number, or `all`, which is 0."""

    name = "step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        text = str(value)
        if text == ALL or (isinstance(value, int) and not value):
            return 0
        if not text.isdecimal() or not int(text):
            self.fail(f"{text!r} is neither the number of a step, from 1, nor {ALL!r}", param, ctx)
        return int(text)


class Held(NamedTuple):
    """Where a canary stands. `pause` is its seconds; 0 if there is none, None if only a person ends it."""

    step: int
    of: int
    pause: float | None

    def text(self, key: ClusterKey) -> str:
        """Return how to go on."""
        following = str(self.step + 1) if self.step < self.of else ALL
        return (
            f"{key}: held at step {self.step} of {self.of}. Go on: --step {following}. All at once: --step {ALL}. "
            f"Back: apply the document of before with --step {ALL}."
        )


def staged(
    cluster: Cluster,
    manifests: list[Manifest],
    observed: Mapping[ObjectRef, Manifest],
    context: PlanContext,
    asked: int | None,
) -> tuple[list[Manifest], Held | None]:
    """Return what to apply of a cluster, and at which step that holds it, if it does.

    `asked` is the step that a person asked for, 0 for all. Without that, a change of pods begins at the first step, and
    what is held stays where it is.

    Raises:
        InputError: there is no such step.
    """
    from chronik.apply.dry_run import simulate  # noqa: PLC0415  # `apply --help` stays quick
    from chronik.plan.planner import plan  # noqa: PLC0415  # likewise
    from chronik.rollout.by_hand import at_step, begins, step_under_way, steps_of  # noqa: PLC0415  # likewise

    steps = steps_of(cluster)
    if asked is None and not steps:
        return manifests, None
    if asked is None:
        new = begins(cluster, manifests, simulate(plan(manifests, observed, context)))
        asked = 1 if new else step_under_way(cluster, manifests, observed)
    if not asked:
        return manifests, None
    pause = steps[asked - 1]["pause"] if asked <= len(steps) else None
    wait = 0.0 if pause is None else float(seconds_of(pause["duration"])) if pause["duration"] else None
    return at_step(cluster, manifests, asked, observed), Held(asked, len(steps), wait)


def tell_held(found: Sequence[tuple[ClusterKey, Held]]) -> None:
    """Say on stderr which clusters are held, and how to go on."""
    for key, held in found:
        click.echo(held.text(key), err=True)
