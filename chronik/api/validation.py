"""Hold a document to the schema and the rules, and make it a typed cluster, with the same result everywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chronik.api.spec import Cluster
from chronik.manifest import API_VERSION, BACKUP_KIND, CLUSTER_KIND, FEDERATION_KIND
from chronik.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronik.api.rules import RuleBook
    from chronik.api.schema import Schema
    from chronik.api.spec import ClusterSpec

Concern = Literal["cluster", "backup", "federation", "object", "data"]
"""What a document is to chronik: to be read as one of its kinds, another API's object, or no Kubernetes object."""

_GROUP = API_VERSION.partition("/")[0]
_OTHERS: dict[str, Concern] = {BACKUP_KIND: "backup", FEDERATION_KIND: "federation"}
_OBJECT_KEYS = {"apiVersion", "kind", "metadata", "spec"}
_ALIKE = 0.8
"""From which likeness on, of 1, a name is a slip of the hand: `chronik.streams` is 0.97, `kafka.stream` 0.62."""


class Validated(NamedTuple):
    """What became of one document: a cluster if it is valid, and what there is to say about it."""

    cluster: Cluster | None
    problems: tuple[Problem, ...]


class Validator:
    """The schema and the rule book together: what a document of one kind may say, a ChronikCluster by default."""

    def __init__(self, schema: Schema, rules: RuleBook, kind: str = CLUSTER_KIND) -> None:
        self._schema = schema
        self._kind = kind
        self.rules = rules

    def validate(
        self,
        raw: Any,
        *,
        namespace: str | None = None,
        fallback: str = "default",
        old: Mapping[str, Any] | None = None,
        stored: bool = False,
    ) -> Validated:
        """Check one document and make it a cluster, or say everything that is wrong with it.

        `namespace` is for a document that names none, and must not contradict one that does; without it that is the
        `fallback`. `old` is the document that this one replaces, if there is one: transition rules compare the two. A
        document that is `stored` came from the API server, which has checked more than its spec.
        """
        document, problems = self.check(raw, namespace=namespace, old=old, stored=stored)
        if document is None:
            return Validated(None, problems)
        metadata = document["metadata"]
        spec: ClusterSpec = self._schema.completed_spec(document["spec"])
        return Validated(_cluster(metadata, metadata.get("namespace") or namespace or fallback, spec), problems)

    def check(
        self,
        raw: Any,
        *,
        namespace: str | None = None,
        old: Mapping[str, Any] | None = None,
        stored: bool = False,
    ) -> tuple[dict[str, Any] | None, tuple[Problem, ...]]:
        """Return a document with its defaults, None if it is in error, and what there is to say; as `validate`."""
        mistaken = _type_problems(raw, self._kind)
        if mistaken:
            return None, mistaken
        admitted = self._schema.admit(raw, stored=stored)
        broken = [problem.path for problem in admitted.problems]
        problems = (*admitted.problems, *self.rules.check(admitted.document, skip=broken, old=old))
        metadata = admitted.document["metadata"] if not broken else {}
        declared = metadata.get("namespace")
        if declared and namespace and declared != namespace:
            problems += (_other_namespace(declared, namespace),)
        if not broken:
            spec = admitted.document.get("spec")
            problems += (*_itself(metadata, spec), *_idle_values(spec))
        if any(problem.severity == "error" for problem in problems):
            return None, problems
        return admitted.document, problems

    def without_defaults(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a valid document without the fields that the API server would fill in."""
        found: dict[str, Any] = self._schema.without_defaults(document)
        return found

    def transition(self, cluster: Cluster, old: Mapping[str, Any]) -> tuple[Problem, ...]:
        """Return the errors of a valid cluster that come from what it replaces, the live document `old`, alone."""
        metadata = {"name": cluster.name, "namespace": cluster.namespace}
        raw = {"apiVersion": API_VERSION, "kind": CLUSTER_KIND, "metadata": metadata, "spec": cluster.spec}
        document = self._schema.admit(raw).document
        alone = self.rules.check(document)
        both = self.rules.check(document, old=self._schema.admit(old).document)
        return tuple(each for each in both if each.severity == "error" and each not in alone)


def _itself(metadata: Mapping[str, Any], spec: Any) -> Iterator[Problem]:
    """Yield that a source is called as the cluster itself is, which no rule sees: rules do not know metadata."""
    replication = spec.get("replication")
    if not replication or replication.get("alias"):
        return
    for index, source in enumerate(replication["sources"]):
        if source["name"] == metadata["name"]:
            message = f"a source must not be called as this cluster itself is, which is {metadata['name']}"
            hint = "Give this cluster another name for replication: write spec.replication.alias."
            yield Problem("error", "source-is-itself", ("spec", "replication", "sources", index, "name"), message, hint)


def _idle_values(spec: Any) -> Iterator[Problem]:
    """Yield what means nothing, of the sections that can have such values."""
    if any(spec.get(section) for section in ("rollout", "backup", "replication")):
        from chronik.api.mistakes.idle_values import idle_values  # noqa: PLC0415  # few documents have one

        yield from idle_values(spec)


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's copy of the whole document, which is no annotation of the user's."""


def _cluster(metadata: Mapping[str, Any], namespace: str, spec: ClusterSpec) -> Cluster:
    annotations = {key: text for key, text in (metadata.get("annotations") or {}).items() if key != _LAST_APPLIED}
    labels = metadata.get("labels") or {}
    uid = metadata.get("uid")
    return Cluster(metadata["name"], namespace, spec, uid, labels=labels, annotations=annotations)


def concern(raw: Any) -> Concern:
    """Return what a document is to chronik, by its apiVersion and kind.

    One that lacks either, or whose kind or group is nearly a ChronikCluster's, is read as one, so that a slip of the
    hand is an error and not another API's object.
    """
    if isinstance(raw, list):  # of operations of a JSON patch, for one
        return "cluster" if any(isinstance(item, dict) and _OBJECT_KEYS & {*item} for item in raw) else "data"
    if not isinstance(raw, dict):
        return "cluster"
    if not _OBJECT_KEYS & {*raw}:
        return "data"
    other = _OTHERS.get(str(raw.get("kind")))
    if other and str(raw.get("apiVersion")).partition("/")[0] == _GROUP:
        return other
    typed = all(isinstance(raw.get(key), str) and raw[key] for key in ("kind", "apiVersion"))
    return "object" if typed and not _is_meant(raw) and not _has_clusters(raw) else "cluster"


def _is_meant(raw: Any) -> bool:
    """Return whether a document is a ChronikCluster, or was meant to be one."""
    if not isinstance(raw, dict):
        return False
    kind, version = str(raw.get("kind")), str(raw.get("apiVersion"))
    return _is_like(kind, CLUSTER_KIND) or _is_like(version.partition("/")[0], _GROUP)


def _has_clusters(raw: Mapping[str, Any]) -> bool:
    """Return whether a document is a list, of a kind that is not taken apart, with ChronikClusters in it."""
    items = raw.get("items")
    return isinstance(items, list) and any(map(_is_meant, items))


def _is_like(found: str, wanted: str) -> bool:
    """Return whether a name was meant to be another one."""
    if found == wanted:
        return True
    from difflib import SequenceMatcher  # noqa: PLC0415  # documents that are ChronikClusters do not pay for it

    matcher = SequenceMatcher(None, found.casefold(), wanted.casefold())
    return matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE


def _type_problems(raw: Any, kind: str) -> tuple[Problem, ...]:
    """Say that a document is something else, and no more; its every field would be wrong otherwise."""
    if not isinstance(raw, dict):
        return (Problem("error", "type", (), "a document must be a map that begins with apiVersion and kind"),)
    wanted = {"kind": kind, "apiVersion": API_VERSION}
    return tuple(_wrong_type(raw, key, value) for key, value in wanted.items() if raw.get(key) != value)


def _wrong_type(raw: Mapping[str, Any], key: str, wanted: str) -> Problem:
    if key not in raw:
        return Problem("error", key, (), f"{key} must be {wanted}, and is missing", f"Add {key}: {wanted}.")
    found = raw[key]
    near = isinstance(found, str) and _is_like(found, wanted)
    hint = f"Did you mean {wanted}?" if near else ""
    if key == "kind" and _has_clusters(raw):
        hint = "A list of ChronikClusters has kind: List and apiVersion: v1."
    return Problem("error", key, (key,), f"{key} must be {wanted}, not {json.dumps(found)}", hint)


def _other_namespace(declared: str, namespace: str) -> Problem:
    message = f"the document says namespace {declared}, and --namespace says {namespace}"
    return Problem("error", "namespace", ("metadata", "namespace"), message, hint="Leave one of the two out.")
