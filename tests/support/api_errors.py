"""The answers of kube-apiserver that say no, in its own words; the stand-in raises them, `fake_server` sends them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Causes = list[dict[str, str]]


class Named(NamedTuple):
    """What an error is about, as errors spell it: `deployments` (or `Deployment`) of group `apps`, by name."""

    kind: str
    group: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def details(self, **more: Any) -> dict[str, Any]:
        """Return the `details` of a Status about this object."""
        fields = {"name": self.name, "group": self.group, "kind": self.kind, **more}
        return {key: value for key, value in fields.items() if value}


class ApiError(Exception):
    """A failure that is sent as a `Status`."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details or {}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        status |= {"reason": reason} if reason else {}
        self.status = status | ({"details": details} if details is not None else {}) | {"code": code}


class PageNotFound(Exception):
    """No API group has this path; the answer is plain text and no Status."""


def not_found(what: Named) -> ApiError:
    """Say that an object does not exist."""
    return ApiError(404, "NotFound", f'{what} "{what.name}" not found', what.details())


def no_such_resource() -> ApiError:
    """Say that the group version exists, and the resource does not."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> ApiError:
    """Say that the path exists, and the method does not."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def already_exists(what: Named, *, deleting: bool) -> ApiError:
    """Say that a create came too late, or too early while the old object goes."""
    prefix = "object is being deleted: " if deleting else ""
    return ApiError(409, "AlreadyExists", f'{prefix}{what} "{what.name}" already exists', what.details())


def conflict(what: Named, why: str) -> ApiError:
    """Say that the object is not in the state that the request expects."""
    message = f'Operation cannot be fulfilled on {what} "{what.name}": {why}'
    return ApiError(409, "Conflict", message, what.details())


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def bad_request(message: str) -> ApiError:
    """Say that the request makes no sense."""
    return ApiError(400, "BadRequest", message)


def internal(message: str) -> ApiError:
    """Say what the server reports as its own fault, though it is the request's (apply of an unknown field)."""
    return ApiError(500, "", message)


def unauthorized() -> ApiError:
    """Say that the token is nobody's."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(what: Named, why: str, causes: Causes | None = None) -> ApiError:
    """Say that a right is missing, or that admission refuses."""
    name = f' "{what.name}"' if what.name else ""
    return ApiError(403, "Forbidden", f"{what}{name} is forbidden: {why}", what.details(causes=causes))


def expired(message: str) -> ApiError:
    """Say that a resource version or continue token is too old."""
    return ApiError(410, "Expired", message)


def rejected() -> ApiError:
    """Say that a JSON patch does not fit the object."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def invalid(what: Named, causes: Sequence[dict[str, str]]) -> ApiError:
    """Say which fields of an object are wrong; build the causes with `required` and the like."""
    errors = [f"{cause['field']}: {cause['message']}" for cause in causes]
    text = errors[0] if len(errors) == 1 else "[" + ", ".join(dict.fromkeys(errors)) + "]"
    return ApiError(422, "Invalid", f'{what} "{what.name}" is invalid: {text}', what.details(causes=list(causes)))


def required(field: str, why: str = "") -> dict[str, str]:
    """Name a field that must be there."""
    return _cause("FieldValueRequired", "Required value" + (f": {why}" if why else ""), field)


def invalid_value(field: str, value: Any, why: str) -> dict[str, str]:
    """Name a field whose value is wrong."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return _cause("FieldValueInvalid", f"Invalid value: {text}: {why}", field)


def forbidden_field(field: str, why: str) -> dict[str, str]:
    """Name a field that must not be there, or must not change."""
    return _cause("FieldValueForbidden", f"Forbidden: {why}", field)


def missing_target(field: str, value: str) -> dict[str, str]:
    """Name a field that refers to something the object lacks."""
    return _cause("FieldValueNotFound", f"Not found: {json.dumps(value)}", field)


def unsupported(field: str, value: Any, supported: Sequence[str]) -> dict[str, str]:
    """Name a field whose value is none of those known."""
    known = ", ".join(map(json.dumps, supported))
    return _cause("FieldValueNotSupported", f"Unsupported value: {json.dumps(value)}: supported values: {known}", field)


def _cause(reason: str, message: str, field: str) -> dict[str, str]:
    return {"reason": reason, "message": message, "field": field}
