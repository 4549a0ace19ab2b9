"""Creates that are decided as they are read and answered as they become durable, without a task that waits.

A task, and the chain of coroutines from HTTP to the store, cost as much as a pod whose equals were decided before
(`verbs.molds`). So where a body's template is known, who asks is known and may, and a seat is free, the write is
begun in the read callback, and the store's future answers. Everything else goes the whole way, refusals included:
nothing was done yet, so it is told there.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from atoll.base.errors import ApiError, ServerError
from atoll.cluster.apiserver.bodies import JSON, media_type
from atoll.cluster.apiserver.deadlines import timed_out
from atoll.cluster.apiserver.gate import Passage
from atoll.cluster.apiserver.ports import ANONYMOUS, MustWait, User
from atoll.cluster.apiserver.question import Question, Target
from atoll.cluster.apiserver.reading import Translator as Reader
from atoll.cluster.apiserver.refusals import NO_CACHE, refused
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.verbs.create import begin_cast, free_key
from atoll.cluster.store.port import ABSENT, Key, Record, StorageFailed
from atoll.wire.messages import HttpRequest, HttpResponse, Promise

_RESOURCE = ("", "v1", "pods")


class Translator(Reader, Protocol):
    """What is needed of `http.Translator`."""

    def finished(
        self, request: HttpRequest, question: Question, context: Context | None, response: HttpResponse, user: User
    ) -> HttpResponse: ...


def is_json(request: HttpRequest) -> bool:
    """Whether that is how its body is meant."""
    return media_type(request.headers.get("content-type", "")) in ("", JSON)


def create_at_once(translator: Translator, request: HttpRequest) -> Promise | None:
    """See the module; None: it must go the whole way."""
    api, gate, aggregation = translator.api, translator.gate, translator.aggregation
    if request.query or request.method != "POST" or not is_json(request) or (gate is not None and gate.audits):
        return None
    read = api.molds.read(request.body)
    if read is None:
        return None
    question = translator.questions.of(request)
    path = question.path
    if path is None or (path.group, path.version, path.plural) != _RESOURCE or path.name or not path.namespace:
        return None
    if aggregation is not None and aggregation.find(path.group, path.version) is not None:
        return None
    started = api.clock.monotonic()
    try:
        attributes = question.asked_by(request, translator.identify(request))
        if attributes.user is ANONYMOUS or not translator.authorizer.authorize(attributes).allowed:
            return None
        target = translator.questions.target(question, path)
    except (ApiError, MustWait):
        return None
    context = Context(attributes.user, question.manager)
    if target.served.deprecation:
        context.warn(target.served.deprecation)
    mold = api.molds.find_read(read, path.namespace, context)
    key = None if mold is None else free_key(api, target.served, path.namespace, read.name, read.prefix)
    if mold is None or key is None:
        return None
    creating = _Creating(translator, request, question, target, context, key, started)
    if gate is not None:
        creating.passage = gate.promise(request, question, attributes, started, creating)
        if creating.passage is None:
            return None
    try:
        begin_cast(api, context, key, mold).add_done_callback(creating.stored)
    except StorageFailed as error:  # the store is closed
        asyncio.get_running_loop().call_soon(creating.refuse, error)
    return creating


class _Creating(Promise):
    """One such create on its way to the disk."""

    __slots__ = (
        "_answered", "_context", "_key", "_question", "_request", "_started", "_target", "_translator", "passage"
    )  # fmt: skip

    def __init__(
        self,
        translator: Translator,
        request: HttpRequest,
        question: Question,
        target: Target,
        context: Context,
        key: Key,
        started: float,
    ) -> None:
        super().__init__()
        self._translator = translator
        self._request = request
        self._question = question
        self._target = target
        self._context = context
        self._key = key
        self._started = started
        self._answered = False
        self.passage: Passage | None = None

    def stored(self, written: asyncio.Future[Record]) -> None:
        """It is durable, or failed."""
        error = written.exception()
        if error is not None:
            self.refuse(error)
            return
        translator, target = self._translator, self._target
        api = translator.api
        if api.observe_write is not None:
            api.observe_write(self._key, ABSENT, False, api.clock.monotonic() - self._started)
        body = translator.encoder.record(target.served, written.result(), target.form)
        self._answer(HttpResponse(201, [("Content-Type", target.form.content_type), NO_CACHE], body))

    def refuse(self, error: BaseException) -> None:
        """Storage failed."""
        self._answer(refused(self._request, ServerError(f"etcdserver: {error}")))

    def cancel(self) -> None:
        """Its time is up; what becomes of the write is not known to its client."""
        self._answer(refused(self._request, timed_out()))

    def _answer(self, response: HttpResponse) -> None:
        if self._answered:
            return
        self._answered = True
        translator, context = self._translator, self._context
        response = translator.finished(self._request, self._question, context, response, context.user)
        if translator.gate is not None and self.passage is not None:
            response = translator.gate.leave(self.passage, response)
        self.respond(response)
