"""Hold a document to the schema and the rules, and make it a typed cluster: one verdict everywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.api.spec import Cluster
from chronik.manifest import API_VERSION, CLUSTER_KIND
from chronik.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.rules import RuleBook
    from chronik.api.schema import Schema
    from chronik.api.spec import ClusterSpec


class Validated(NamedTuple):
    """What became of one document: a cluster if it is valid, and what there is to say about it."""

    cluster: Cluster | None
    problems: tuple[Problem, ...]


class Validator:
    """The schema and the rule book together: what a ChronikCluster document may say."""

    def __init__(self, schema: Schema, rules: RuleBook) -> None:
        self._schema = schema
        self.rules = rules

    def validate(
        self,
        raw: Any,
        *,
        namespace: str | None = None,
        fallback: str = "default",
        old: Mapping[str, Any] | None = None,
    ) -> Validated:
        """Check one document and make it a cluster, or say everything that is wrong with it.

        `namespace` is for a document that names none, and must not contradict one that does; without it that is the
        `fallback`. `old` is the document that this one replaces, if there is one: transition rules compare the two.
        """
        stranger = _not_a_cluster(raw)
        if stranger:
            return Validated(None, (stranger,))
        admitted = self._schema.admit(raw)
        broken = [problem.path for problem in admitted.problems]
        problems = (*admitted.problems, *self.rules.check(admitted.document, skip=broken, old=old))
        metadata = admitted.document["metadata"] if not broken else {}
        declared = metadata.get("namespace")
        if declared and namespace and declared != namespace:
            problems += (_other_namespace(declared, namespace),)
        if any(problem.severity == "error" for problem in problems):
            return Validated(None, problems)
        spec: ClusterSpec = self._schema.completed_spec(admitted.document["spec"])
        return Validated(_cluster(metadata, declared or namespace or fallback, spec), problems)


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's copy of the whole document, which is no annotation of the user's."""


def _cluster(metadata: Mapping[str, Any], namespace: str, spec: ClusterSpec) -> Cluster:
    annotations = {key: text for key, text in (metadata.get("annotations") or {}).items() if key != _LAST_APPLIED}
    labels = metadata.get("labels") or {}
    uid = metadata.get("uid")
    return Cluster(metadata["name"], namespace, spec, uid, labels=labels, annotations=annotations)


def _not_a_cluster(raw: Any) -> Problem | None:
    """Say in one sentence that a document is something else; its every field would be wrong otherwise."""
    if not isinstance(raw, dict):
        return Problem("error", "type", (), "a document must be a map that begins with apiVersion and kind")
    for key, wanted in (("kind", CLUSTER_KIND), ("apiVersion", API_VERSION)):
        found = raw.get(key)
        if found != wanted:
            what = f"not {json.dumps(found)}" if key in raw else "and is missing"
            return Problem("error", key, (key,) if key in raw else (), f"{key} must be {wanted}, {what}")
    return None


def _other_namespace(declared: str, namespace: str) -> Problem:
    message = f"the document says namespace {declared}, and --namespace says {namespace}"
    return Problem("error", "namespace", ("metadata", "namespace"), message, hint="Leave one of the two out.")
