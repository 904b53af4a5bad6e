"""A laptop, CI and the API server accept and refuse the same documents, in the same words: asked of a real one.

Documents by the hundred, good and broken, go through chronik and, as a dry run, through kube-apiserver with the CRD and
the policy installed. Whatever the two disagree about is a bug in the schema, the rules, or how either is read.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from support.mistakes import INVALID, WARNINGS, Mistake
from support.spec_generator import TEXTS, Generator

from chronik.api.rules import RuleBook
from chronik.api.schema import Schema
from chronik.api.validation import Validator
from chronik.kube.requests import encode
from chronik.manifest import KIND_BY_NAME
from chronik.offline import assets
from chronik.offline.template_sets import template_reader
from chronik.plan.rotation import ANNOTATION
from chronik.problem import format_path
from chronik.render.cluster import render
from chronik.render.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api import ApiServer

pytestmark = pytest.mark.real

RAW = assets.schema()
SCHEMA = Schema(RAW)
BOOK = RuleBook(assets.rules_text())
WORDS = {rule.name: rule.words for rule in BOOK.rules}
LOCAL = {"backend": "local"}
COLLECTION = "/apis/chronik.stream/v1alpha1/namespaces/{}/chronikclusters"
DRY_RUN = "dryRun=All&fieldValidation=Strict"
NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
FEW, MANY = 150, 450
ENOUGH = 1 / 6
CANNOT_BE_SENT = "missing-name"  # the server looks at generateName first, which chronik cannot render


@dataclass(frozen=True)
class Verdict:
    """What one side says of a document; `spec` has the defaults in it, and `rules` are the words of broken rules."""

    accepted: bool
    warnings: frozenset[str]
    rules: frozenset[str]
    spec: Any
    why: str = ""


class Server:
    """A real API server, asked over one connection; unlike `ApiServer.call` it hears every warning."""

    def __init__(self, server: ApiServer) -> None:
        self.namespace = server.new_namespace()
        self._connection = server._connect()
        self._token = server.token
        self._wait_for_warnings()

    def send(
        self, method: str, path: str, body: Any, kind: str = "application/json"
    ) -> tuple[int, Any, frozenset[str]]:
        """Return the code, the answer and the texts of the warnings."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        content = encode(body) if kind.endswith("yaml") else json.dumps(body).encode()
        self._connection.request(method, path, content, headers)
        response = self._connection.getresponse()
        warnings = {_warning(text) for text in response.headers.get_all("Warning") or ()}
        answer = json.loads(response.read(), parse_int=_number)
        return response.status, answer, frozenset(warnings)

    def judge(self, document: dict[str, Any], old: dict[str, Any] | None = None) -> Verdict:
        """Return what the server would say of a document, or of one that replaces another."""
        path = COLLECTION.format(self.namespace) + (f"/{old['metadata']['name']}" if old else "")
        code, answer, warnings = self.send("PUT" if old else "POST", f"{path}?{DRY_RUN}", self._moved(document))
        if code in (HTTPStatus.OK, HTTPStatus.CREATED):
            return Verdict(True, warnings & {*WORDS.values()}, frozenset(), answer["spec"])
        assert code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY), answer
        said = [cause["message"] for cause in answer.get("details", {}).get("causes", ())]
        rules = frozenset(words for words in WORDS.values() if any(words in message for message in said))
        return Verdict(False, warnings, rules, None, answer["message"])

    def _moved(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return a document in this server's namespace, if the one it names is a namespace's name."""
        metadata = document.get("metadata")
        named = metadata.get("namespace") if isinstance(metadata, dict) else None
        if not isinstance(named, str) or not NAMESPACE.fullmatch(named):
            return document
        return {**document, "metadata": {**metadata, "namespace": self.namespace}}

    def create(self, document: dict[str, Any]) -> dict[str, Any]:
        """Really create a document, and return what the server made of it."""
        code, answer, _ = self.send("POST", COLLECTION.format(self.namespace), document)
        assert code == HTTPStatus.CREATED, answer
        return answer

    def _wait_for_warnings(self) -> None:
        """Wait until the policy is active, which takes a server a moment."""
        deadline = time.monotonic() + 30
        while not self.judge(named("wait", controllers=2)).warnings:
            assert time.monotonic() < deadline, "the server never warned: the policy is not active"
            time.sleep(0.1)


def _number(text: str) -> int | float:
    """Read an integer as Go does: what 64 bits do not hold is a float, of which the last digits say nothing."""
    number = int(text)
    return number if -(2**63) <= number < 2**63 else float(number)


def _warning(header: str) -> str:
    """Return the text of a Warning header, `299 - "Validation failed for …: text"`."""
    text = json.loads(header.split(" - ", 1)[1])
    return text.split("': ", 1)[-1] if text.startswith("Validation failed") else text


@pytest.fixture(scope="module")
def server(real_server: ApiServer) -> Iterator[Server]:
    asked = Server(real_server)
    yield asked
    asked._connection.close()


def named(name: str, **fields: Any) -> dict[str, Any]:
    connection = {"host": "postgres", "database": "chronik", "credentialsSecret": "chronik-postgres"}
    spec = {"storage": LOCAL, "metastore": {"connection": connection}, **fields}
    return {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": name},
        "spec": spec,
    }


def judge(document: dict[str, Any], old: dict[str, Any] | None = None) -> Verdict:
    """Return what chronik says of a document, in the form of a server's verdict."""
    admitted = SCHEMA.admit(document)
    broken = BOOK.check(admitted.document, skip=[problem.path for problem in admitted.problems], old=old)
    errors = [*admitted.problems, *(problem for problem in broken if problem.severity == "error")]
    warnings = frozenset(WORDS[problem.code] for problem in broken if problem.severity == "warning")
    why = "; ".join(f"{format_path(problem.path)}: {problem.message}" for problem in errors)
    if errors:
        rules = frozenset() if admitted.problems else frozenset(WORDS[problem.code] for problem in errors)
        return Verdict(False, warnings, rules, None, why)
    return Verdict(True, warnings, frozenset(), admitted.document["spec"])


def disagreement(ours: Verdict, theirs: Verdict) -> str | None:
    """Say what the two differ in. Rules are compared where types are right, warnings where nothing is wrong."""
    if ours.accepted != theirs.accepted:
        return f"chronik: {ours.why or 'fine'}; server: {theirs.why or 'fine'}"
    if ours.accepted and ours.warnings != theirs.warnings:
        return f"warnings differ: {set(ours.warnings)} and {set(theirs.warnings)}"
    if ours.spec != theirs.spec:
        return f"defaults differ: {ours.spec} and {theirs.spec}"
    if ours.rules and ours.rules != theirs.rules:
        return f"words differ: {set(ours.rules)} and {set(theirs.rules)}"
    return None


def as_kubectl_sends(value: Any) -> Any:
    """Write whole floats as integers, as every client written in Go does."""
    if isinstance(value, dict):
        return {key: as_kubectl_sends(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_kubectl_sends(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def differences(server: Server, documents: Iterator[dict[str, Any]]) -> tuple[list[str], list[bool]]:
    """Return what chronik and the server disagree about, and chronik's verdicts."""
    found, accepted = [], []
    for document in documents:
        ours = judge(document)
        accepted.append(ours.accepted)
        difference = disagreement(ours, server.judge(as_kubectl_sends(document)))
        if difference:
            found.append(f"{difference}\n{json.dumps(document)}")
    return found, accepted


@pytest.mark.parametrize(
    ("seed", "count"),
    [(1, FEW), pytest.param(1, MANY, marks=pytest.mark.slow), pytest.param(2, MANY, marks=pytest.mark.slow)],
)
def test_generated_documents(server: Server, seed: int, count: int):
    """Hundreds of documents get the same verdict, words, warnings and defaults from chronik and from the server."""
    found, accepted = differences(server, Generator(RAW, BOOK, seed).documents(count))

    assert found == []
    assert min(accepted.count(True), accepted.count(False)) / len(accepted) >= ENOUGH, "the generator is out of balance"


@pytest.mark.parametrize(
    ("seed", "count"),
    [
        (11, FEW),
        pytest.param(11, 600, marks=pytest.mark.slow),
        pytest.param(12, 6000, marks=pytest.mark.slow),
        pytest.param(13, 6000, marks=pytest.mark.slow),
    ],
)
def test_generated_metadata_and_status(server: Server, seed: int, count: int):
    """Documents with metadata and status, good and broken ones, get the same verdict from chronik and the server."""
    found, accepted = differences(server, Generator(RAW, BOOK, seed).whole_documents(count))

    assert found == []
    assert min(accepted.count(True), accepted.count(False)) / len(accepted) >= ENOUGH, "the generator is out of balance"


@pytest.mark.parametrize(
    ("seed", "count"),
    [
        (21, FEW),
        pytest.param(21, 600, marks=pytest.mark.slow),
        pytest.param(22, 6000, marks=pytest.mark.slow),
        pytest.param(23, 6000, marks=pytest.mark.slow),
    ],
)
def test_documents_with_nearly_good_metadata(server: Server, seed: int, count: int):
    """Documents of which one character of good metadata was changed get the same verdict from both."""
    found, accepted = differences(server, Generator(RAW, BOOK, seed).nearly_good_metadata(count))

    assert found == []
    assert min(accepted.count(True), accepted.count(False)) / len(accepted) >= ENOUGH, "the generator is out of balance"


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(
            lambda text: {"network": {"serviceType": "LoadBalancer", "loadBalancerSourceRanges": [text]}}, id="network"
        ),
        pytest.param(lambda text: {"resources": {"ingest": {"cpu": text, "cpuLimit": "1"}}}, id="quantity"),
        pytest.param(lambda text: {"image": {"controller": text}}, id="image"),
        pytest.param(lambda text: {"podLabels": {text: text}}, id="label"),
        pytest.param(lambda text: {"podAnnotations": {text: text}}, id="annotation"),
        pytest.param(lambda text: {"monitoring": {"otlpEndpoint": text}}, id="url"),
        pytest.param(lambda text: {"podDisruptionBudget": {"minAvailable": text}}, id="percentage"),
    ],
)
def test_hostile_texts(server: Server, fields: Any, every: int):
    """The texts of the pool get the same verdict in a field of each sort."""
    found, _ = differences(server, (named("texts", **fields(text)) for text in TEXTS[::every]))

    assert found == []


@pytest.mark.parametrize("mistake", [m for m in (*INVALID, *WARNINGS) if m.name != CANNOT_BE_SENT], ids=str)
def test_mistakes(server: Server, mistake: Mistake):
    """Each mistake of `invalid/` is refused by the server, and each of `warnings/` warned of, as chronik does."""
    assert disagreement(judge(mistake.document), server.judge(mistake.document)) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (LOCAL, {**LOCAL, "size": "10240Mi"}),
        (LOCAL, {**LOCAL, "size": "9.99Gi"}),
        (LOCAL, {**LOCAL, "size": "20Gi"}),
        ({**LOCAL, "size": 2**30}, {**LOCAL, "size": "1G"}),
        ({**LOCAL, "size": 2**30}, {**LOCAL, "size": "1Gi"}),
        (LOCAL, {"backend": "gcs", "gcs": {"bucket": "data"}}),
        ({"backend": "gcs", "gcs": {"bucket": "data"}}, {**LOCAL, "size": "1Gi"}),
    ],
)
def test_transitions(server: Server, before: dict[str, Any], after: dict[str, Any], request: pytest.FixtureRequest):
    """A change of a live cluster is judged alike by both."""
    name = f"change-{request.node.callspec.indices['before']}"
    old = server.create(named(name, storage=before))
    new = {
        **named(name, storage=after),
        "metadata": {"name": name, "resourceVersion": old["metadata"]["resourceVersion"]},
    }

    assert disagreement(judge(new, old=old), server.judge(new, old=old)) is None


ROOM = 260_000 - len("a")


@pytest.mark.parametrize(
    ("annotations", "fits"),
    [
        ({"a": "x" * ROOM}, True),
        ({"a": "x" * (ROOM + 1)}, False),
        ({"a": "é" * (ROOM // 2)}, True),
        ({"a": "é" * (ROOM // 2 + 1)}, False),
        ({"a": "x" * (ROOM - 10), "b": "x" * 9}, True),
        ({"a": "x" * (ROOM - 10), "b": "x" * 10}, False),
        ({str(number): "x" * 4000 for number in range(64)}, True),
        ({str(number): "x" for number in range(65)}, False),
    ],
    ids=range(8),
)
def test_large_annotations(server: Server, annotations: dict[str, str], fits: Any):
    """Pods may have annotations as large as Kubernetes takes, less a little for chronik's own; both agree on that."""
    document = named("large", podAnnotations=annotations)
    verdict = judge(document)

    assert verdict.accepted is fits
    assert disagreement(verdict, server.judge(document)) is None


def test_rendered_objects_are_accepted_with_the_largest_annotations(server: Server):
    """The largest annotations that are valid make pods that the server takes, with all that chronik adds to them."""
    document = named("large", podAnnotations={"a": "x" * ROOM}, monitoring={"prometheus": True})
    cluster = Validator(SCHEMA, BOOK).validate(document, namespace=server.namespace).cluster
    assert cluster
    for manifest in render(cluster, Templates(template_reader())):
        if "template" in manifest.get("spec", {}):
            added = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T12:00:00Z", ANNOTATION: "0" * 64}
            manifest["spec"]["template"]["metadata"]["annotations"] |= added
        code, answer, _ = server.send("PATCH", apply_path(manifest), manifest, "application/apply-patch+yaml")
        assert code == HTTPStatus.CREATED, answer


@pytest.mark.parametrize("documents", [50, pytest.param(FEW, marks=pytest.mark.slow)])
def test_rendered_objects_are_accepted(server: Server, documents: int):
    """Whatever is rendered from a valid document is accepted by the server: nothing passes here to fail later."""
    validator, templates = Validator(SCHEMA, BOOK), Templates(template_reader())
    refused, count = [], 0
    for document in Generator(RAW, BOOK, seed=3).documents(documents):
        cluster = validator.validate(document, namespace=server.namespace).cluster
        for manifest in render(cluster, templates) if cluster else ():  # without patches, which fit nothing by chance
            if manifest["kind"] in {"ServiceMonitor", "PodMonitor"}:  # which the server does not have
                continue
            code, answer, _ = server.send("PATCH", apply_path(manifest), manifest, "application/apply-patch+yaml")
            count += 1
            if code not in (HTTPStatus.OK, HTTPStatus.CREATED):
                refused.append(f"{answer['message']}\n{json.dumps(document)}")

    assert refused == []
    assert count > documents / 2


def apply_path(manifest: dict[str, Any]) -> str:
    kind, metadata = KIND_BY_NAME[manifest["kind"]], manifest["metadata"]
    root = "api" if "/" not in kind.api_version else "apis"
    place = f"/{root}/{kind.api_version}/namespaces/{metadata['namespace']}/{kind.plural}/{metadata['name']}"
    return f"{place}?{DRY_RUN}&fieldManager=test&force=true"
