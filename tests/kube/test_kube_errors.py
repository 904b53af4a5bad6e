"""The classification of API errors, row by row, and the words for them; the cases are in api_refusals.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.stub_server import status

from chronik import errors
from chronik.errors import ApiError, ConflictError, FieldOwner
from chronik.kube import classify
from chronik.kube.checks.answers import read_status
from chronik.kube.classify import FAULTS, RULES, Classification, Reply, Retry, fail, refuse
from chronik.kube.messages import LONGEST_TEXT, RequestInfo, ServerInfo, redact
from chronik.manifest import CLUSTER, KIND_BY_NAME

WHERE = ServerInfo("https://10.0.0.1:6443", "kubeconfig /home/me/.kube/config, context dev")
SECRET = "hunter2-secret"
CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "api_refusals.yaml").read_text("utf-8"))


def about(about: str = "ConfigMap/kafka/x") -> RequestInfo:
    kind, namespace, name = about.split("/")
    return RequestInfo("patch", KIND_BY_NAME.get(kind, CLUSTER), namespace, name, secrets=(SECRET,))


def reply_of(case: dict[str, Any]) -> Reply:
    text = case["text"] if "text" in case else json.dumps(case["status"])
    return Reply(case["code"], text, case.get("retry_after"))


def refused(body: dict[str, Any], retry_after: float | None = None) -> Classification:
    return refuse(about(), Reply(body["code"], json.dumps(body), retry_after), WHERE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['code']} {case['rule']}")
def test_answer_becomes_the_error_of_its_row(case):
    """Every answer becomes the error, is retried, and is worded as its row says."""
    verdict = refuse(about(case.get("about", "ConfigMap/kafka/x")), reply_of(case), WHERE)

    assert (type(verdict.error).__name__, verdict.retry.name) == (case["error"], case["retry"])
    assert str(verdict.error) == case["says"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['code']} {case['rule']}")
def test_answer_is_decided_by_the_row_it_names(case):
    """A case is decided by the row that it names, not by another with the same outcome."""
    reply = reply_of(case)
    body = read_status(reply.text)
    answer = classify._answer(about(), reply, body)

    assert next(rule.name for rule in RULES if rule.matches(reply.code, body, answer)) == case["rule"]


def test_every_row_has_a_case():
    """No row of the table goes untested, and the cases are in the table's order, which matters."""
    assert list(dict.fromkeys(case["rule"] for case in CASES)) == [rule.name for rule in RULES]


def test_retry_classes_are_what_the_operator_plans_by():
    """What needs a person or a new spec is permanent, what nobody can tell is unknown, the rest goes by itself."""
    known = {rule.error for rule in RULES} | {error for error, _ in FAULTS.values()}
    named = {name: {one.__name__ for one in known if one.retry_class == name} for name in ("permanent", "unknown")}

    assert named["permanent"] == {"Forbidden", "AdmissionDenied", "InvalidObject", "FieldConflict", "UntrustedServer"}
    assert named["unknown"] == {"ApiError", "KindMissing"}


def test_every_error_class_is_used():
    """Each class of the tree is what some answer becomes; classes of other modules are their own affair."""
    known = {rule.error for rule in RULES} | {error for error, _ in FAULTS.values()}
    tree = {each for base in (ApiError, ConflictError) for each in base.__subclasses__()}

    assert {each for each in tree if each.__module__ == errors.__name__} <= known


@pytest.mark.parametrize(
    ("fault", "error", "retry"),
    [
        ("refused", errors.Unreachable, Retry.IF_REACHED_BEFORE),
        ("unknown host", errors.Unreachable, Retry.IF_REACHED_BEFORE),
        ("timeout", errors.Unreachable, Retry.AMBIGUOUS),
        ("cut", errors.Unreachable, Retry.AMBIGUOUS),
        ("certificate", errors.UntrustedServer, Retry.CREDENTIALS),
        ("tls", errors.UntrustedServer, Retry.CREDENTIALS),
        ("garbage", ApiError, Retry.AMBIGUOUS),
    ],
)
def test_no_answer_is_about_the_server(fault, error, retry):
    """An answer that never came is an error about the server, with the cause and what to check."""
    verdict = fail(about(), fault, "Connection refused", WHERE)

    assert (type(verdict.error), verdict.retry) == (error, retry)
    assert verdict.error.subject == WHERE.server
    assert "Connection refused" in verdict.error.message
    assert WHERE.origin in verdict.error.hint


def test_answer_carries_what_was_asked_and_why():
    """An error says in fields, not only in words, what was asked and what the server's causes are."""
    cause = {"reason": "FieldValueInvalid", "message": "too big", "field": "spec.x"}

    answer = refused(status(422, "Invalid", "no", causes=[cause])).error.answer

    assert (answer.verb, answer.resource, answer.code, answer.reason) == ("patch", "configmaps", 422, "Invalid")
    assert answer.causes == (errors.Cause("spec.x", "too big", "FieldValueInvalid"),)


def test_only_a_busy_server_pauses_the_whole_client():
    """A pause for everybody comes with 429 and 503; the Retry-After of a 504 is one request's own affair."""
    assert [refused(status(code), 7).pause for code in (429, 503, 504)] == [7, 7, None]


def test_retry_after_may_be_in_the_body():
    """The server's wish to be left alone also counts when it comes as details.retryAfterSeconds."""
    assert refused(status(429, "TooManyRequests", "slow down", retryAfterSeconds=3)).pause == 3


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ('conflict with "kubectl"', FieldOwner(".a", "kubectl")),
        ('conflict with "kubectl-edit" using apps/v1', FieldOwner(".a", "kubectl-edit", "Update")),
        ('conflict with "hpa" with subresource "scale"', FieldOwner(".a", "hpa", "Apply", "scale")),
        (
            'conflict with "hpa" with subresource "scale" using apps/v1 at 2026-11-24T21:30:09Z',
            FieldOwner(".a", "hpa", "Update", "scale"),
        ),
        ("something new", FieldOwner(".a", "something new")),
    ],
)
def test_conflict_names_the_owners(text, owner):
    """A field conflict says which field, whose it is, and whether that manager applied or updated it."""
    cause = {"reason": "FieldManagerConflict", "message": text, "field": ".a"}

    assert refused(status(409, "Conflict", "Apply failed", causes=[cause])).error.answer.owners == (owner,)


LEAKS = (
    f'.stringData.p: expected string, got &value.valueUnstructured{{Value:[]interface {{}}{{"{SECRET}"}}}}',
    f"ReadString: error found in #10 byte of ...|{SECRET}|..., bigger context ...|{SECRET}|...",
    f'Secret "x" is invalid: data[p]: Invalid value: "{SECRET}": nope',
)


@pytest.mark.parametrize("text", LEAKS)
@pytest.mark.parametrize("code", [400, 422, 500])
def test_secret_values_are_not_repeated(text, code):
    """A server that quotes a Secret's value back does not make us print it, nor keep it in the causes."""
    error = refused(status(code, "", text, causes=[{"message": text, "field": "data"}])).error

    assert SECRET not in str(error)
    assert SECRET not in repr(error.answer)


@pytest.mark.parametrize("text", LEAKS[:2])
def test_payloads_are_not_repeated_even_if_not_known_to_be_secret(text):
    """What the server quotes of a document while it fails to decode it is left out, whatever it is."""
    assert SECRET not in redact(text)


def test_long_texts_are_cut():
    """A long quoted value is cut, and so is a text without end."""
    assert redact('Invalid value: "' + "a" * 500 + '": must be short') == f'Invalid value: "{"a" * 60}…": must be short'
    assert len(redact("x " * 5000)) < LONGEST_TEXT + 40


@pytest.mark.parametrize(
    ("server", "hint"),
    [
        ("http://kube.example.com", "No credentials go over plain http://, but to this machine itself."),
        ("http://localhost:8001", "A token may have expired"),
        ("https://kube.example.com", "A token may have expired"),
    ],
)
def test_credentials_that_were_not_sent(server, hint):
    """Where no credentials went out, because they would have been read on the way, the refusal says so."""
    where = ServerInfo(server, "kubeconfig a, context b")
    anonymous = 'configmaps "x" is forbidden: User "system:anonymous" cannot get resource "configmaps" in API group ""'
    refusals = [status(401, "Unauthorized", "Unauthorized"), status(403, "Forbidden", anonymous)]
    said = [refuse(about(), Reply(each["code"], json.dumps(each)), where).error.hint for each in refusals]

    assert said[0].startswith(hint)
    assert ("over plain http" in said[1]) == ("over plain http" in hint)
