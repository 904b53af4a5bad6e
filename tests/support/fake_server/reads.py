"""The reads of the stand-in: list with selectors and pages, and watch with bookmarks, resumption and 410 Gone."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from support import api_errors as errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fake_server.request import Target
    from support.fake_server.store import Change, Store

Object = dict[str, Any]
Query = dict[str, str]
Match = Callable[[Object], bool]

BOOKMARK_SECONDS = 60.0
_ALWAYS_SELECTABLE = {"metadata.name", "metadata.namespace"}
_SELECTABLE = {
    "Event": {"involvedObject.kind", "involvedObject.name", "involvedObject.uid", "reason", "type"},
    "Pod": {"spec.nodeName", "status.phase"},
    "Secret": {"type"},
}


def list_objects(store: Store, at: Target, query: Query) -> Object:
    """GET of a collection."""
    _check_version(store, query)
    wanted = matcher(at, query)
    objects = [obj for obj in store.of(at.kind, at.namespace) if wanted(obj)]
    version, after = _continued(query["continue"]) if query.get("continue") else (store.version, None)
    if version < store.oldest:
        raise errors.expired("The provided continue parameter is too old to display a consistent list result.")
    if after is not None:
        objects = [obj for obj in objects if _place(obj) > after]
    metadata: Object = {"resourceVersion": str(version)}
    limit = int(query.get("limit", 0))
    if limit and len(objects) > limit:
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(objects) - limit
        objects = objects[:limit]
        token = json.dumps({"rv": version, "start": _place(objects[-1])})
        metadata["continue"] = base64.urlsafe_b64encode(token.encode()).decode()
    if at.kind.custom is not None:
        metadata.setdefault("continue", "")
    else:  # built-in lists do not repeat the kind in each item
        objects = [{key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}} for obj in objects]
    return {"kind": f"{at.kind.name}List", "apiVersion": at.kind.api_version, "metadata": metadata, "items": objects}


def _check_version(store: Store, query: Query) -> None:
    version = query.get("resourceVersion", "0") or "0"
    if not version.isdecimal():
        raise errors.bad_request(f"Invalid value: {version!r}")
    if int(version) > store.version:
        status = errors.ApiError(
            504,
            "Timeout",
            f"Timeout: Too large resource version: {version}, current: {store.version}",
            {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            },
        )
        raise status


def _continued(token: str) -> tuple[int, list[str]]:
    try:
        content = json.loads(base64.urlsafe_b64decode(token))
        return content["rv"], content["start"]
    except ValueError:
        raise errors.bad_request("continue key is not valid") from None


def _place(obj: Object) -> list[str]:
    return [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]


# --- selectors --------------------------------------------------------------------------------------------------------


def matcher(at: Target, query: Query) -> Match:
    """Return what decides whether an object is wanted: by namespace, name and both selectors."""
    labels = [_requirement(text) for text in _split(query.get("labelSelector", ""))]
    fields = [_field(at, text) for text in query.get("fieldSelector", "").split(",") if text]

    def wanted(obj: Object) -> bool:
        metadata = obj["metadata"]
        if at.namespace and metadata.get("namespace") != at.namespace:
            return False
        own = metadata.get("labels", {})
        return all(test(own) for test in labels) and all(test(obj) for test in fields)

    return wanted


def _split(selector: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _requirement(text: str) -> Callable[[dict[str, str]], bool]:
    in_set = re.fullmatch(r"(\S+)\s+(in|notin)\s*\(([^)]*)\)", text)
    if in_set:
        key, values = in_set[1], {value.strip() for value in in_set[3].split(",")}
        return lambda labels: (labels.get(key) in values) == (in_set[2] == "in")
    pair = re.fullmatch(r"([^=!\s]+)\s*(==|=|!=)\s*(\S*)", text)
    if pair:
        key, operator, value = pair.groups()
        return lambda labels: (labels.get(key) == value) == (operator != "!=")
    if text.startswith("!"):
        return lambda labels: text[1:] not in labels
    if re.search(r"[=,()\s]", text):
        raise errors.bad_request(f"unable to parse requirement: {text}")
    return lambda labels: text in labels


def _field(at: Target, text: str) -> Match:
    key, operator, value = re.split(r"(!=|==|=)", text, maxsplit=1)
    if key not in _ALWAYS_SELECTABLE | _SELECTABLE.get(at.kind.name, set()):
        known = '"metadata.name", "metadata.namespace"'
        raise errors.bad_request(f'"{key}" is not a known field selector: only {known}')

    def test(obj: Object) -> bool:
        found: Any = obj
        for part in key.split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        return (found == value) == (operator != "!=")

    return test


# --- watch ------------------------------------------------------------------------------------------------------------


async def watch(store: Store, at: Target, query: Query) -> AsyncIterator[Object]:
    """Yield watch events: first what is missed since `resourceVersion`, then what happens, until the timeout."""
    wanted = matcher(at, query)
    initial, since = _start(store, query)
    if since < store.oldest:
        yield {"type": "ERROR", "object": _too_old(since, store)}
        return
    news: asyncio.Queue[Change | None] = asyncio.Queue()
    missed = store.history[bisect_right(store.history, since, key=lambda change: change.version) :]
    store.watches.append((at.kind, news))
    try:
        if initial:
            for obj in store.of(at.kind, at.namespace):
                if wanted(obj):
                    yield {"type": "ADDED", "object": obj}
        if query.get("sendInitialEvents") == "true":
            yield _bookmark(at, store.version, {"k8s.io/initial-events-end": "true"})
        for change in missed:
            event = _event(change, at, wanted)
            if event:
                yield event
        async for event in _live(store, at, query, news, wanted):
            yield event
    finally:
        store.watches.remove((at.kind, news))


def _start(store: Store, query: Query) -> tuple[bool, int]:
    version = query.get("resourceVersion", "")
    if query.get("sendInitialEvents") == "true" or version in {"", "0"}:
        return True, store.version
    return False, int(version)


async def _live(
    store: Store, at: Target, query: Query, news: asyncio.Queue[Change | None], wanted: Match
) -> AsyncIterator[Object]:
    deadline = time.monotonic() + float(query.get("timeoutSeconds", 3600))
    bookmarks = query.get("allowWatchBookmarks") == "true"
    while (left := deadline - time.monotonic()) > 0:
        try:
            change = await asyncio.wait_for(news.get(), min(left, BOOKMARK_SECONDS))
        except TimeoutError:
            if bookmarks and time.monotonic() < deadline:
                yield _bookmark(at, store.version)
            continue
        if change is None:
            return
        event = _event(change, at, wanted)
        if event:
            yield event


def _event(change: Change, at: Target, wanted: Match) -> Object | None:
    if change.kind != at.kind:
        return None
    was = change.before is not None and wanted(change.before)
    is_now = change.after is not None and wanted(change.after)
    if not was and not is_now:
        return None
    if not is_now:
        obj = change.object if change.after is None else (change.before or {})
        if change.after is not None:  # left the selection: told as deleted, in the state it was last selected in
            obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(change.version)}}
        return {"type": "DELETED", "object": obj}
    return {"type": "MODIFIED" if was else "ADDED", "object": change.object}


def _bookmark(at: Target, version: int, annotations: dict[str, str] | None = None) -> Object:
    metadata: Object = {"resourceVersion": str(version)}
    if annotations:
        metadata["annotations"] = annotations
    obj = {"kind": at.kind.name, "apiVersion": at.kind.api_version, "metadata": metadata}
    return {"type": "BOOKMARK", "object": obj}


def _too_old(since: int, store: Store) -> Object:
    return errors.expired(f"too old resource version: {since} ({store.oldest})").status
