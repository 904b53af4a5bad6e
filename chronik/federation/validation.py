"""Hold a federation to more than its own schema says: each member has to get a valid ChronikCluster.

What is wrong with one is told where it stands in the federation: in the overrides that say it, else in the template.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from chronik.documents.writer import content_digest
from chronik.federation.document import OWN_ANNOTATIONS, federation_of, member_document, sent_document
from chronik.manifest import FEDERATION_KIND
from chronik.problem import Problem
from chronik.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronik.api.spec import Cluster
    from chronik.api.validation import Validated, Validator
    from chronik.federation.document import Federation
    from chronik.problem import Path

_TEMPLATE = ("spec", "template")


NOT_TAKEN = Problem(
    "error",
    "federation",
    ("kind",),
    f"a {FEDERATION_KIND} is for many Kubernetes clusters, and this command works on one",
    "`chronik render --output-dir out` writes what each member gets: name its folder here, such as out/east.",
)
"""What is said of a federation where only clusters are taken."""


class ValidFederation(NamedTuple):
    """A federation, the cluster of each member by its name, and its document as it was written, with its namespace."""

    federation: Federation
    clusters: dict[str, Cluster]
    document: Mapping[str, Any]


def check_federation(
    raw: Any,
    own: Validator,
    clusters: Validator,
    *,
    namespace: str | None = None,
    fallback: str = "default",
    stored: bool = False,
) -> tuple[ValidFederation | None, tuple[Problem, ...]]:
    """Return a federation, None if it is in error, and what there is to say of it.

    `own` is the validator of federations, `clusters` that of ChronikClusters. `namespace` is for a document that names
    none, and must not contradict one that does; without it that is the `fallback`. What is `stored` came from a server.
    """
    document, problems = own.check(raw, namespace=namespace, stored=stored)
    if document is None:
        return None, problems
    federation = federation_of(document, namespace or fallback)
    problems += tuple(_reserved(federation))
    problems += tuple(_same_place(federation))
    made: dict[str, Cluster] = {}
    found: dict[Problem, list[str]] = {}
    alike: dict[str, Validated] = {}
    for index, member in enumerate(federation.members):
        inner = member_document(federation, member)
        same = content_digest([member.at.cluster, inner["spec"]])  # of most members: that takes most of the time
        validated = alike[same] if same in alike else clusters.validate(inner)
        alike[same] = validated
        for problem in validated.problems:
            place = _place(problem.path, member.overrides, index)
            found.setdefault(problem._replace(path=place), []).append(member.name)
        if validated.cluster is not None:
            made[member.name] = replace(validated.cluster, namespace=member.at.namespace)
    problems += tuple(_worded(problem, names, len(federation.members)) for problem, names in found.items())
    if any(problem.severity == "error" for problem in problems):
        return None, problems
    written = {**raw, "metadata": {**raw["metadata"], "namespace": federation.namespace}}
    return ValidFederation(federation, made, written), problems


def documents(federation: Federation) -> dict[str, dict[str, Any]]:
    """Return what the hub sends to each member, by name, in the order in which they get a change."""
    return {each.name: sent_document(federation, each) for each in federation.ordered}


def _reserved(federation: Federation) -> list[Problem]:
    annotations = (federation.template.get("metadata") or {}).get("annotations") or {}
    return [
        Problem(
            "error",
            "annotation-reserved",
            (*_TEMPLATE, "metadata", "annotations", name),
            f"the annotation {name} is the hub's own",
            "Leave it out: the hub writes it.",
        )
        for name in OWN_ANNOTATIONS
        if name in annotations
    ]


def _same_place(federation: Federation) -> list[Problem]:
    """Return which members are one ChronikCluster once the defaults of namespace and name are known."""
    first: dict[tuple[object, ...], str] = {}
    problems = []
    for index, member in enumerate(federation.members):
        at = member.at
        named = at.secret or at.context or at.local
        place = (at.secret, at.context if named else member.name, at.local, at.namespace, at.cluster)
        if place in first:
            message = f"{member.name} is the same ChronikCluster as {first[place]}: {at.place} by the same kubeconfig"
            hint = "Give one of them a kubeconfig or a context of its own, or another namespace or cluster."
            problems.append(Problem("error", "member-twice", ("spec", "members", index), message, hint))
        first.setdefault(place, member.name)
    return problems


def _place(path: Path, overrides: Mapping[str, Any], index: int) -> Path:
    """Return where in the federation it stands what is at a path of a member's ChronikCluster."""
    if not path or path[0] != "spec":
        return (*_TEMPLATE, *path)
    inner: Any = overrides
    for length, step in enumerate(path[1:], start=1):
        if not isinstance(inner, dict) or step not in inner:
            return (*_TEMPLATE, *path) if length == 1 or isinstance(inner, dict) else _below(index, path)
        inner = inner[step]
    return _below(index, path) if len(path) > 1 else (*_TEMPLATE, *path)


def _below(index: int, path: Path) -> Path:
    return ("spec", "members", index, "overrides", *path[1:])


def _worded(problem: Problem, names: list[str], count: int) -> Problem:
    """Name the members that a problem is about, if it is not about all of them."""
    if len(names) == count and problem.path[:2] == _TEMPLATE:
        return problem
    return problem._replace(message=f"{problem.message} (member {listed(names)})")
