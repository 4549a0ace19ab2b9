"""The translation between HTTP and the verbs: who asks, may they, what do they ask, and how is it answered.

`http_handler(api, authenticate, authorizer, …)` gives the handler for `atoll.wire.server`. In order: path →
identity (certificate, token, impersonation) → authorization → body → verb → representation. Every error is a
Status in upstream's words; nothing else leaves here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct
from msgspec.structs import replace

from atoll.base.errors import (
    ApiError,
    AtollError,
    BadRequest,
    Gone,
    InternalError,
    UnsupportedMediaType,
)
from atoll.client.port import APPLY_PATCH
from atoll.cluster.apiserver import bodies, problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.attributes import attributes_of
from atoll.cluster.apiserver.creating import create_at_once, is_json
from atoll.cluster.apiserver.deadlines import timed_out
from atoll.cluster.apiserver.encode import Encoder, Form
from atoll.cluster.apiserver.gate import Gate, Passage
from atoll.cluster.apiserver.nonresource import NonResource
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import ANONYMOUS, Attributes, Authorizer, Decision, MustWait, User, decide
from atoll.cluster.apiserver.question import Question, Questions
from atoll.cluster.apiserver.reading import get_at_once
from atoll.cluster.apiserver.refusals import (
    MAX_BODY_BYTES,
    NO_CACHE,
    error_frame,
    refused,
    warning_header,
)
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
from atoll.cluster.apiserver.verbs.connect import admit as admit_connect
from atoll.cluster.apiserver.verbs.get import get, ready_to_get
from atoll.cluster.apiserver.verbs.list import list_page
from atoll.cluster.apiserver.verbs.patch import CONTENT_TYPES as PATCH_TYPES
from atoll.cluster.apiserver.verbs.patch import CUSTOM_TYPES as CUSTOM_PATCH_TYPES
from atoll.kinds import schemas
from atoll.kinds.decode import DecodeError, decode
from atoll.wire.messages import HttpRequest, HttpResponse, Promise

if TYPE_CHECKING:
    from atoll.cluster.apiserver.aggregation.proxy import Proxy
    from atoll.cluster.apiserver.audit.auditor import Audited


log = logging.getLogger(__name__)

_NOBODY = User("")
_MIN_WATCH_SECONDS = 1800
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_CONNECTING = frozenset({"exec", "attach", "portforward", "proxy", "log"})

Identify = Callable[[HttpRequest], User]
"""Raises Unauthorized, or MustWait where another program knows; impersonation included."""

Streaming = Callable[[HttpRequest, User, Served, Path], Awaitable[HttpResponse]]
"""pods/log, exec, attach, portforward, proxy; services/proxy, nodes/proxy: (request, user, served, path)."""


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


class Translator(Struct):
    """See the module. All but `api` and `identify` may be left out in tests."""

    api: Api
    identify: Identify
    authorizer: Authorizer
    encoder: Encoder
    nonresource: NonResource
    questions: Questions
    streaming: Streaming | None = None
    connect: Mapping[tuple[str, str, str], Streaming] = {}
    gate: Gate | None = None
    aggregation: Proxy | None = None

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        context: Context | None = None
        passage: Passage | None = None
        audited: Audited | None = None
        user = _NOBODY
        panicked = False
        gate = self.gate
        question = self.questions.of(request)
        path = question.path
        started = gate.now() if gate is not None else 0.0
        try:
            try:
                user = self.identify(request)
            except MustWait as waiting:
                user = await waiting.finish()
            attributes = question.asked_by(request, user)
            if gate is not None:
                passage = gate.arrive(request, path, attributes, started)
                audited = passage.audited
                if passage.lane is None:
                    await gate.enter(passage)
            if path is None:
                await self._authorize_path(attributes, audited)
                backend = None if self.aggregation is None else self.aggregation.of_path(request.path)
                if self.aggregation is not None and backend is not None:
                    response = await self.aggregation(request, user, backend)
                else:
                    response = await self.nonresource(request, user)
            elif self.aggregation is not None and (backend := self.aggregation.find(path.group, path.version)):
                await self._authorize_path(attributes, audited)
                response = await self.aggregation(request, user, backend)
            else:
                try:
                    asked = self.take_apart(request, question, attributes, audited)
                except MustWait as waiting:
                    asked = self.take_apart(request, question, attributes, audited, await waiting.finish())
                context = asked.context
                response = await self._resource(asked)
        except asyncio.CancelledError:
            if gate is None or passage is None or not gate.is_late(passage):
                raise
            response = refused(request, timed_out())
        except Exception as error:
            panicked = not isinstance(error, AtollError)
            response = refused(request, error)
        response = self.finished(request, question, context, response, user)
        if gate is None:
            return response
        if passage is None:
            gate.unauthenticated(request, attributes_of(request, path, _NOBODY), response)
            return response
        return gate.leave(passage, response, panicked)

    def immediate(self, request: HttpRequest) -> HttpResponse | Promise | None:
        """The answer to the GET of one object, the promise of one to some creates; None for anything else."""
        return get_at_once(self, request) if request.method == "GET" else create_at_once(self, request)

    def finished(
        self, request: HttpRequest, question: Question, context: Context | None, response: HttpResponse, user: User
    ) -> HttpResponse:
        if request.http2 and (user is ANONYMOUS or user is _NOBODY):  # as upstream, against floods
            response.headers.append(("Connection", "close"))
        if context is not None and context.warnings:
            response.headers.extend(("Warning", warning_header(text)) for text in context.warnings)
        path = question.path
        if question.for_people and (path is None or path.subresource not in _CONNECTING):
            _indent(request, response)
        if request.method == "HEAD":
            response.body = b""
        return response

    async def _authorize_path(self, asked: Attributes, audited: Audited | None) -> None:
        decision = await decide(self.authorizer, asked)
        if audited is not None:
            audited.decided(decision.allowed, decision.reason)
        if not decision.allowed:
            raise problems.denied(asked, decision.reason)

    def take_apart(
        self,
        request: HttpRequest,
        question: Question,
        attributes: Attributes,
        audited: Audited | None = None,
        decision: Decision | None = None,
    ) -> Asked:
        """`decision`: where it had to be waited for. Raises MustWait, Forbidden, NotFound, NotAcceptable."""
        path, user = question.path, attributes.user
        assert path is not None
        if decision is None:
            decision = self.authorizer.authorize(attributes)
        if audited is not None:
            audited.decided(decision.allowed, decision.reason)
        if not decision.allowed:
            raise problems.denied(attributes, decision.reason)
        target = self.questions.target(question, path)
        context = Context(user, question.manager)
        if audited is not None:
            context.annotations = audited.annotations
        if target.served.deprecation:
            context.warn(target.served.deprecation)
        return Asked(request, path, target.served, user, target.form, context)

    async def _resource(self, asked: Asked) -> HttpResponse:
        path, method = asked.path, asked.request.method
        connect = self.connect.get((path.group, path.plural, path.subresource)) if path.subresource else None
        if connect is not None:
            return await connect(asked.request, asked.user, asked.served, path)
        if path.subresource in _CONNECTING:
            if self.streaming is None:
                raise problems.no_such_path()
            if path.subresource != "log":
                request = asked.request
                request.query = await admit_connect(self.api, asked.context, asked.served, path, request.query)
            return await self.streaming(asked.request, asked.user, asked.served, path)
        if path.watch and method == "GET":
            return self._watch(asked, list_options(asked.request.query), path.name)
        if not path.name:
            return await self._collection(asked)
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

    async def _collection(self, asked: Asked) -> HttpResponse:
        method, verbs = asked.request.method, asked.served.entry.verbs
        in_one = not asked.served.resource.namespaced or bool(asked.path.namespace)
        if method == "GET" and "list" in verbs:
            options = list_options(asked.request.query)
            return self._watch(asked, options) if options.watch else await self._list(asked, options)
        if method == "POST" and "create" in verbs and in_one:
            return await self._create(asked)
        if method == "DELETE" and "deletecollection" in verbs and in_one:
            return await self._delete_collection(asked)
        raise problems.method_not_allowed()

    async def _get(self, asked: Asked) -> HttpResponse:
        path, served = asked.path, asked.served
        if path.subresource and path.subresource != "status":
            answer = await dispatch.get_subresource(
                self.api, asked.context, served, asked.namespace, path.name, path.subresource
            )
            return self._answer(asked, answer)
        if served.converter is not None:
            await ready_to_get(self.api, served, asked.namespace, path.name)
        return self._object(asked)

    def _object(self, asked: Asked) -> HttpResponse:
        version = ""
        if asked.request.query:
            version = (parse_query(asked.request.query).get("resourceVersion") or [""])[0]
        record = get(self.api, asked.served, asked.namespace, asked.path.name, version)
        return self._ok(asked.form, self.encoder.record(asked.served, record, asked.form))

    async def _list(self, asked: Asked, options: ListOptions) -> HttpResponse:
        served = asked.served
        chosen = selection(served, options.label_selector, options.field_selector)
        page = await list_page(self.api, served, asked.namespace or None, options, chosen)
        await served.ready(*page.records)
        return self._ok(asked.form, self.encoder.page(served, page, asked.form))

    def _watch(self, asked: Asked, options: ListOptions, name: str = "") -> HttpResponse:
        served = asked.served
        if "watch" not in served.entry.verbs:
            raise problems.method_not_supported(served.resource, "watch")
        seconds = options.timeout_seconds or _MIN_WATCH_SECONDS * (1.0 + self.api.jitter.random())
        options = replace(options, watch=True, timeout_seconds=int(seconds))
        chosen = selection(served, options.label_selector, options.field_selector, name)
        headers = [("Content-Type", "application/json"), NO_CACHE]
        try:
            batches = watching.start(self.api, served, asked.namespace or None, options, chosen)
        except Gone as error:  # an event of the stream, as upstream
            return HttpResponse(200, headers, error_frame(error))
        return HttpResponse(200, headers, stream=self._frames(served, asked.form, batches))

    async def _frames(self, served: Served, form: Form, batches: AsyncIterator[watching.Batch]) -> AsyncIterator[bytes]:
        """Without what was asked: a watch lives long."""
        frames = self.encoder.frames
        events = None if self.gate is None else self.gate.watch_events(served)
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
                self.api, context, asked.served, asked.namespace, path.name, path.subresource, raw, repeated
            )
        else:
            body = asked.request.body if is_json(asked.request) else b""
            answer = await dispatch.create(self.api, context, asked.served, asked.namespace, raw, repeated, body)
        return self._answer(asked, answer)

    async def _update(self, asked: Asked) -> HttpResponse:
        path = asked.path
        self._write_context(asked, "UpdateOptions")
        raw, repeated = self._body(asked)
        answer = await dispatch.update(
            self.api, asked.context, asked.served, asked.namespace, path.name, path.subresource, raw, repeated
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
            self.api, asked.context, asked.served, asked.namespace, path.name, path.subresource, content_type,
            body, options, repeated,
        )  # fmt: skip
        return self._answer(asked, answer)

    async def _delete(self, asked: Asked) -> HttpResponse:
        options, dry_run = delete_options(asked.request.query, self._delete_body(asked))
        asked.context.dry_run = dry_run
        served = asked.served
        done = await deleting.delete(self.api, asked.context, served, asked.namespace, asked.path.name, options)
        accepted = not done.gone and options.orphan_dependents is False
        body = self.encoder.value(deleting.answer(served, done), asked.form)
        return self._ok(asked.form, body, 202 if accepted else 200)

    async def _delete_collection(self, asked: Asked) -> HttpResponse:
        listing = list_options(asked.request.query)
        options, asked.context.dry_run = delete_options(asked.request.query, self._delete_body(asked))
        served = asked.served
        chosen = selection(served, listing.label_selector, listing.field_selector)
        page = await deleting.delete_collection(
            self.api, asked.context, served, asked.namespace or None, options, listing, chosen
        )
        return self._ok(asked.form, self.encoder.page(served, page, asked.form))

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
            return self._ok(asked.form, self.encoder.record(answer.served, answer.record, asked.form), status)
        return self._ok(asked.form, self.encoder.value(answer.value, asked.form), status)

    @staticmethod
    def _ok(form: Form, body: bytes, status: int = 200) -> HttpResponse:
        return HttpResponse(status, [("Content-Type", form.content_type), NO_CACHE], body)


def _indent(request: HttpRequest, response: HttpResponse) -> None:
    """Indent JSON that a person reads, unless they say otherwise; OpenAPI documents never are."""
    given = parse_query(request.query).get("pretty")
    if given and given[0] and given[0].lower() not in ("1", "t", "true"):
        return
    if response.stream is not None or not response.body or request.path.startswith("/openapi"):
        return
    if any(name == "Content-Type" and value.startswith("application/json") for name, value in response.headers):
        response.body = orjson.dumps(orjson.loads(response.body), option=orjson.OPT_INDENT_2)


def http_handler(
    api: Api,
    identify: Identify,
    authorizer: Authorizer,
    *,
    streaming: Streaming | None = None,
    connect: Mapping[tuple[str, str, str], Streaming] | None = None,
    gate: Gate | None = None,
) -> Translator:
    """The handler for a server, and its `immediate`; also makes `LocalClient.raw` work.

    `connect`: subresources that another part answers whole, by (group, plural, subresource): ("cluster.karmada.io",
    "clusters", "proxy") of a hub. They are authorized here like any other.
    """
    connect = connect or {}
    translator = Translator(
        api, identify, authorizer, Encoder(api.clock), NonResource(api), Questions(api, connect), streaming, connect,
        gate=gate,
    )  # fmt: skip
    api.raw = _raw(translator)
    return translator


def _raw(translator: Translator) -> Any:
    async def raw(
        user: User, method: str, path: str, query: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        inner = replace(translator, identify=lambda _: user, gate=None)
        lowered = {key.lower(): value for key, value in headers.items()}
        response = await inner(HttpRequest(method, path, query, lowered, body))
        data = response.body
        if response.stream is not None:
            data = b"".join([chunk async for chunk in response.stream])
        if response.upgrade is not None:
            raise InternalError("an upgraded connection has no in-process form")
        return response.status, response.headers, data

    return raw
