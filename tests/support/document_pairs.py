"""Pairs of documents of one cluster, the second with some changes: what tests of changes feed on."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from support.spec_generator import Generator

from chronik.api.rules import RuleBook
from chronik.errors import InputError
from chronik.offline import assets
from chronik.offline import loading as offline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_CHANGES, MOST_NODES = 4, 12
GROWING = 0.2
"""How often volumes are asked to grow, and nothing else is done about storage."""
PATCHES: list[dict[str, Any]] = [
    {"target": {"kind": kind, "component": "ingest"}, "patch": patch}
    for kind, patch in (
        ("StatefulSet", {"spec": {"template": {"spec": {"priorityClassName": "streaming"}}}}),
        ("StatefulSet", {"spec": {"template": {"spec": {"schedulerName": "default-scheduler"}}}}),  # the default
        ("StatefulSet", {"spec": {"template": {"spec": {"volumes": [{"name": "more", "emptyDir": {}}]}}}}),
        ("StatefulSet", {"spec": {"template": {"spec": {"containers": [{"name": "more", "image": "more"}]}}}}),
        ("StatefulSet", [{"op": "add", "path": "/spec/revisionHistoryLimit", "value": 10}]),  # the default
        ("Service", {"metadata": {"annotations": {"example.com/name": "a"}}}),
        ("Service", {"spec": {"sessionAffinity": "None"}}),  # the default
    )
]
"""What no field of the spec says; some of it is what a server fills in anyway."""


@dataclass(frozen=True)
class Pair:
    """Two documents of one cluster, both valid, in files of their own."""

    old: str
    new: str

    @property
    def cluster(self) -> Any:
        """The cluster as the old document describes it."""
        return offline.load_clusters([self.old])[0][0]


def pairs(count: int, namespace: str, folder: Path, seed: int = 0) -> Iterator[Pair]:
    """Yield pairs of documents: the second has some of the first's fields set to what a third document says."""
    random = Random(seed)
    rules = RuleBook(assets.rules_text())
    made = 0
    while made < count:
        old, other = (Generator(assets.schema(), rules, random.getrandbits(32)).good() for _ in range(2))
        old["spec"]["patches"] = random.sample(PATCHES, random.randint(0, 2))
        other["spec"]["patches"] = random.sample(PATCHES, random.randint(0, 2))
        new = copy.deepcopy(old)
        for key in random.sample(sorted(other["spec"]), min(len(other["spec"]), random.randint(1, MOST_CHANGES))):
            new["spec"][key] = other["spec"][key]
        if random.random() < GROWING:
            new["spec"]["storage"] = old["spec"]["storage"] | {"size": "64Ti"}
        for document in (old, new):
            document["spec"].pop("bootstrap", None)  # what recovers is applied by an operator only
            for component in document["spec"].get("components", {}).values():
                component.get("service", {}).pop("nodePort", None)  # which ports there are is the server's setting
            external = document["spec"].get("network", {}).get("external", {})
            external |= {"firstNodePort": 31000} if "firstNodePort" in external else {}  # likewise
            counts = document["spec"].keys() & {"controllers", "ingestNodes", "searchNodes"}
            document["spec"] |= {key: min(document["spec"][key], MOST_NODES) for key in counts}
        files = [folder / f"{made}-{side}.yaml" for side in ("old", "new")]
        for file, document in zip(files, (old, new), strict=True):
            document["metadata"] = {"name": f"c{made}", "namespace": namespace}
            file.write_text(json.dumps(document))
        if new != old and not any(_is_wrong(file) for file in files):
            made += 1
            yield Pair(*map(str, files))


def _is_wrong(file: Path) -> bool:
    """Return whether a document has errors, or patches what it does not have."""
    clusters, problems = offline.check([str(file)])
    try:
        offline.render_clusters(clusters)
    except InputError:
        return True
    return any(problem.severity == "error" for problem in problems)
