"""The GET of one object, answered in the read callback itself: nothing in it needs a wait, so it needs no task.

What its words ask is remembered (`question`); who asks, whether they may, whether a seat is free and how the object
stands are looked at each time. Whatever is not that plain goes the whole way, refusals included: nothing was counted
yet, so it is told there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from atoll.base.errors import ApiError, AtollError
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.encode import Encoder
from atoll.cluster.apiserver.gate import Gate
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import ANONYMOUS, Authorizer, MustWait, User
from atoll.cluster.apiserver.question import Question, Questions, Reading, Target
from atoll.cluster.apiserver.refusals import NO_CACHE, refused, warning_header
from atoll.cluster.apiserver.request import parse_query
from atoll.cluster.apiserver.verbs.get import get_key
from atoll.wire.messages import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from atoll.cluster.apiserver.aggregation.proxy import Proxy


class Identify(Protocol):
    def __call__(self, request: HttpRequest, /) -> User: ...


class Translator(Protocol):
    """What is needed of `http.Translator`."""

    api: Api
    authorizer: Authorizer
    encoder: Encoder
    questions: Questions
    gate: Gate | None
    aggregation: Proxy | None

    @property
    def identify(self) -> Identify: ...


def get_at_once(translator: Translator, request: HttpRequest) -> HttpResponse | None:
    """See the module; None: it must go the whole way."""
    question = translator.questions.of(request)
    path, aggregation, gate = question.path, translator.aggregation, translator.gate
    if path is None or not path.name or path.subresource or path.watch or question.for_people:
        return None
    if aggregation is not None and aggregation.find(path.group, path.version) is not None:
        return None
    started = gate.now() if gate is not None else 0.0
    try:
        attributes = question.asked_by(request, translator.identify(request))
        if request.http2 and attributes.user is ANONYMOUS:
            return None
        target = translator.questions.target(question, path)
        reading = question.reading
        if reading is None or reading.target is not target:
            reading = question.reading = _reading(question, path, target)
        decision = translator.authorizer.authorize(attributes)
        if not reading.plain or not decision.allowed:
            return None
    except (ApiError, MustWait):
        return None
    lane = None if gate is None else gate.at_once(attributes)
    if gate is not None and lane is None:
        return None
    audited = None if gate is None else gate.audit(request, attributes, decision)
    panicked = False
    try:
        record = get_key(translator.api, target.served, reading.key, reading.version)
        body = translator.encoder.record(target.served, record, target.form)
        response = HttpResponse(200, [*reading.headers], body)
    except Exception as error:
        panicked = not isinstance(error, AtollError)
        response = refused(request, error)
        response.headers.extend(reading.warnings)
    if gate is None or lane is None:
        return response
    return gate.answered(request, question, attributes, lane, started, response, audited, panicked)


def _reading(question: Question, path: Path, target: Target) -> Reading:
    served = target.served
    warnings = (("Warning", warning_header(served.deprecation)),) if served.deprecation else ()
    return Reading(
        target,
        "get" in served.entry.verbs and served.converter is None,
        served.key(path.namespace, path.name),
        (parse_query(question.query).get("resourceVersion") or [""])[0],
        (("Content-Type", target.form.content_type), NO_CACHE, *warnings),
        warnings,
    )
