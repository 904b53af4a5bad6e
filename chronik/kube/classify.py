"""What went wrong between us and the API server, as one table: which error it is, and whether to send it again.

Pure. `refuse` classifies an answer that is no success, `fail` one that never came; their words are in `messages`. The
first row of `RULES` that matches decides, and each row has its test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from chronik import errors
from chronik.errors import Answer, ApiError, Cause, ConflictError, FieldOwner
from chronik.kube.checks.answers import read_status
from chronik.kube.messages import ServerInfo, redact, word

if TYPE_CHECKING:
    from chronik.kube.messages import RequestInfo

ErrorType = type[ApiError | ConflictError]
ANY = range(1000)


class Retry(Enum):
    """When a request may be sent again by itself."""

    NEVER = "never"
    UNPROCESSED = "the server did nothing with it: any request may be repeated"
    AMBIGUOUS = "it may have been done: only an idempotent request may be repeated"
    CONFLICT = "somebody else was faster: an idempotent request without a precondition may be repeated, a few times"
    CREDENTIALS = "once, after the credentials were read again"
    IF_REACHED_BEFORE = "the server was there and is away: any request may be repeated; else the address is wrong"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: its status code, its body as text, and the seconds of its Retry-After."""

    code: int
    text: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Classification:
    """What to raise, if not to be tried again; `pause` is how long the server wants the whole client to wait."""

    error: ApiError | ConflictError
    retry: Retry
    pause: float | None = None


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One row: all that is given must match. `text` is searched in the message, `cause` is one of details.causes."""

    name: str
    codes: range | tuple[int, ...]
    error: ErrorType
    retry: Retry = Retry.NEVER
    text: str = ""
    reason: str = ""
    cause: str = ""
    with_retry_after: bool = False

    def matches(self, code: int, status: dict[str, Any], answer: Answer) -> bool:
        """Return whether this row matches an answer."""
        return (
            code in self.codes
            and (not self.reason or self.reason == answer.reason)
            and (not self.cause or any(cause.reason == self.cause for cause in answer.causes))
            and (not self.with_retry_after or answer.retry_after is not None)
            and (not self.text or re.search(self.text, status.get("message", "")) is not None)
        )


RULES: tuple[ErrorRule, ...] = (
    ErrorRule("webhook silent", ANY, errors.WebhookUnavailable, Retry.AMBIGUOUS, text=r"failed calling webhook"),
    ErrorRule(
        "conversion silent", ANY, errors.WebhookUnavailable, Retry.AMBIGUOUS, text=r"conversion webhook for .* failed"
    ),
    ErrorRule("webhook denies", ANY, errors.AdmissionDenied, text=r"admission webhook .* denied the request"),
    ErrorRule("policy denies", ANY, errors.AdmissionDenied, text=r"AdmissionPolicy .* denied request"),
    ErrorRule("pod security denies", (403,), errors.AdmissionDenied, text=r"violates PodSecurity"),
    ErrorRule("credentials refused", (401,), errors.Unauthorized, Retry.CREDENTIALS),
    ErrorRule("quota used up", (403,), errors.QuotaExceeded, text=r"exceeded quota"),
    ErrorRule("quota not known yet", (403,), errors.QuotaExceeded, text=r"status unknown for quota"),
    ErrorRule("namespace going", (403,), errors.NamespaceTerminating, cause="NamespaceTerminating"),
    ErrorRule(
        "namespace going, old servers", (403,), errors.NamespaceTerminating, text=r"because it is being terminated"
    ),
    ErrorRule("forbidden", (403,), errors.Forbidden),
    ErrorRule("namespace missing", (404,), errors.NamespaceMissing, text=r'^namespaces "[^"]*" not found'),
    ErrorRule("group missing", (404,), errors.KindMissing, text=r"^404 page not found"),
    ErrorRule("kind missing", (404,), errors.KindMissing, text=r"could not find the requested resource"),
    ErrorRule("object missing", (404,), errors.ObjectMissing),
    ErrorRule("fields owned by others", (409,), errors.FieldConflict, cause="FieldManagerConflict"),
    ErrorRule("exists", (409,), errors.AlreadyExists, Retry.CONFLICT, reason="AlreadyExists"),
    ErrorRule("changed", (409,), errors.ObjectChanged, Retry.CONFLICT),
    ErrorRule("replaced", (422,), errors.ObjectChanged, text=r"metadata\.uid: Invalid value: .* field is immutable"),
    ErrorRule("version too old", (410,), errors.WatchExpired),
    ErrorRule("too many requests", (429,), errors.ServerBusy, Retry.UNPROCESSED),
    ErrorRule("unavailable for a while", (503,), errors.ServerBusy, Retry.UNPROCESSED, with_retry_after=True),
    ErrorRule("unavailable", (503,), errors.ServerBusy, Retry.AMBIGUOUS),
    # Server-side apply answers 500 to a field that the schema does not have: not a failure of the server.
    ErrorRule("field not in schema", (500,), errors.InvalidObject, text=r"^failed to create typed (patch|live) object"),
    ErrorRule("value not decodable", (500,), errors.InvalidObject, text=r"^failed to convert new object"),
    ErrorRule("server failure", range(500, 600), errors.ServerFailure, Retry.AMBIGUOUS),
    ErrorRule("request timed out", (408,), errors.ServerFailure, Retry.AMBIGUOUS),
    ErrorRule("plain HTTP", (400,), errors.UntrustedServer, text=r"HTTP request to an HTTPS server"),
    ErrorRule("invalid", (400, 413, 415, 422), errors.InvalidObject),
    ErrorRule("not an API server", ANY, ApiError),
)

Fault = Literal["proxy", "refused", "unknown host", "timeout", "cut", "certificate", "tls", "garbage"]
"""Why there was no usable answer; `cut` is a connection that closed or broke off after the request was sent, `proxy`
one that a proxy did not make."""

FAULTS: dict[Fault, tuple[ErrorType, Retry]] = {
    "proxy": (errors.Unreachable, Retry.IF_REACHED_BEFORE),
    "refused": (errors.Unreachable, Retry.IF_REACHED_BEFORE),
    "unknown host": (errors.Unreachable, Retry.IF_REACHED_BEFORE),
    "timeout": (errors.Unreachable, Retry.AMBIGUOUS),
    "cut": (errors.Unreachable, Retry.AMBIGUOUS),
    "certificate": (errors.UntrustedServer, Retry.CREDENTIALS),
    "tls": (errors.UntrustedServer, Retry.CREDENTIALS),
    "garbage": (ApiError, Retry.AMBIGUOUS),
}


def refuse(info: RequestInfo, reply: Reply, where: ServerInfo) -> Classification:
    """Classify an answer that is no success.

    Source: the Status object of
    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/, and what kube-apiserver 1.36 sends.
    """
    status = read_status(reply.text)
    answer = _answer(info, reply, status)
    rule = next(rule for rule in RULES if rule.matches(reply.code, status, answer))
    text = redact(status["message"], info.secrets)
    message, hint = word(rule.error, info, answer, text, where)
    subject = where.server if rule.error in _ABOUT_THE_SERVER else info.subject
    error = rule.error(message, subject=subject, hint=hint, answer=answer)
    return Classification(error, rule.retry, answer.retry_after if rule.error is errors.ServerBusy else None)


def fail(info: RequestInfo, fault: Fault, detail: str, where: ServerInfo) -> Classification:
    """Classify an answer that never came; `detail` is what the operating system or TLS said."""
    error, retry = FAULTS[fault]
    answer = Answer(info.verb, info.resource)
    detail = f"the proxy {where.proxy} did not connect: {detail}" if fault == "proxy" else detail
    message, hint = word(error, info, answer, redact(detail), where)
    return Classification(error(message, subject=where.server, hint=hint, answer=answer), retry)


_ABOUT_THE_SERVER = (errors.Unauthorized, errors.UntrustedServer, ApiError)


def _answer(info: RequestInfo, reply: Reply, status: dict[str, Any]) -> Answer:
    details = status.get("details", {})
    causes = tuple(dict.fromkeys(_cause(cause, info) for cause in details.get("causes", ())))
    return Answer(
        verb=info.verb,
        resource=info.resource,
        code=reply.code,
        reason=status.get("reason", ""),
        causes=causes,
        retry_after=reply.retry_after if reply.retry_after is not None else details.get("retryAfterSeconds"),
        owners=tuple(_owner(cause) for cause in causes if cause.reason == "FieldManagerConflict"),
    )


def _cause(cause: dict[str, str], info: RequestInfo) -> Cause:
    message = redact(cause.get("message", ""), info.secrets)
    return Cause(cause.get("field", ""), message, cause.get("reason", ""))


_OWNER = re.compile(
    r'conflict with "(?P<manager>.*?)"(?: with subresource "(?P<subresource>[^"]*)")?(?P<update> using )?'
)


def _owner(cause: Cause) -> FieldOwner:
    """Read `conflict with "kubectl" using apps/v1 at 2026-…`; only updates say `using`.

    Source: printManager in k8s.io/apimachinery/pkg/util/managedfields/internal/conflict.go.
    """
    match = _OWNER.match(cause.message)
    if match is None:
        return FieldOwner(cause.field, cause.message)
    operation: Literal["Apply", "Update"] = "Update" if match["update"] else "Apply"
    return FieldOwner(cause.field, match["manager"], operation, match["subresource"] or "")
