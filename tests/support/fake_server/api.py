"""From an HTTP request to an answer: routing, authorization and discovery of the stand-in, without the HTTP.

`fake_server` is the caller.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support import api_errors as errors
from support.custom_resources import CRD, establish, kind_of
from support.fake_server import rbac
from support.fake_server.deletes import Collector, Preconditions, delete
from support.fake_server.discovery import discover
from support.fake_server.proxy import ask_pod
from support.fake_server.reads import list_objects, matcher, watch
from support.fake_server.request import Answered, Object, Options, Target, now
from support.fake_server.scale import scale_of, write_scale
from support.fake_server.store import Store
from support.fake_server.writes import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_server.call import Call

Sent = tuple[int, Any, list[tuple[str, str]]]
"""Code, body and headers."""

_REVIEWS = ("authorization.k8s.io", "selfsubjectaccessreviews")


class Api:
    """The API server without its HTTP side."""

    def __init__(self) -> None:
        self.store = Store()
        self.store.kinds[CRD.group, CRD.plural] = CRD
        self._writer = Writer(self.store)
        self.collector = Collector(self.store)
        for name in ("default", "kube-system"):
            self._writer.create(Target(self.store.kinds["", "namespaces"]), {"metadata": {"name": name}}, Options())

    def answer(self, call: Call) -> Sent:
        """Answer anything but a watch."""
        options = call.options()
        try:
            code, body = self._dispatch(call, options)
        except errors.ApiError as error:
            retry = error.details.get("retryAfterSeconds")
            return error.code, error.status, [("Retry-After", str(retry))] if retry else []
        except errors.PageNotFound:
            return 404, "404 page not found\n", []
        return code, body, [("Warning", f"299 - {json.dumps(text)}") for text in options.warnings]

    def refusal(self, call: Call) -> tuple[int, Any] | None:
        """Return the answer to a watch that cannot start, or None."""
        try:
            self._authorize(call)
            matcher(self._find(call), call.query)
        except errors.ApiError as error:
            return error.code, error.status
        except errors.PageNotFound:
            return 404, "404 page not found\n"
        return None

    def events(self, call: Call) -> AsyncIterator[Object]:
        """Yield the events of a watch until its end."""
        return watch(self.store, self._find(call), call.query)

    # --- routing ------------------------------------------------------------------------------------------------------

    def _dispatch(self, call: Call, options: Options) -> tuple[int, Any]:
        rbac.user_of(call.headers.get("Authorization"))
        if not call.plural:
            return 200, discover(call.path, list(self.store.kinds.values()))
        if (call.group, call.plural) == _REVIEWS:
            return self._review(call)
        at = self._find(call)
        self._authorize(call)
        verb = call.verb
        if at.subresource == "proxy":
            return ask_pod(self.store, call)
        if verb == "list":
            return 200, list_objects(self.store, at, call.query)
        if verb == "get":
            obj = self._writer.live(at)
            return 200, scale_of(obj) if at.subresource == "scale" else obj
        if verb in {"delete", "deletecollection"}:
            return self._delete(at, call, options)
        answered = self._write(at, call, options)
        if at.kind is CRD and not options.dry_run:
            self._define(answered[1])
        return answered

    def _find(self, call: Call) -> Target:
        kind = self.store.kinds.get((call.group, call.plural))
        if kind is None or kind.version != call.version:
            built_in = [one for one in self.store.kinds.values() if one.custom is None]
            known = any((one.group, one.version) == (call.group, call.version) for one in built_in)
            raise errors.no_such_resource() if known else errors.PageNotFound
        subresources = {"": True, "status": kind.status, "scale": kind.scale, "proxy": kind.plural == "pods"}
        if not subresources.get(call.subresource) or (bool(call.namespace) and not kind.namespaced):
            raise errors.no_such_resource()
        return Target(kind, call.namespace, call.name, call.subresource)

    def _authorize(self, call: Call) -> None:
        rbac.user_of(call.headers.get("Authorization"))
        what = errors.Named(call.plural, call.group, call.name)
        attempt = rbac.Attempt(call.verb, what, call.namespace, call.subresource)
        rbac.check(self.store, call.user, attempt)

    def _write(self, at: Target, call: Call, options: Options) -> Answered:
        if (call.verb == "create") == bool(at.name):
            raise errors.method_not_allowed()
        if call.verb == "create":
            return self._writer.create(at, call.body or {}, options)
        how = call.patch
        if at.subresource == "scale":
            return write_scale(self._writer, at, call.body, how, options)
        if how == "put":
            return self._writer.update(at, call.body, options)
        if how == "apply":
            return self._writer.apply(at, call.body, options)
        return self._writer.patch(at, call.body, how, options)

    def _delete(self, at: Target, call: Call, options: Options) -> Answered:
        sent = call.body or {}
        options.dry_run = options.dry_run or bool(sent.get("dryRun"))
        wanted = sent.get("preconditions", {})
        preconditions = Preconditions(wanted.get("uid"), wanted.get("resourceVersion"))
        propagation = sent.get("propagationPolicy") or call.query.get("propagationPolicy")
        if at.name:
            answered = delete(self.store, at, preconditions, propagation, options)
            if at.kind is CRD and not options.dry_run:
                self._undefine(at.name)
            return answered
        everything = list_objects(self.store, at, call.query)
        for obj in everything["items"]:
            place = Target(at.kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
            delete(self.store, place, preconditions, propagation, options)
        return 200, everything

    # --- definitions and discovery ------------------------------------------------------------------------------------

    def _define(self, crd: Object) -> None:
        kind = kind_of(crd)
        self.store.kinds[kind.group, kind.plural] = kind
        if not crd.get("status"):
            established = json.loads(json.dumps(crd))
            establish(established, now())
            self.store.put(CRD, established)

    def _undefine(self, name: str) -> None:
        plural, _, group = name.partition(".")
        kind = self.store.kinds.get((group, plural))
        if kind is not None:
            for obj in self.store.of(kind):
                self.store.drop(kind, obj)
            del self.store.kinds[group, plural]

    def _review(self, call: Call) -> Answered:
        wanted = call.body["spec"].get("resourceAttributes", {})
        what = errors.Named(wanted.get("resource", ""), wanted.get("group", ""), wanted.get("name", ""))
        attempt = rbac.Attempt(wanted.get("verb", ""), what, wanted.get("namespace", ""), wanted.get("subresource", ""))
        return 201, call.body | {"status": {"allowed": rbac.allowed(self.store, call.user, attempt)}}
