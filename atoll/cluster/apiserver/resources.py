"""A request on a resource, taken apart, to its verb; what the verb answers to JSON, YAML, a table, a stream of events.

Who asks and whether they may has been settled (`http`). Errors are raised, for `http` to say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from atoll.base.errors import ApiError, BadRequest, Gone, UnsupportedMediaType
from atoll.client.port import APPLY_PATCH
from atoll.cluster.apiserver import bodies, problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.creating import is_json
from atoll.cluster.apiserver.encode import Encoder, Form
from atoll.cluster.apiserver.gate import Gate
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import User
from atoll.cluster.apiserver.refusals import MAX_BODY_BYTES, NO_CACHE, error_frame
from atoll.cluster.apiserver.request import (
    Context,
    ListOptions,
    delete_options,
    list_options,
    parse_query,
    write_options,
)
from atoll.cluster.apiserver.selection import selection
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import delete as deleting
from atoll.cluster.apiserver.verbs import dispatch
from atoll.cluster.apiserver.verbs import watch as watching
from atoll.cluster.apiserver.verbs.accept import unregistered
from atoll.cluster.apiserver.verbs.answer import Answer
from atoll.cluster.apiserver.verbs.commit import LARGE_BYTES
from atoll.cluster.apiserver.verbs.get import get, ready_to_get
from atoll.cluster.apiserver.verbs.list import list_page
from atoll.cluster.apiserver.verbs.patch import CONTENT_TYPES as PATCH_TYPES
from atoll.cluster.apiserver.verbs.patch import CUSTOM_TYPES as CUSTOM_PATCH_TYPES
from atoll.kinds import schemas
from atoll.kinds.decode import DecodeError, decode
from atoll.wire.messages import HttpRequest, HttpResponse

_MIN_WATCH_SECONDS = 1800
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"


class Asked(Struct):
    """One request on a resource, taken apart."""

    request: HttpRequest
    path: Path
    served: Served
    user: User
    form: Form
    context: Context

    @property
    def namespace(self) -> str:
        return self.path.namespace if self.served.resource.namespaced else ""


class Resources:
    """See the module."""

    def __init__(self, api: Api, encoder: Encoder) -> None:
        self._api = api
        self._encoder = encoder

    async def answer(self, asked: Asked, gate: Gate | None) -> HttpResponse:
        """`gate` counts what watches send. Raises ApiError."""
        path, method = asked.path, asked.request.method
        if path.watch and method == "GET":
            return self._watch(asked, list_options(asked.request.query), gate, path.name)
        if not path.name:
            return await self._collection(asked, gate)
        allowed = asked.served.entry.verbs
        if path.subresource:
            found = asked.served.entry.subresource(path.subresource)
            allowed = found.verbs if found is not None else ()
        if method == "GET" and "get" in allowed:
            return await self._get(asked)
        if method == "POST" and path.subresource and "create" in allowed:
            return await self._create(asked)
        if method == "PUT" and "update" in allowed:
            return await self._update(asked)
        if method == "PATCH" and "patch" in allowed:
            return await self._patch(asked)
        if method == "DELETE" and "delete" in allowed:
            return await self._delete(asked)
        raise problems.method_not_allowed()

    async def _collection(self, asked: Asked, gate: Gate | None) -> HttpResponse:
        method, verbs = asked.request.method, asked.served.entry.verbs
        in_one = not asked.served.resource.namespaced or bool(asked.path.namespace)
        if method == "GET" and "list" in verbs:
            options = list_options(asked.request.query)
            return self._watch(asked, options, gate) if options.watch else await self._list(asked, options)
        if method == "POST" and "create" in verbs and in_one:
            return await self._create(asked)
        if method == "DELETE" and "deletecollection" in verbs and in_one:
            return await self._delete_collection(asked)
        raise problems.method_not_allowed()

    async def _get(self, asked: Asked) -> HttpResponse:
        path, served = asked.path, asked.served
        if path.subresource and path.subresource != "status":
            query = parse_query(asked.request.query)
            answer = await dispatch.get_subresource(
                self._api, asked.context, served, asked.namespace, path.name, path.subresource, query
            )
            return self._answer(asked, answer)
        if served.converter is not None:
            await ready_to_get(self._api, served, asked.namespace, path.name)
        return self._object(asked)

    def _object(self, asked: Asked) -> HttpResponse:
        version = ""
        if asked.request.query:
            version = (parse_query(asked.request.query).get("resourceVersion") or [""])[0]
        record = get(self._api, asked.served, asked.namespace, asked.path.name, version)
        return self._ok(asked.form, self._encoder.record(asked.served, record, asked.form))

    async def _list(self, asked: Asked, options: ListOptions) -> HttpResponse:
        served = asked.served
        chosen = selection(served, options.label_selector, options.field_selector)
        page = await list_page(self._api, served, asked.namespace or None, options, chosen)
        await served.ready(*page.records)
        return self._ok(asked.form, self._encoder.page(served, page, asked.form))

    def _watch(self, asked: Asked, options: ListOptions, gate: Gate | None, name: str = "") -> HttpResponse:
        served = asked.served
        if "watch" not in served.entry.verbs:
            raise problems.method_not_supported(served.resource, "watch")
        seconds = options.timeout_seconds or _MIN_WATCH_SECONDS * (1.0 + self._api.jitter.random())
        options = replace(options, watch=True, timeout_seconds=int(seconds))
        chosen = selection(served, options.label_selector, options.field_selector, name)
        headers = [("Content-Type", "application/json"), NO_CACHE]
        try:
            batches = watching.start(self._api, served, asked.namespace or None, options, chosen)
        except Gone as error:  # an event of the stream, as upstream
            return HttpResponse(200, headers, error_frame(error))
        return HttpResponse(200, headers, stream=self._frames(served, asked.form, batches, gate))

    async def _frames(
        self, served: Served, form: Form, batches: AsyncIterator[watching.Batch], gate: Gate | None
    ) -> AsyncIterator[bytes]:
        """Without what was asked: a watch lives long."""
        frames = self._encoder.frames
        events = None if gate is None else gate.watch_events(served)
        first = True
        try:
            async for batch in batches:
                if served.converter is not None:
                    await served.ready(*[shown.record for shown in batch if shown.record is not None])
                if events is not None:
                    events.value += len(batch)
                yield frames(served, batch, form, first)
                first = False
        except ApiError as error:
            yield error_frame(error)
        finally:
            closing = getattr(batches, "aclose", None)
            if closing is not None:
                await closing()

    async def _create(self, asked: Asked) -> HttpResponse:
        path, context = asked.path, asked.context
        self._write_context(asked, "CreateOptions")
        raw, repeated = self._body(asked)
        if path.subresource:
            answer = await dispatch.create_subresource(
                self._api, context, asked.served, asked.namespace, path.name, path.subresource, raw, repeated
            )
        else:
            body = asked.request.body if is_json(asked.request) else b""
            answer = await dispatch.create(self._api, context, asked.served, asked.namespace, raw, repeated, body)
        return self._answer(asked, answer)

    async def _update(self, asked: Asked) -> HttpResponse:
        path = asked.path
        self._write_context(asked, "UpdateOptions")
        raw, repeated = self._body(asked)
        answer = await dispatch.update(
            self._api, asked.context, asked.served, asked.namespace, path.name, path.subresource, raw, repeated
        )
        return self._answer(asked, answer)

    async def _patch(self, asked: Asked) -> HttpResponse:
        path, request = asked.path, asked.request
        content_type = bodies.media_type(request.headers.get("content-type", ""))
        if content_type not in PATCH_TYPES:
            if asked.served.custom is None:
                raise UnsupportedMediaType("415: Unsupported Media Type", details={})
            raise bodies.unknown_format(CUSTOM_PATCH_TYPES)
        options = write_options(request.query, "PatchOptions", content_type == APPLY_PATCH)
        self._set_context(asked.context, options.field_manager, options.field_validation, options.dry_run)
        self._check_size(request.body, asked.context)
        if content_type == APPLY_PATCH:
            body, repeated = bodies.parse_applied(request.body)
        else:
            body, repeated = bodies.parse_patch(request.body, content_type)
        answer = await dispatch.patch(
            self._api, asked.context, asked.served, asked.namespace, path.name, path.subresource, content_type,
            body, options, repeated,
        )  # fmt: skip
        return self._answer(asked, answer)

    async def _delete(self, asked: Asked) -> HttpResponse:
        options, dry_run = delete_options(asked.request.query, self._delete_body(asked))
        asked.context.dry_run = dry_run
        served = asked.served
        done = await deleting.delete(self._api, asked.context, served, asked.namespace, asked.path.name, options)
        accepted = not done.gone and options.orphan_dependents is False
        body = self._encoder.value(deleting.answer(served, done), asked.form)
        return self._ok(asked.form, body, 202 if accepted else 200)

    async def _delete_collection(self, asked: Asked) -> HttpResponse:
        listing = list_options(asked.request.query)
        options, asked.context.dry_run = delete_options(asked.request.query, self._delete_body(asked))
        served = asked.served
        chosen = selection(served, listing.label_selector, listing.field_selector)
        page = await deleting.delete_collection(
            self._api, asked.context, served, asked.namespace or None, options, listing, chosen
        )
        return self._ok(asked.form, self._encoder.page(served, page, asked.form))

    def _write_context(self, asked: Asked, kind: str) -> None:
        query = asked.request.query
        if query:
            options = write_options(query, kind)
            self._set_context(asked.context, options.field_manager, options.field_validation, options.dry_run)

    @staticmethod
    def _set_context(context: Context, manager: str, validation: str, dry_run: bool) -> None:
        context.field_manager = manager or context.field_manager
        context.field_validation = validation or context.field_validation
        context.dry_run = dry_run
        given = {"dryRun": ["All"] if dry_run else None, "fieldManager": manager, "fieldValidation": validation}
        context.options = {name: value for name, value in given.items() if value}

    def _body(self, asked: Asked) -> tuple[Any, bodies.Repeated]:
        request = asked.request
        self._check_size(request.body, asked.context)
        content_type = bodies.media_type(request.headers.get("content-type", ""))
        return bodies.parse(request.body, content_type, asked.served.resource.kind)

    def _delete_body(self, asked: Asked) -> Any:
        request = asked.request
        if not request.body:
            return None
        self._check_size(request.body, asked.context)
        content_type = bodies.media_type(request.headers.get("content-type", ""))
        value, _ = bodies.parse(request.body, content_type, "DeleteOptions")
        if value is not None and not isinstance(value, dict):
            raise BadRequest("DeleteOptions must be an object")
        if value and value.get("kind") not in (None, "", "DeleteOptions"):
            version = value.get("apiVersion") or "meta.k8s.io/v1"
            raise BadRequest(unregistered(str(value["kind"]), version))
        if not value:
            return value
        try:
            decoded, _ = decode(value, schemas.builtin().node(_DELETE_OPTIONS))
        except DecodeError as error:
            raise BadRequest(str(error)) from None
        return decoded

    @staticmethod
    def _check_size(body: bytes, context: Context) -> None:
        if len(body) > LARGE_BYTES:
            context.large = True
            if len(body) > MAX_BODY_BYTES:
                raise problems.body_too_large(MAX_BODY_BYTES)

    def _answer(self, asked: Asked, answer: Answer) -> HttpResponse:
        status = 201 if answer.created else 200
        if answer.served is not None and answer.record is not None:
            return self._ok(asked.form, self._encoder.record(answer.served, answer.record, asked.form), status)
        return self._ok(asked.form, self._encoder.value(answer.value, asked.form), status)

    @staticmethod
    def _ok(form: Form, body: bytes, status: int = 200) -> HttpResponse:
        return HttpResponse(status, [("Content-Type", form.content_type), NO_CACHE], body)
