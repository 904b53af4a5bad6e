"""The one tree of errors; what a class means decides the exit code, so the CLI needs no table of its own.

    ChronikError                          1
    ├── InputError                        2   what the user wrote cannot be used
    │   ├── InvalidDocuments              2   problems in documents, each with its place
    │   └── TemplateError                 2   a template is broken; names template and line
    ├── ApiError                          3   the cluster refused or could not be reached; subclasses say how
    ├── ConflictError                     4   another field manager, or somebody else's object, stands in the way
    ├── PartialFailure                    5   some objects were applied, some were not
    └── WaitTimeout                       6   applied, but not ready in time

Every error names its subject, says what is wrong and what to do. `reason` is CamelCase and is what conditions and
Events show. Called by everybody; imports nothing of ours but `problem`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronik.problem import Problem


class ChronikError(Exception):
    """Something a user can act on: `subject` is what it is about, `hint` what to do."""

    exit_code: ClassVar[int] = 1
    reason: ClassVar[str] = "Error"

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.subject}: {self.message}" if self.subject else self.message
        return f"{text}\n{self.hint}" if self.hint else text


class InputError(ChronikError):
    """What the user wrote or named cannot be used."""

    exit_code = 2
    reason = "InvalidInput"


class InvalidDocuments(InputError):
    """Documents have problems; all of them are listed, each with its place."""

    reason = "InvalidSpec"

    def __init__(self, problems: Sequence[Problem], *, subject: str = "") -> None:
        count = sum(problem.severity == "error" for problem in problems)
        super().__init__(f"{count} error{'s' if count != 1 else ''} found", subject=subject)
        self.problems = tuple(problems)


class TemplateError(InputError):
    """A template is broken or asks for something that does not exist."""

    reason = "TemplateError"

    def __init__(self, message: str, *, template: str, line: int | None = None, hint: str = "") -> None:
        super().__init__(message, subject=f"{template}:{line}" if line else template, hint=hint)
        self.template = template
        self.line = line


class ApiError(ChronikError):
    """The API server refused a request, or could not be reached."""

    exit_code = 3
    reason = "ApiError"


class ConflictError(ChronikError):
    """Another field manager, or an object that is not ours, stands in the way."""

    exit_code = 4
    reason = "ResourceConflict"


class PartialFailure(ChronikError):
    """Some objects were applied and some were not."""

    exit_code = 5
    reason = "PartialFailure"


class WaitTimeout(ChronikError):
    """Everything was applied, but not everything became ready in time."""

    exit_code = 6
    reason = "WaitTimeout"
