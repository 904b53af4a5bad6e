# ruff: noqa: T201  # a benchmark prints
"""How fast chronik renders, beside the limits of its libraries and beside kubectl, each measured in the same run.

    nox -s bench            or: python tests/bench/render.py [--rounds 15]

Everything is measured in turns, a round of each at a time, so that a busy machine slows all of them alike. A line gives
the median of the rounds, and the least and the most. The last lines hold the figures against the budgets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import yaml

from chronik.documents.writer import to_yaml_stream
from chronik.offline import loading as offline
from chronik.offline.output import write_folder
from chronik.offline.template_sets import template_reader
from chronik.render.cluster import render
from chronik.render.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "production.yaml"
CLUSTERS = 20  # in one round, each under another name

sys.path.insert(0, str(ROOT / "tests"))


@dataclass(frozen=True)
class Sample:
    """The rounds of one measurement, in seconds each."""

    name: str
    rounds: list[float]

    def rate(self, count: int) -> str:
        """Write how many things a second that is, if a round does `count`."""
        low, middle, high = (count / each for each in (max(self.rounds), median(self.rounds), min(self.rounds)))
        return f"  {self.name:<44}{middle:>9,.0f} objects/s   ({low:,.0f}-{high:,.0f})"

    def span(self) -> str:
        """Write how long a round takes."""
        low, middle, high = (1000 * each for each in (min(self.rounds), median(self.rounds), max(self.rounds)))
        return f"  {self.name:<44}{middle:>9,.0f} ms          ({low:,.0f}-{high:,.0f})"


def in_turns(rounds: int, works: dict[str, Callable[[], Any]]) -> dict[str, Sample]:
    """Do each work once a round, after one round that does not count, and return the times."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: Sample(name, each) for name, each in times.items()}


def library(rounds: int) -> tuple[float, float]:
    """Measure rendering inside one process; return objects a second, as data and as YAML text."""
    [cluster], _ = offline.load_clusters([str(EXAMPLE)])
    clusters = [replace(cluster, name=f"{cluster.name}-{number}") for number in range(CLUSTERS)]
    templates = Templates(template_reader())

    def to_data() -> list[dict[str, Any]]:
        return [manifest for each in clusters for manifest in render(each, templates)]

    manifests = to_data()
    text = to_yaml_stream(manifests)
    samples = in_turns(
        rounds,
        {
            "render to data": to_data,
            "render to YAML text": lambda: to_yaml_stream(to_data()),
            "limit: json.dumps of the same objects": lambda: [json.dumps(each) for each in manifests],
            "limit: yaml.CSafeDumper of the same objects": lambda: yaml.dump_all(
                manifests, Dumper=yaml.CSafeDumper, sort_keys=False
            ),
            "limit: yaml.CSafeLoader of the same text": lambda: list(yaml.load_all(text, Loader=yaml.CSafeLoader)),
        },
    )
    print(f"\nIn one process, one core: {CLUSTERS} clusters, {len(manifests)} objects, {len(text) // 1024} KiB of YAML")
    for sample in samples.values():
        print(sample.rate(len(manifests)))
    medians = {name: median(sample.rounds) for name, sample in samples.items()}
    dumper = medians["limit: yaml.CSafeDumper of the same objects"]
    print(f"  render to YAML text / yaml.CSafeDumper alone: {medians['render to YAML text'] / dumper:.2f}")
    return len(manifests) / medians["render to data"], len(manifests) / medians["render to YAML text"]


def whole_process(rounds: int) -> float | None:
    """Measure `chronik render` of one cluster against `kubectl kustomize` of the same objects; return the ratio."""
    from support.real_server import find_binary  # noqa: PLC0415  # found by way of the path that was set above

    with tempfile.TemporaryDirectory() as folder:
        [cluster], _ = offline.load_clusters([str(EXAMPLE)])
        manifests = render(cluster, Templates(template_reader()))
        write_folder(Path(folder, "objects"), manifests)
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def process(*command: str) -> Callable[[], Any]:
            return lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

        works = {
            "chronik render": process(sys.executable, "-m", "chronik", "render", "-f", str(EXAMPLE)),
            "limit: python -c pass": process(sys.executable, "-c", "pass"),
        }
        kubectl = find_binary("kubectl")
        if kubectl:
            works["kubectl kustomize"] = process(kubectl, "kustomize", str(Path(folder, "objects")))
        samples = in_turns(rounds, works)
    print(f"\nWhole processes, warm disk: one cluster, {len(manifests)} objects")
    for sample in samples.values():
        print(sample.span())
    if not kubectl:
        print("  no kubectl found to compare with: set KUBEBUILDER_ASSETS, or put it on PATH")
        return None
    pairs = zip(samples["chronik render"].rounds, samples["kubectl kustomize"].rounds, strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    print(f"  chronik render / kubectl kustomize: {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    return median(ratios)


def judge(lines: Iterable[tuple[str, float | None, str, float]]) -> None:
    """Print a line per budget: the figure, the budget, and whether it is met."""
    print("\nBudgets")
    for name, figure, sign, budget in lines:
        if figure is None:
            print(f"  {name:<44}not measured   budget {sign} {budget:,g}")
            continue
        met = figure <= budget if sign == "<=" else figure >= budget
        shown = f"{figure:,.2f}" if budget < 10 else f"{figure:,.0f}"
        print(f"  {name:<44}{shown:>9}   budget {sign} {budget:,g}   {'met' if met else 'MISSED'}")


def main() -> None:
    """Measure, print, and hold against the budgets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    libyaml = "with" if yaml.__with_libyaml__ else "WITHOUT"
    print(
        f"Python {platform.python_version()} {libyaml} libyaml, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    data, text = library(rounds)
    ratio = whole_process(rounds)
    judge(
        [
            ("render to data, objects a second", data, ">=", 5_000),
            ("render to YAML text, objects a second", text, ">=", 1_200),
            ("chronik render / kubectl kustomize", ratio, "<=", 2),
        ]
    )


if __name__ == "__main__":
    main()
