"""The one tree of errors; what a class means decides the exit code, so the CLI needs no table of its own.

    ChronikError                          1
    ├── InputError                        2   what the user wrote cannot be used
    │   ├── InvalidDocuments              2   problems in documents, each with its place
    │   ├── InvalidTransition             2   the live document may not become this one: a rule compares the two
    │   ├── KubeconfigError               2   no usable kubeconfig, context or credentials
    │   ├── LibraryMissing                2   an optional part of chronik is not installed
    │   └── RenderError                   2   a cluster cannot be rendered
    │       ├── TemplateError             2   a template is broken; names template and line
    │       └── PatchError                2   one of `spec.patches` does not fit; names its place in the document
    ├── ApiError                          3   the cluster refused or could not be reached
    │   ├── Unreachable                       no answer, or half of one
    │   ├── UntrustedServer                   TLS: a certificate does not fit
    │   ├── Unauthorized                      401: the credentials are not accepted
    │   ├── Forbidden                         403: access control says no
    │   ├── QuotaExceeded                     403: a ResourceQuota is used up
    │   ├── NamespaceTerminating              403: nothing new can be created there
    │   ├── AdmissionDenied                   a webhook or a policy said no
    │   ├── WebhookUnavailable                a webhook did not answer
    │   ├── InvalidObject                     400, 413, 415, 422: this document will never pass
    │   ├── KindMissing                       404: no such kind; for a ChronikCluster: its CRD is not installed
    │   ├── NamespaceMissing                  404: no such namespace
    │   ├── ObjectMissing                     404: no such object
    │   ├── ServerBusy                        429, 503: come back later
    │   ├── ServerFailure                     other 5xx
    │   └── WatchExpired                      410: list again
    ├── ConflictError                     4   another field manager, or an object that is not ours, stands in the way
    │   ├── FieldConflict                     409: other field managers own fields that we set
    │   ├── ObjectChanged                     409: it changed or was replaced in the meantime
    │   └── AlreadyExists                     409: create, and it is there
    ├── PartialFailure                    5   some objects were applied, some were not
    ├── WaitTimeout                       6   applied, but not ready in time
    ├── BackupError                       8   a backup or a restore failed: metastore/errors.py
    ├── InternalError                    70   chronik itself failed
    └── OutputError                      74   standard output cannot be written

Every error names its subject, says what is wrong and what to do. `reason` is CamelCase and is what conditions and
Events show. `retry_class` is what the operator plans by: transient errors pass by themselves, permanent ones need a new
spec or a person, unknown ones are neither.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

from chronik.problem import Location, Problem, format_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.problem import Path


RetryClass = Literal["transient", "permanent", "unknown"]


class ChronikError(Exception):
    """Something a user can act on: `subject` is what it is about, `hint` what to do."""

    exit_code: ClassVar[int] = 1
    reason: ClassVar[str] = "Error"
    retry_class: ClassVar[RetryClass] = "unknown"

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.subject}: {self.message}" if self.subject else self.message
        return f"{text}\n{self.hint}" if self.hint else text

    def as_problem(self) -> Problem:
        """Return the error as one of several findings; its code is the reason, spelt like other codes."""
        code = re.sub(r"(?<!^)(?=[A-Z])", "-", self.reason).lower()
        return Problem("error", code, (), self.message, self.hint, subject=self.subject)


class InputError(ChronikError):
    """What the user wrote or named cannot be used."""

    exit_code = 2
    reason = "InvalidInput"
    retry_class = "permanent"


class InvalidDocuments(InputError):
    """Documents have problems; all of them are listed, each with its place."""

    reason = "InvalidSpec"

    def __init__(self, problems: Sequence[Problem], *, subject: str = "") -> None:
        count = sum(problem.severity == "error" for problem in problems)
        super().__init__(f"{count} error{'s' if count != 1 else ''} found", subject=subject)
        self.problems = tuple(problems)


class InvalidTransition(InputError):
    """A document is valid by itself, but the live one may not become it: the API server will refuse it."""

    reason = "InvalidTransition"


class RenderError(InputError):
    """A valid document cannot be made into manifests. `location` is where it says so, once that has been looked up."""

    location: Location | None = None


class TemplateError(RenderError):
    """A template is broken or asks for something that does not exist.

    `word` is the text in the template that is at fault, if one is; `rendering` says for what the template was rendered:
    `component ingest of demo/events`. `location` is a place in the template.
    """

    reason = "TemplateError"

    def __init__(self, message: str, *, template: str, line: int | None = None, hint: str = "", word: str = "") -> None:
        super().__init__(message, subject=f"{template}:{line}" if line else template, hint=hint)
        self.template = template
        self.line = line
        self.word = word
        self.rendering = ""

    def as_problem(self) -> Problem:
        """Return the error as one of several findings, with its place in the template, and what was rendered."""
        message = f"{self.message} (for {self.rendering})" if self.rendering else self.message
        place = Location(self.template, self.line, 1, "") if self.line else None
        return Problem("error", "template", (), message, self.hint, self.location or place, self.template)


class PatchError(RenderError):
    """One of `spec.patches` does not fit what it is for. `path` is its place in the document."""

    reason = "PatchError"

    def __init__(self, message: str, *, cluster: str, path: Path, hint: str = "") -> None:
        super().__init__(message, subject=f"{format_path(path)} of {cluster}", hint=hint)
        self.path = path

    def as_problem(self) -> Problem:
        """Return the error as one of several findings."""
        return Problem("error", "patch", self.path, self.message, self.hint, self.location, self.subject)


class KubeconfigError(InputError):
    """No usable kubeconfig, context or credentials: no request was sent yet."""

    reason = "InvalidKubeconfig"


class LibraryMissing(InputError):
    """An optional part of chronik is not installed."""

    reason = "LibraryMissing"


class Cause(NamedTuple):
    """One entry of the server's `details.causes`: which field, and why."""

    field: str
    message: str
    reason: str = ""


class FieldOwner(NamedTuple):
    """A field that another manager owns, in a conflict's words: `.spec.replicas`, `kubectl`, `Update`."""

    path: str
    manager: str
    operation: Literal["Apply", "Update"] = "Apply"
    subresource: str = ""

    @property
    def field(self) -> str:
        """The field as people write it: `spec.replicas`."""
        return self.path.removeprefix(".")

    @property
    def how(self) -> str:
        """How the manager got the field: `apply`, `update of scale`."""
        operation = self.operation.lower()
        return f"{operation} of {self.subresource}" if self.subresource else operation


class Answer(NamedTuple):
    """What was asked, in access control's words (`patch`, `statefulsets.apps`), and what came back.

    `code` is the HTTP status, 0 if there was none; `retry_after` is in seconds; `owners` are the fields in conflict.
    """

    verb: str = ""
    resource: str = ""
    code: int = 0
    reason: str = ""
    causes: tuple[Cause, ...] = ()
    retry_after: float | None = None
    owners: tuple[FieldOwner, ...] = ()


NO_ANSWER = Answer()


class _AnsweredError(ChronikError):
    """An error that may come with what the server said."""

    def __init__(self, message: str, *, subject: str = "", hint: str = "", answer: Answer = NO_ANSWER) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.answer = answer


class ApiError(_AnsweredError):
    """The API server refused a request, or could not be reached."""

    exit_code = 3
    reason = "ApiError"


class Unreachable(ApiError):
    """There was no answer, or only half of one."""

    reason = "ApiServerUnreachable"
    retry_class = "transient"

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Return the error of a server that has not answered for so long."""
        return cls(f"no answer within {seconds:.0f} s")


class UntrustedServer(ApiError):
    """TLS failed: the server's certificate does not fit the configuration, or ours does not fit the server."""

    reason = "UntrustedServer"
    retry_class = "permanent"


class Unauthorized(ApiError):
    """The credentials are not accepted (401), even after they were read again."""

    reason = "Unauthorized"
    retry_class = "transient"


class Forbidden(ApiError):
    """Access control says no (403)."""

    reason = "Forbidden"
    retry_class = "permanent"


def first_or_all_forbidden(failures: Sequence[BaseException]) -> BaseException:
    """Return the first of several failures; if it is a missing right, one error with all rights that are missing."""
    missing = [each for each in failures if isinstance(each, Forbidden)]
    if len(missing) < 2 or failures[0] is not missing[0]:  # noqa: PLR2004  # one is told as it is
        return failures[0]
    message = "\n".join(dict.fromkeys(each.message for each in missing))
    hints = list(dict.fromkeys(each.hint for each in missing if each.hint))
    others = ["Grant and check the others in the same way."] if len(hints) > 1 else []
    return Forbidden(message, hint="\n".join([*hints[:1], *others]), answer=missing[0].answer)


class QuotaExceeded(ApiError):
    """A ResourceQuota of the namespace is used up (403)."""

    reason = "QuotaExceeded"
    retry_class = "transient"


class NamespaceTerminating(ApiError):
    """The namespace is being deleted, so nothing can be created in it (403)."""

    reason = "NamespaceTerminating"
    retry_class = "transient"


class AdmissionDenied(ApiError):
    """An admission webhook, a policy or Pod Security said no."""

    reason = "AdmissionDenied"
    retry_class = "permanent"


class WebhookUnavailable(ApiError):
    """An admission or conversion webhook did not answer, and the server will not go on without it."""

    reason = "WebhookUnavailable"
    retry_class = "transient"


class InvalidObject(ApiError):
    """The server will not take this document, now or later (400, 413, 415, 422)."""

    reason = "InvalidObject"
    retry_class = "permanent"


class KindMissing(ApiError):
    """The server does not serve this kind (404)."""

    reason = "KindNotInstalled"


class NamespaceMissing(ApiError):
    """The namespace does not exist (404)."""

    reason = "NamespaceNotFound"
    retry_class = "transient"


class ObjectMissing(ApiError):
    """The object does not exist (404)."""

    reason = "NotFound"
    retry_class = "transient"


class ServerBusy(ApiError):
    """The server asks to come back later (429, 503); `answer.retry_after` says when, if it said so."""

    reason = "ApiServerBusy"
    retry_class = "transient"


class ServerFailure(ApiError):
    """The server failed (5xx)."""

    reason = "ApiServerFailure"
    retry_class = "transient"


class WatchExpired(ApiError):
    """The resource version is too old to go on from (410): list again."""

    reason = "WatchExpired"
    retry_class = "transient"


class ConflictError(_AnsweredError):
    """Another field manager, or an object that is not ours, stands in the way."""

    exit_code = 4
    reason = "ResourceConflict"


class FieldConflict(ConflictError):
    """Other field managers own fields that this apply sets (409); `answer.owners` are all of them."""

    reason = "FieldConflict"
    retry_class = "permanent"


class ObjectChanged(ConflictError):
    """The object changed, or was deleted and created again, since it was read (409)."""

    reason = "ObjectChanged"
    retry_class = "transient"


class AlreadyExists(ConflictError):
    """An object of that name exists, or is still being deleted (409)."""

    reason = "AlreadyExists"
    retry_class = "transient"


class PartialFailure(ChronikError):
    """Some objects were applied and some were not."""

    exit_code = 5
    reason = "PartialFailure"


class WaitTimeout(ChronikError):
    """Everything was applied, but not everything became ready in time."""

    exit_code = 6
    reason = "WaitTimeout"


class InternalError(ChronikError):
    """chronik itself failed: a bug, or no memory. 70 is what sysexits.h calls EX_SOFTWARE."""

    exit_code = 70
    reason = "InternalError"


class OutputError(ChronikError):
    """Standard output cannot be written: its disk is full, or it is closed. 74 is what sysexits.h calls EX_IOERR."""

    exit_code = 74
    reason = "OutputError"
