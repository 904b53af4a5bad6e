"""Requests as they are made, before anything is sent."""

from __future__ import annotations

import pytest

from chronik.kube.messages import RequestInfo
from chronik.kube.requests import apply_request, create_request, delete_request, merge_request
from chronik.manifest import KIND_BY_NAME

INFO = RequestInfo("ask", KIND_BY_NAME["ConfigMap"], "n", "a")
OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}

MADE = {
    "apply": lambda dry_run: apply_request(INFO, OBJECT, manager="me", force=False, dry_run=dry_run),
    "merge": lambda dry_run: merge_request(INFO, {"data": {}}, dry_run=dry_run),
    "delete": lambda dry_run: delete_request(
        INFO, uid=None, resource_version=None, propagation="Background", dry_run=dry_run
    ),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_only_a_dry_run_is_no_write(make):
    """A request writes, so that a guard may hold it back, unless the server is asked to keep nothing of it."""
    asked = make(dry_run=True)

    assert ("dryRun", "All") in asked.query or b'"dryRun":["All"]' in asked.body
    assert not asked.writes
    assert make(dry_run=False).writes


def test_a_creation_writes():
    """A creation is always a write: it has no dry run."""
    assert create_request(INFO, OBJECT).writes
