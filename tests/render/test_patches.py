"""`spec.patches`, case by case: tests/render/patches has a file each, and a new case is a new file.

A file says in its first line what it shows; then the patches of a small cluster, and either what its objects have then
(`has`: values by path, null if there is none; `differs`: what is not as without the patches) or the error and its hint.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clusters import small_cluster
from support.patches_of import json_patch as operations_of
from support.real_server import find_binary

from chronik.errors import PatchError
from chronik.manifest import ObjectRef, lasting_name
from chronik.offline import loading
from chronik.problem import format_path
from chronik.render.patches import OperationError, json_patch

PATCHES = int(os.environ.get("CHRONIK_PATCHES", "25"))
"""How many JSON Patches are compared with kubectl's, at 60 ms each."""
CASES = sorted((Path(__file__).parent / "patches").glob("*.yaml"))


def rendered(patches: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the objects of a small cluster with patches, named, and mounted, as in all their versions."""
    made = loading.renderer()(small_cluster(patches=copy.deepcopy(patches)))
    text = json.dumps(made)
    for each in made:
        text = text.replace(json.dumps(each["metadata"]["name"]), json.dumps(lasting_name(each)))
    return {str(ObjectRef.of(each)): each for each in json.loads(text)}


def at(value: Any, path: str) -> Any:
    r"""Return the value at a path such as `a.b[name=x].c`; `\.` is a point in a key."""
    for part in re.findall(r"\[[^\]]+\]|(?:\\.|[^.\[])+", path):
        if part.startswith("["):
            key, _, wanted = part[1:-1].partition("=")
            value = next((item for item in value or () if str(item.get(key)) == wanted), None)
        else:
            value = (value or {}).get(part.replace("\\", ""))
    return value


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_patches(path: Path) -> None:
    """Each case has what its file says, or fails in the words of its file."""
    case = yaml.safe_load(path.read_text())
    if "error" in case:
        with pytest.raises(PatchError) as caught:
            rendered(case["patches"])
        assert f"{format_path(caught.value.path)}: {caught.value.message}" == case["error"]
        assert caught.value.hint == case["hint"]
        return
    objects, plain = rendered(case["patches"]), rendered([])
    for name, values in case["has"].items():
        assert {each: at(objects[name], each) for each in values} == values
    for name, each in case.get("differs", {}).items():
        assert at(objects[name], each) != at(plain[name], each)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_case_says_what_it_shows(path: Path) -> None:
    """Each file begins with a sentence."""
    assert re.match(r"# [A-Z$ac].*\.\n", path.read_text())


def test_without_patches_nothing_is_loaded() -> None:
    """A cluster without patches needs neither the table of fields nor the library for JSON Patch."""
    render = loading.renderer()
    loading.assets.kubernetes_fields.cache_clear()

    render(small_cluster())

    assert loading.assets.kubernetes_fields.cache_info().currsize == 0


def test_kubectl_agrees(tmp_path: Path) -> None:
    """What a JSON Patch makes of an object, or that it does not fit, is what `kubectl patch --type=json` finds.

    But for one thing: kubectl replaces and copies a key that is not there, which RFC 6902 forbids.
    """
    kubectl = find_binary("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl to compare with")
    objects = [
        {**each, "apiVersion": "example.com/v1", "kind": "Thing"}  # so that kubectl holds it to no type
        for each in loading.renderer()(small_cluster(searchNodes=2))
        if "spec" in each
    ]
    file = tmp_path / "object.json"
    fitting = 0
    for seed in range(PATCHES):
        chance = random.Random(seed)
        original = chance.choice(objects)
        operations = operations_of(chance, original)
        file.write_text(json.dumps(original))
        command = [kubectl, "patch", "--local", "-f", file, "--type=json", "-p", json.dumps(operations), "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            made = json_patch(original, operations)
        except OperationError as error:
            made = None
            if operations[error.place]["op"] in {"replace", "copy"}:
                continue
        assert made == (None if done.returncode else json.loads(done.stdout)), (seed, operations)
        fitting += made is not None
    assert fitting > PATCHES / 2


GUIDE = (Path(__file__).parents[2] / "docs" / "patches.md").read_text()
EXAMPLES = [yaml.safe_load(each)["spec"] for each in re.findall(r"```yaml\n(spec:.*?)```", GUIDE, re.DOTALL)]


@pytest.mark.parametrize("spec", EXAMPLES, ids=range(len(EXAMPLES)))
def test_patches_of_the_guide(spec: dict[str, Any]) -> None:
    """Each patch that docs/patches.md shows fits, and changes something."""
    render = loading.renderer()
    plain = {key: value for key, value in spec.items() if key != "patches"}

    assert render(small_cluster("events", **spec)) != render(small_cluster("events", **plain))
