"""The translation between HTTP and the verbs: who asks, may they, what do they ask, and how is it answered.

`http_handler(api, authenticate, authorizer, …)` gives the handler for `atoll.wire.server`. In order: path →
identity (certificate, token, impersonation) → authorization → body → verb → representation. Every error is a
Status in upstream's words; nothing else leaves here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct
from msgspec.structs import replace

from atoll.base.errors import AtollError, InternalError
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.attributes import attributes_of
from atoll.cluster.apiserver.creating import create_at_once
from atoll.cluster.apiserver.deadlines import timed_out
from atoll.cluster.apiserver.encode import Encoder
from atoll.cluster.apiserver.gate import Gate, Passage
from atoll.cluster.apiserver.nonresource import NonResource
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import ANONYMOUS, Attributes, Authorizer, Decision, MustWait, User, decide
from atoll.cluster.apiserver.question import Question, Questions
from atoll.cluster.apiserver.reading import get_at_once
from atoll.cluster.apiserver.refusals import refused, warning_header
from atoll.cluster.apiserver.request import Context, parse_query
from atoll.cluster.apiserver.resources import Asked, Resources
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.connect import admit as admit_connect
from atoll.wire.messages import HttpRequest, HttpResponse, Promise

if TYPE_CHECKING:
    from atoll.cluster.apiserver.aggregation.proxy import Proxy
    from atoll.cluster.apiserver.audit.auditor import Audited


log = logging.getLogger(__name__)

_NOBODY = User("")
_CONNECTING = frozenset({"exec", "attach", "portforward", "proxy", "log"})

Identify = Callable[[HttpRequest], User]
"""Raises Unauthorized, or MustWait where another program knows; impersonation included."""

Streaming = Callable[[HttpRequest, User, Served, Path], Awaitable[HttpResponse]]
"""pods/log, exec, attach, portforward, proxy; services/proxy, nodes/proxy: (request, user, served, path)."""


class Translator(Struct):
    """See the module. All but `api` and `identify` may be left out in tests."""

    api: Api
    identify: Identify
    authorizer: Authorizer
    encoder: Encoder
    resources: Resources
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
                passage = gate.arrive(request, question, attributes, started)
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
        path = asked.path
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
        return await self.resources.answer(asked, self.gate)


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
    connect, encoder = connect or {}, Encoder(api.clock)
    translator = Translator(
        api, identify, authorizer, encoder, Resources(api, encoder), NonResource(api), Questions(api, connect),
        streaming, connect, gate,
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
