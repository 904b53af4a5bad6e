"""The words of API errors: what was refused, to whom, and what to do about it.

Pure. Server texts are quoted, but never a payload: see `redact`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronik import errors
from chronik.kube.checks.addresses import is_loopback
from chronik.manifest import CLUSTER, Kind, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chronik.errors import Answer

Wording = tuple[str, str]
"""The message, and the hint: what to do."""

LONGEST_TEXT = 1200
_SHORTEST_SECRET = 3  # masking every `a` of a text hides nothing and garbles it


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What was asked: `verb` is access control's word, `secrets` are values that no message may repeat."""

    verb: str
    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    secrets: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        """The resource as `kubectl auth can-i` takes it: `statefulsets.apps`."""
        group, _, _ = self.kind.api_version.rpartition("/")
        return f"{self.kind.plural}.{group}" if group else self.kind.plural

    @property
    def subject(self) -> str:
        """What it is about: `Service/kafka/prod-ingest`, or `Service/kafka` for a whole collection."""
        return str(ObjectRef(self.kind.name, self.namespace, self.name))


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Which server was asked, and which configuration led there; `proxy` is what requests go through, if they do."""

    server: str
    origin: str
    proxy: str = ""
    proxy_origin: str = ""


def word(error: type[Exception], info: RequestInfo, answer: Answer, text: str, where: ServerInfo) -> Wording:
    """Return message and hint for an error of that class; `text` is what the server, or the network, said."""
    return _WORDS[error](_Case(info, answer, text, where))


_PAYLOADS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Go's JSON decoder: `error found in #10 byte of ...|the payload|..., bigger context ...|more of it|...`
    (re.compile(r"\.\.\.\|.*?\|\.\.\.", re.DOTALL), "…"),
    # structured-merge-diff: `expected string, got &value.valueUnstructured{Value:[]interface {}{"the payload"}}`
    (re.compile(r"got &value\..*", re.DOTALL), "got another type"),
    # Validation: `Invalid value: "a whole file"`
    (re.compile(r'"([^"]{60})[^"]{60,}"'), r'"\1…"'),
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a server's text without the payloads it quotes, without secret values, and not too long."""
    for pattern, replacement in _PAYLOADS:
        text = pattern.sub(replacement, text)
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text) - LONGEST_TEXT} more characters)"


@dataclass(frozen=True, slots=True)
class _Case:
    info: RequestInfo
    answer: Answer
    text: str
    where: ServerInfo


def _server_says(case: _Case) -> Wording:
    return _essence(case), ""


def _essence(case: _Case) -> str:
    """Return the server's text without `configmaps "x" is forbidden: ` and the like: the subject says that."""
    return _NAME_FIRST.sub("", case.text) or f"HTTP {case.answer.code} without a word"


_NAME_FIRST = re.compile(
    r'^(\S+ ("[^"]*" )?is (forbidden|invalid): '
    r'|Operation cannot be fulfilled on \S+ "[^"]*": '
    r"|Internal error occurred: "
    r"|failed to create typed (?:patch|live) object \([^)]*\): )"
)


def _unreachable(case: _Case) -> Wording:
    hint = f"Check that the API server runs, and that {case.where.origin} names the right one."
    if case.where.proxy:
        hint += f" Requests go through the proxy {case.where.proxy}, which {case.where.proxy_origin} names."
    return f"the API server did not answer: {case.text}", hint


def _untrusted(case: _Case) -> Wording:
    if case.answer.code:  # so TLS was not even tried
        return case.text, f"The server address in {case.where.origin} must start with https://."
    hint = (
        f"Check server address, certificate-authority and tls-server-name of {case.where.origin}; "
        "a certificate may also have been replaced, or have run out."
    )
    return f"no trusted connection to the API server: {case.text}", hint


def _unauthorized(case: _Case) -> Wording:
    if _in_clear_text(case):
        return "the API server wants credentials", _NOTHING_SENT
    hint = "A token may have expired: log in again, or renew what the configuration points to."
    return f"the API server does not accept the credentials of {case.where.origin}", hint


_RBAC = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<plural>[^"/]*)/?(?P<sub>[^"]*)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_ESCALATION = "attempting to grant RBAC permissions not currently held"


_NOTHING_SENT = "No credentials go over plain http://, but to this machine itself. Use the server's https:// address."


def _in_clear_text(case: _Case) -> bool:
    return case.where.server.startswith("http:") and not is_loopback(case.where.server)


def _forbidden(case: _Case) -> Wording:
    match = _RBAC.search(case.text)
    if match is None:
        grants = _ESCALATION in case.text
        return _essence(case), "To apply a Role, you must hold all the permissions that it grants." if grants else ""
    resource = f"{match['plural']}.{match['group']}".rstrip(".")
    full_name = f"{resource}/{match['sub']}" if match["sub"] else resource
    place = f"in namespace {match['namespace']}" if match["namespace"] else "in the whole cluster"
    message = f"{match['user']} may not {match['verb']} {full_name} {place}"
    if match["user"] == "system:anonymous":
        if _in_clear_text(case):
            return message, _NOTHING_SENT
        return message, f"No credentials reached the server: check the user of {case.where.origin}."
    return message, f"Grant it with a Role or ClusterRole, then check: {_can_i(match, resource)}"


def _can_i(match: re.Match[str], resource: str) -> str:
    subresource = f" --subresource={match['sub']}" if match["sub"] else ""
    scope = f"-n {match['namespace']}" if match["namespace"] else "-A"
    return f"kubectl auth can-i {match['verb']} {resource}{subresource} {scope} --as {match['user']}"


def _quota(case: _Case) -> Wording:
    namespace = case.info.namespace
    return _essence(case), f"Raise the quota or ask for less: kubectl describe quota -n {namespace}"


def _terminating(case: _Case) -> Wording:
    namespace = case.info.namespace
    hint = f"Wait until it is gone, then create it again: kubectl wait --for=delete namespace/{namespace}"
    return f"namespace {namespace} is being deleted, so nothing can be created in it", hint


def _webhook(case: _Case) -> Wording:
    hint = (
        "Bring that webhook back, or have it removed: "
        "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations,crds"
    )
    return _essence(case), hint


def _invalid(case: _Case) -> Wording:
    causes = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in case.answer.causes]
    if len(causes) > 1:
        return "the API server refuses it:" + "".join(f"\n  {cause}" for cause in causes), ""
    return f"the API server refuses it: {causes[0] if causes else _essence(case)}", ""


def _kind_missing(case: _Case) -> Wording:
    kind = case.info.kind
    message = f"the cluster does not know the kind {kind.name} ({kind.api_version})"
    if kind == CLUSTER:
        return message, "Install its definition: chronik schema crd | kubectl apply --server-side -f -"
    group = kind.api_version.rpartition("/")[0]
    return message, f"See what it knows: kubectl api-resources --api-group={group!r}"


def _namespace_missing(case: _Case) -> Wording:
    namespace = case.info.namespace
    return f"namespace {namespace} does not exist", f"Create it: kubectl create namespace {namespace}"


def _field_conflict(case: _Case) -> Wording:
    owners = case.answer.owners
    listed = "".join(f"\n  {owner.path}: {owner.manager} ({owner.how})" for owner in owners)
    message = f"other field managers own {len(owners)} of the fields that it sets:{listed}"
    return message, "Leave these fields to them, let them give the fields up, or take them with --force-conflicts."


def _changed(case: _Case) -> Wording:
    return f"it changed in the meantime: {_essence(case)}", ""


def _busy(case: _Case) -> Wording:
    seconds = case.answer.retry_after
    when = f", come back in {seconds:g} s" if seconds is not None else ""
    return f"the API server is busy ({case.answer.code}){when}: {_essence(case)}", ""


def _failure(case: _Case) -> Wording:
    return f"the API server failed ({case.answer.code}): {_essence(case)}", ""


def _expired(case: _Case) -> Wording:
    return f"the resource version is too old to go on from: {case.text}", ""


def _strange(case: _Case) -> Wording:
    code = f" {case.answer.code}" if case.answer.code else ""
    return (
        f"unexpected answer{code}: {_essence(case)}",
        f"Check that {case.where.origin} names a Kubernetes API server.",
    )


_WORDS: dict[type[Exception], Callable[[_Case], Wording]] = {
    errors.ApiError: _strange,
    errors.Unreachable: _unreachable,
    errors.UntrustedServer: _untrusted,
    errors.Unauthorized: _unauthorized,
    errors.Forbidden: _forbidden,
    errors.QuotaExceeded: _quota,
    errors.NamespaceTerminating: _terminating,
    errors.AdmissionDenied: _server_says,
    errors.WebhookUnavailable: _webhook,
    errors.InvalidObject: _invalid,
    errors.KindMissing: _kind_missing,
    errors.NamespaceMissing: _namespace_missing,
    errors.ObjectMissing: lambda _: ("it does not exist", ""),
    errors.ServerBusy: _busy,
    errors.ServerFailure: _failure,
    errors.WatchExpired: _expired,
    errors.FieldConflict: _field_conflict,
    errors.ObjectChanged: _changed,
    errors.AlreadyExists: _server_says,
}
