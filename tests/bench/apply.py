# ruff: noqa: T201  # a benchmark prints
"""How long `chronik apply` of a new cluster takes, beside `kubectl apply --server-side` of the same objects.

    nox -s bench            or: python tests/bench/apply.py [--rounds 15] [--example production]

Whole processes, taking turns, each into a namespace of its own on the same real server. Nothing is said where there
are no binaries to start one. The limit is a client that does nothing but send the same requests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from render import ROOT, judge
from render import in_turns as in_turns_of

from chronik.documents.writer import to_yaml_stream
from chronik.offline import loading as offline

sys.path.insert(0, str(ROOT / "tests"))

from support import real_server as real

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET = 1.5


class Namespaces:
    """Fresh namespaces of a server, each with the document and the manifests of a cluster in it, made beforehand."""

    def __init__(self, server: real.RealServer, folder: Path, example: Path) -> None:
        self._server = server
        self._folder = folder
        [self._cluster], _ = offline.load_clusters([str(example)])
        self._text = example.read_text()
        self.objects = 0

    def take(self) -> tuple[Path, Path]:
        """Make one, and return its files: the document, and the manifests."""
        namespace = self._server.new_namespace()
        document, manifests = self._folder / f"{namespace}.yaml", self._folder / f"{namespace}-objects.yaml"
        document.write_text(self._text.replace(f"namespace: {self._cluster.namespace}\n", f"namespace: {namespace}\n"))
        clusters, _ = offline.load_clusters([str(document)])
        rendered = offline.render_clusters(clusters)
        manifests.write_text(to_yaml_stream(rendered))
        self.objects = len(rendered)
        return document, manifests


def measure(server: real.RealServer, kubectl: str, example: Path, rounds: int) -> float:
    """Print how long each takes, and return the median of the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder, "HOME": folder, "KUBECONFIG": str(server.kubeconfig)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        namespaces = Namespaces(server, Path(folder), example)
        ready = {name: [namespaces.take() for _ in range(rounds + 1)] for name in ("chronik", "kubectl")}

        def process(*command: str) -> None:
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

        def chronik() -> None:
            process(sys.executable, "-m", "chronik", "apply", "-f", str(ready["chronik"].pop()[0]))

        def kubectl_apply() -> None:
            process(kubectl, "apply", "--server-side", "--field-manager=x", "-f", str(ready["kubectl"].pop()[1]))

        again = namespaces.take()
        process(sys.executable, "-m", "chronik", "apply", "-f", str(again[0]))
        works: dict[str, Callable[[], Any]] = {
            "chronik apply": chronik,
            "kubectl apply --server-side": kubectl_apply,
            "chronik apply, nothing to do": lambda: process(
                sys.executable, "-m", "chronik", "apply", "-f", str(again[0])
            ),
            "limit: chronik --version": lambda: process(sys.executable, "-m", "chronik", "--version"),
        }
        samples = in_turns_of(rounds, works)
    what = f"one new cluster ({example.stem}), {namespaces.objects} objects, a namespace each"
    print(f"\nWhole processes, warm disk: {what}")
    for sample in samples.values():
        print(sample.span())
    pairs = zip(samples["chronik apply"].rounds, samples["kubectl apply --server-side"].rounds, strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    print(f"  chronik apply / kubectl apply --server-side: {median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    return median(ratios)


def main() -> None:
    """Measure, print, and hold against the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--example", default="production", help="a file of examples/, without .yaml")
    arguments = parser.parse_args()
    kubectl = real.find_binary("kubectl")
    if not real.available() or kubectl is None:
        print(f"\nchronik apply: not measured: {real.MISSING}, or no kubectl")
        judge([("chronik apply / kubectl apply", None, "<=", BUDGET)])
        return
    server = real.RealServer.start(audit=False)
    try:
        ratio = measure(server, kubectl, ROOT / "examples" / f"{arguments.example}.yaml", arguments.rounds)
    finally:
        server.stop()
    judge([("chronik apply / kubectl apply", ratio, "<=", BUDGET)])


if __name__ == "__main__":
    main()
