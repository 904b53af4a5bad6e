"""What kubectl reads: the second opinion on every YAML text that chronik writes, from another language."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from typing import Any

import pytest
from support.real_server import find_binary


@cache
def _path() -> str | None:
    return find_binary("kubectl")


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl without any cluster and return its output; skip the test where there is no kubectl."""
    path = _path()
    if path is None:
        pytest.skip("no kubectl found: set KUBEBUILDER_ASSETS to envtest's folder, or put it on PATH")
    command = [path, "--kubeconfig=/dev/null", *arguments]
    run = subprocess.run(command, input=stdin, capture_output=True, check=False, encoding="utf-8", timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def kubectl_reads(text: str) -> Any:
    """Return the object that kubectl reads out of one YAML document with an apiVersion, a kind and a name.

    Nothing knows its kind, so nothing but the parser and JSON decides what is in it. It comes back with an annotation.
    """
    return json.loads(kubectl("annotate", "--local", "-f", "-", "-o", "json", "read=yes", stdin=text))
