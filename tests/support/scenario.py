"""Runs the scenarios of tests/stand_in/server/*.yaml against an API server and writes down what it answered.

A scenario is a list of steps, each one request: `apply: configmaps/a`, `merge: deployments/web`, `delete: services/x`
and so on, in a namespace of its own. `wait` polls for a code, since a server collects garbage, serves new kinds and
grants rights in its own time; `setup` is a request that may have been made before.

The transcript tells of an object what changed since it was last answered, and names what differs from run to run
(`uid-1`, `version-3`, `<time>`), so that a server and a recording compare equal when they behave the same.
`test_fake_server` is the caller.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any

from support.api import Answer
from support.ssa.field_sets import from_fields_v1, printed

from chronik.manifest import CLUSTER, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.api import ApiServer

Step = dict[str, Any]

_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "put": "PUT",
    "delete": "DELETE",
    "apply": "PATCH",
    "merge": "PATCH",
    "json": "PATCH",
}
_TYPES = {
    **{kind.plural: (kind.api_version, kind.name) for kind in (*KINDS, CLUSTER)},
    "customresourcedefinitions": ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    "validatingadmissionpolicies": ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    "validatingadmissionpolicybindings": ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    "clusterrolebindings": ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    "clusterroles": ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    "events": ("v1", "Event"),
    "leases": ("coordination.k8s.io/v1", "Lease"),
    "namespaces": ("v1", "Namespace"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "pods": ("v1", "Pod"),
    "secrets": ("v1", "Secret"),
    "storageclasses": ("storage.k8s.io/v1", "StorageClass"),
}
_CLUSTER_WIDE = {
    *("clusterrolebindings", "clusterroles", "customresourcedefinitions", "namespaces", "storageclasses"),
    *("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"10\.0\.\d+\.\d+")
_GO_DIFF = re.compile(r"\n@@.*", re.DOTALL)  # the server appends what changed, as a diff of Go structs
_ECHO = re.compile(r'"\{.*\}":')  # a patched object that is refused, key by key as it was stored
_NEVER = object()
WAIT_SECONDS = 40


@dataclass
class Run:
    """One run of a scenario: what it has seen, and the names it gave to what varies."""

    server: ApiServer
    namespace: str
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    _told: dict[str, Any] = field(default_factory=dict)
    _uids: dict[str, str] = field(default_factory=dict)
    _versions: dict[str, str] = field(default_factory=dict)

    def play(self, steps: list[Step]) -> list[dict[str, Any]]:
        """Do all steps and return the transcript."""
        return [entry for step in steps for entry in self._play_one(step)]

    def _play_one(self, step: Step) -> list[dict[str, Any]]:
        step = self._filled_in(step)
        if "wait" in step:
            self._wait(step["wait"], step["code"], step.get("user"))
            return []
        if "setup" in step:
            setup = step["setup"]
            verb = next(key for key in setup if key in _METHODS)
            self._ask(verb, setup[verb], setup)
            return []
        verb = next(key for key in step if key in _METHODS)
        place = step[verb]
        answer = self._watch(step) if verb == "watch" else self._ask(verb, place, step)
        if isinstance(answer.body, dict) and answer.body.get("kind") != "Status":
            self.seen[place] = answer.body
        title = _title(verb, place, step).replace(self.namespace, "NAMESPACE")
        entry = {"step": title, "code": answer.code}
        if "warning" in answer.headers:
            entry["warning"] = answer.headers["warning"]
        return [entry | ({} if step.get("show") == "nothing" else self._news(place, self._normal(answer.body)))]

    def _news(self, place: str, answer: Any) -> Step:
        """Return an answer, or what is new in it if it is an object that was answered before."""
        before = self._told.get(place)
        if not isinstance(answer, dict) or "uid" not in answer.get("metadata", {}):
            return {"answer": answer}
        self._told[place] = answer
        if before is None:
            return {"answer": answer}
        old, new = dict(_leaves(before)), dict(_leaves(answer))
        changed = {path: value for path, value in new.items() if old.get(path, _NEVER) != value}
        return {"changed": changed | {path: "<gone>" for path in old if path not in new}}

    def _ask(self, verb: str, place: str, step: Step) -> Answer:
        options = dict(step.get("query", {}))
        body = step.get("body")
        if verb in {"create", "apply", "put"} and not step.get("raw"):
            body = self._completed(place, body or {})
        if "as" in step:
            options["fieldManager"] = step["as"]
        if verb in {"apply", "merge", "json"}:
            options["patch"] = verb
        target = self.url(place.rpartition("/")[0]) if verb == "create" else self.url(place)
        return self.server.call(_METHODS[verb], target, body, token=step.get("user"), **options)

    def _completed(self, place: str, body: Any) -> Any:
        plural, _, name = place.partition("/")
        name, _, subresource = name.partition("/")
        if plural not in _TYPES or not isinstance(body, dict):
            return body
        version, kind = _TYPES[plural] if subresource != "scale" else ("autoscaling/v1", "Scale")
        return {"apiVersion": version, "kind": kind} | body | {"metadata": {"name": name} | body.get("metadata", {})}

    def url(self, place: str) -> str:
        """Return the path of `plural[/name[/subresource]]`, or of an absolute path."""
        if place.startswith("/"):
            return place
        plural, _, rest = place.partition("/")
        version = _TYPES[plural][0]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        where = "" if plural in _CLUSTER_WIDE else f"/namespaces/{self.namespace}"
        return f"{base}{where}/{plural}" + (f"/{rest}" if rest else "")

    def _watch(self, step: Step) -> Answer:
        """Read as many events as the step wants, or all of a second."""
        query = {"timeoutSeconds": "1"} | step.get("query", {})
        with self.server.watch(self.url(step["watch"]), token=step.get("user"), **query) as watch:
            if watch.code != HTTPStatus.OK:
                return Answer(watch.code, watch.refused())
            events = (event for event in watch if event["type"] != "BOOKMARK")
            return Answer(watch.code, list(islice(events, step.get("events"))))

    def _wait(self, place: str, code: int, user: str | None) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while self.server.call("GET", self.url(place), token=user).code != code:
            if time.monotonic() > deadline:
                raise AssertionError(f"{place} did not answer {code} within {WAIT_SECONDS} s")
            time.sleep(0.05)

    # --- names for what varies ----------------------------------------------------------------------------------------

    def _filled_in(self, value: Any) -> Any:
        """Replace `${ns}`, `${uid PLACE}`, `${version PLACE}` and `${continue PLACE}` by what was seen."""
        if isinstance(value, dict):
            return {key: self._filled_in(child) for key, child in value.items()}
        if isinstance(value, list):
            return [self._filled_in(child) for child in value]
        if not isinstance(value, str):
            return value
        value = value.replace("${ns}", self.namespace)
        return re.sub(r"\$\{(\w+) ([^}]+)\}", lambda found: self._looked_up(found[1], found[2]), value)

    def _looked_up(self, what: str, place: str) -> str:
        name = {"version": "resourceVersion"}.get(what, what)
        return str(self.seen[place]["metadata"][name])

    def _normal(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            if str(value.get("kind", "")).endswith("List"):
                value = value | {"metadata": value["metadata"] | {"resourceVersion": "<now>"}}
            return {name: self._normal(child, name) for name, child in sorted(value.items())}
        if key == "causes":
            value = _causes(value)
        if key == "managedFields":
            return dict(sorted(map(self._entry, value)))  # the server sorts by second, so by luck
        if isinstance(value, list):
            return [self._normal(child) for child in value]
        if key == "nodePort":
            return "<port>"
        return self._normal_text(value, key) if isinstance(value, str) else value

    def _normal_text(self, text: str, key: str) -> str:
        if key == "resourceVersion" and text.isdecimal():
            return self._versions.setdefault(text, f"version-{len(self._versions) + 1}")
        if key == "continue":
            return "<token>"
        text = _UID.sub(lambda found: self._uids.setdefault(found[0], f"uid-{len(self._uids) + 1}"), text)
        for version, name in self._versions.items():
            text = re.sub(rf"(record \(){version}\b", rf"\1{name}", text)
        text = _ECHO.sub('"<object>":', text)
        text = re.sub(r"(too old resource version: \d+) \(\d+\)", r"\1 (<oldest>)", text)
        text = _ADDRESS.sub("<address>", _TIME.sub("<time>", _GO_DIFF.sub("", text)))
        return text.replace(self.namespace, "NAMESPACE")

    def _entry(self, entry: dict[str, Any]) -> tuple[str, list[str]]:
        door = f" /{entry['subresource']}" if "subresource" in entry else ""
        timed = "" if "time" in entry else " (no time)"
        who = f"{entry['manager']} {entry['operation']} {entry['apiVersion']}{door}{timed}"
        paths = sorted(from_fields_v1(entry["fieldsV1"]))
        return who.replace(self.namespace, "NAMESPACE"), [self._normal_text(printed(path), "") for path in paths]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not value or not isinstance(value, (dict, list)):
        yield path, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}" if path else key)
    elif all(isinstance(child, str) for child in value):
        yield path, value
    else:
        for index, child in enumerate(value):
            yield from _leaves(child, f"{path}[{index}]")


def _causes(causes: list[dict[str, str]]) -> list[dict[str, str]]:
    """Put conflicts in order, which in Go is that of a map, and drop what is said twice, as for some metadata."""
    once = list({json.dumps(cause): cause for cause in causes}.values())
    return sorted(once, key=json.dumps) if once[0]["reason"] == "FieldManagerConflict" else once


def _title(verb: str, place: str, step: Step) -> str:
    extras = [f"as {step['as']}"] if "as" in step else []
    extras += [f"by {step['user']}"] if "user" in step else []
    if step.get("query"):
        extras.append("with " + " ".join(f"{key}" for key in step["query"]))
    return " ".join([verb, re.sub(r"^/.*/namespaces/[^/]+/(?=.)", "", place), *extras])
