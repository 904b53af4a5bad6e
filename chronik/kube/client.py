"""Talks to a real API server: `ApiKube` is what `kube.connect` returns.

Each method has one request made by `requests`, or one for each page, sent by `transport`, and reads what comes back.
Kinds that chronik renders cost no discovery; another one, of a template override, is asked for once.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chronik.errors import KindMissing, NamespaceMissing, ObjectMissing, WatchExpired
from chronik.kube.checks.answers import check_event, check_items, check_map, check_object, check_page, check_resources
from chronik.kube.checks.shapes import ShapeError
from chronik.kube.classify import Reply, fail, refuse
from chronik.kube.interface import Listing, WatchEvent
from chronik.kube.messages import RequestInfo
from chronik.kube.requests import (
    Query,
    apply_request,
    create_request,
    delete_request,
    get_request,
    list_request,
    merge_request,
    openapi_request,
    pod_request,
    query,
    secrets_of,
    watch_request,
)
from chronik.manifest import FIELD_MANAGER, KINDS, OTHER_KINDS, POD, Kind, Manifest, ObjectRef

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chronik.errors import ApiError, ConflictError
    from chronik.kube.interface import Propagation
    from chronik.kube.transport import Transport

PAGE_SIZE = 500
EVERYTHING = 0
WATCH_SECONDS = 300  # at least, and up to twice that, as client-go


class ApiKube:
    """A real API server; see `Kube` and `connect`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._kinds = {(kind.api_version, kind.name): kind for kind in (*KINDS, *OTHER_KINDS)}

    @property
    def namespace(self) -> str:
        """The namespace that the options or the context name, else `default`."""
        return self._transport.access.namespace

    async def openapi(self, api_version: str) -> Manifest:
        """Return what the server publishes of a group's version."""
        info = RequestInfo("get", Kind(api_version, "OpenAPI", plural="", stage=-1))
        answer = await self._transport.send(openapi_request(info))
        try:
            return check_map(answer)
        except ShapeError as error:
            raise self._strange(info, error) from error

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None if it does not exist."""
        info = self._object("get", kind, namespace, name)
        try:
            found = await self._transport.send(get_request(info))
        except ObjectMissing:
            return None
        return self._checked(info, found)

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        keep: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    ) -> Listing:
        """Return all objects, read page by page.

        If the version of the pages expires on the way (410), start again, the last time without pages.
        """
        info = RequestInfo("list", kind, namespace or "")
        selectors = query(labelSelector=label_selector, fieldSelector=field_selector)
        for _ in range(2):
            with suppress(WatchExpired):
                return await self._list(info, selectors, PAGE_SIZE, keep)
        return await self._list(info, selectors, EVERYTHING, keep)

    async def _list(
        self, info: RequestInfo, selectors: Query, limit: int, keep: Callable[[Manifest], Manifest]
    ) -> Listing:
        items: list[Manifest] = []
        token = ""
        while True:
            page = await self._transport.send(list_request(info, selectors=selectors, limit=limit, token=token))
            try:
                found, version, following = check_page(page)
                items += [keep(item) for item in check_items(found, info.kind)]
                if following and following == token:
                    raise ShapeError("leads to the same page again").below(".metadata.continue")
            except ShapeError as error:
                raise self._strange(info, error) from error
            token = following
            if not token:
                return Listing(items, version)

    async def ask_pod(self, pod: ObjectRef, port: int, path: str) -> Any:
        """Return the JSON that a pod answers a GET with."""
        info = replace(self._object("get", POD, pod.namespace, f"{pod.name}:{port}"), subresource="proxy")
        return await self._transport.send(pod_request(info, path))

    async def apply(
        self,
        manifest: Manifest,
        *,
        manager: str = FIELD_MANAGER,
        force: bool = False,
        dry_run: bool = False,
        subresource: str = "",
    ) -> Manifest:
        """Apply a manifest on the server; unknown fields are refused."""
        info = await self._about(manifest, "patch", subresource)
        request = apply_request(info, manifest, manager=manager, force=force, dry_run=dry_run)
        return self._checked(info, await self._transport.send(request), stored=not dry_run)

    async def merge(self, kind: Kind, ref: ObjectRef, patch: Manifest, *, dry_run: bool = False) -> Manifest:
        """Merge a patch into an object."""
        info = self._object("patch", kind, ref.namespace, ref.name)
        request = merge_request(info, patch, dry_run=dry_run)
        return self._checked(info, await self._transport.send(request), stored=not dry_run)

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object."""
        info = await self._about(manifest, "create")
        return self._checked(info, await self._transport.send(create_request(info, manifest)))

    async def delete(
        self,
        kind: Kind,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
        dry_run: bool = False,
    ) -> None:
        """Delete an object; one that does not exist counts as deleted."""
        request = delete_request(
            self._object("delete", kind, ref.namespace, ref.name),
            uid=uid,
            resource_version=resource_version,
            propagation=propagation,
            dry_run=dry_run,
        )
        with suppress(ObjectMissing, KindMissing, NamespaceMissing):
            await self._transport.send(request)

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes after a resource version, bookmarks included."""
        info = RequestInfo("watch", kind, namespace or "")
        seconds = int(WATCH_SECONDS * (1 + self._transport.options.clock.chance()))
        selectors = query(labelSelector=label_selector, fieldSelector=field_selector)
        request = watch_request(info, resource_version=resource_version, selectors=selectors, seconds=seconds)
        async with self._transport.stream(request) as events:
            async for event in events:
                try:
                    change, subject = check_event(event, kind)
                except ShapeError as error:
                    raise self._strange(info, error) from error
                if change == "ERROR":
                    raise self._refusal(info, subject)
                yield WatchEvent(change, subject)

    async def _about(self, manifest: Manifest, verb: str, subresource: str = "") -> RequestInfo:
        kind = await self.kind(manifest["apiVersion"], manifest["kind"])
        metadata = manifest["metadata"]
        info = self._object(verb, kind, metadata.get("namespace", ""), metadata.get("name", ""))
        return replace(info, subresource=subresource, secrets=secrets_of(manifest))

    def _object(self, verb: str, kind: Kind, namespace: str, name: str) -> RequestInfo:
        return RequestInfo(verb, kind, (namespace or self.namespace) if kind.namespaced else "", name)

    async def kind(self, api_version: str, name: str) -> Kind:
        """Return how the server names a kind."""
        known = self._kinds.get((api_version, name))
        if known is None:
            known = self._kinds[api_version, name] = await self._discover(api_version, name)
        return known

    async def _discover(self, api_version: str, name: str) -> Kind:
        info = RequestInfo("get", Kind(api_version, name, plural="", stage=-1))
        try:
            found = check_resources(await self._transport.send(get_request(info)))
        except ShapeError as error:
            raise self._strange(info, error) from error
        for resource in found:
            if resource["kind"] == name and "/" not in resource["name"]:
                namespaced = resource.get("namespaced", False)
                return Kind(api_version, name, resource["name"], stage=-1, namespaced=namespaced)
        raise self._refusal(info, {"code": 404, "message": "the server could not find the requested resource"})

    def _checked(self, info: RequestInfo, answer: Any, *, stored: bool = True) -> Manifest:
        """Return the object that was asked for, or written. Raises ApiError if the answer is something else."""
        try:
            return check_object(answer, info.kind, stored=stored)
        except ShapeError as error:
            raise self._strange(info, error) from error

    def _strange(self, info: RequestInfo, error: ShapeError) -> ApiError | ConflictError:
        return fail(info, "garbage", f"{info.verb} {info.subject}: {error}", self._transport.where).error

    def _refusal(self, info: RequestInfo, status: dict[str, Any]) -> ApiError | ConflictError:
        return refuse(info, Reply(status.get("code", 0), json.dumps(status)), self._transport.where).error
