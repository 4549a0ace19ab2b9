"""Follows a request through its stages and hands each Event that the policy wants to the sink, in order.

RequestReceived when it came, ResponseStarted of what is long-running, ResponseComplete at its end; Panic where the
server failed. Bodies are written at the levels Request and RequestResponse only, so a Secret's never is unless the
policy says so. A request of level None costs the look-up of its rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import orjson

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import AtollError
from atoll.base.metrics import Metrics
from atoll.cluster.apiserver import bodies
from atoll.cluster.apiserver.audit import event as events
from atoll.cluster.apiserver.audit.policy import LEVELS, Policy, Rule
from atoll.cluster.apiserver.ports import Attributes, User
from atoll.wire.messages import HttpRequest, HttpResponse

Object = dict[str, Any]
_METADATA, _REQUEST, _RESPONSE = 1, 2, 3
_DECIDED, _REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"
_SENDING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
Authenticate = Callable[[HttpRequest, User], User]
"""(request, whom it is for) → who was authenticated, before impersonation."""

KindOf = Callable[[Attributes], tuple[str, str]]
"""The (apiVersion, kind) of what is sent to a resource; ("", "") where that is not known."""


class Sink(Protocol):
    def write(self, line: bytes) -> None:
        """One event; must not block for long."""


class Audited:
    """One request that is audited."""

    __slots__ = ("annotations", "asked", "event", "request", "rule")

    def __init__(self, rule: Rule, request: HttpRequest, asked: Attributes, event: Object) -> None:
        self.rule = rule
        self.request = request
        self.asked = asked
        self.event = event
        self.annotations: dict[str, str] = {}

    def decided(self, allowed: bool, reason: str) -> None:
        """What the authorizer said."""
        self.annotations.setdefault(_DECIDED, "allow" if allowed else "forbid")
        self.annotations.setdefault(_REASON, reason)


class Auditor:
    """See the module."""

    def __init__(
        self,
        policy: Policy,
        sink: Sink,
        clock: Clock,
        ids: Chance,
        metrics: Metrics,
        authenticate: Authenticate,
        kind_of: KindOf,
    ) -> None:
        self._policy = policy
        self._sink = sink
        self._clock = clock
        self._ids = ids
        self._authenticate = authenticate
        self._kind_of = kind_of
        self._events = metrics.counter("apiserver_audit_event_total", "[ALPHA] Events that were written.").of()
        levels = metrics.counter("apiserver_audit_level_total", "[ALPHA] Requests by their level.", ("level",))
        self._levels = [levels.of(level) for level in LEVELS]

    def begin(self, request: HttpRequest, asked: Attributes) -> Audited | None:
        """A request has come and its user is known; None where it is not audited."""
        user = asked.user
        if any(name.startswith("impersonate-") for name in request.headers):
            user = self._authenticate(request, user)
        audited = self._start(request, asked, user)
        if audited is None:
            return None
        self._emit(audited, "RequestReceived")
        if user is not asked.user:
            audited.event = events.impersonating(audited.event, asked.user)
        return audited

    def unauthenticated(self, request: HttpRequest, asked: Attributes, response: HttpResponse) -> None:
        """A request whose user is not known was refused."""
        audited = self._start(request, asked, asked.user)
        if audited is not None:
            self._answer(audited, response)
            self._emit(audited, "ResponseStarted")

    def started(self, audited: Audited, response: HttpResponse) -> None:
        """A long-running request is being answered; `ended` comes later."""
        audited.event = {**audited.event, "responseStatus": events.answered(response.status, None)}
        self._emit(audited, "ResponseStarted")

    def ended(self, audited: Audited) -> None:
        self._emit(audited, "ResponseComplete")

    def complete(self, audited: Audited, response: HttpResponse) -> None:
        """It is answered."""
        self._send(audited)
        self._answer(audited, response)
        self._emit(audited, "ResponseComplete")

    def abandoned(self, audited: Audited) -> None:
        """Its client has gone before it was answered."""
        status = {"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}
        audited.event = {**audited.event, "responseStatus": status}
        self._emit(audited, "ResponseComplete")

    def panicked(self, audited: Audited) -> None:
        """The server failed at it."""
        status = {"metadata": {}, "status": "Failure", "message": "APIServer panic'd: see the server's log"}
        audited.event = {**audited.event, "responseStatus": {**status, "reason": "InternalError", "code": 500}}
        self._emit(audited, "Panic")

    def _start(self, request: HttpRequest, asked: Attributes, user: User) -> Audited | None:
        named = asked if user is asked.user else _as(asked, user)
        rule = self._policy.rule(named)
        self._levels[rule.level].value += 1
        if rule.level < _METADATA:
            return None
        event_id = request.headers.get("audit-id") or self._ids.uuid()
        event = events.begun(event_id, LEVELS[rule.level], request, asked, user, self._clock.wall())
        return Audited(rule, request, asked, event)

    def _send(self, audited: Audited) -> None:
        """The sent object completes the reference; it is written itself from the level Request on."""
        asked, request = audited.asked, audited.request
        if asked.verb not in _SENDING or not request.body or not asked.resource:
            return
        version, kind = self._kind_of(asked)
        sent = _decoded(request.body, request.headers.get("content-type", ""), kind)
        if not isinstance(sent, dict):
            if sent is not None and audited.rule.level >= _REQUEST:  # a JSON patch is a list
                audited.event = {**audited.event, "requestObject": sent}
            return
        if asked.verb in ("create", "update"):
            events.refer(audited.event, sent)
            if kind:
                sent = {"kind": kind, "apiVersion": version, **sent}
        if audited.rule.level >= _REQUEST:
            audited.event = {**audited.event, "requestObject": self._trimmed(audited, sent)}

    def _answer(self, audited: Audited, response: HttpResponse) -> None:
        body = None
        if audited.rule.level >= _RESPONSE or response.status >= 400 or audited.asked.verb == "delete":
            body = _decoded(response.body, dict(response.headers).get("Content-Type", ""), "")
        shown = body if isinstance(body, dict) else None
        event = {**audited.event, "responseStatus": events.answered(response.status, shown)}
        if "requestObject" in event:
            event["requestObject"] = event.pop("requestObject")
        if audited.rule.level >= _RESPONSE and shown is not None:
            event["responseObject"] = self._trimmed(audited, shown)
        audited.event = event

    @staticmethod
    def _trimmed(audited: Audited, obj: Object) -> Object:
        return events.without_managed_fields(obj) if audited.rule.omit_managed_fields else obj

    def _emit(self, audited: Audited, stage: str) -> None:
        if stage in audited.rule.omitted:
            return
        annotations = audited.annotations if stage != "RequestReceived" else {}
        wall = self._clock.wall()
        event = events.staged(audited.event, stage, wall, annotations)
        if stage == "RequestReceived":
            event["stageTimestamp"] = event["requestReceivedTimestamp"]
        self._events.value += 1
        self._sink.write(events.line(event))


def _as(asked: Attributes, user: User) -> Attributes:
    return Attributes(
        user, asked.verb, asked.group, asked.version, asked.resource, asked.subresource, asked.namespace, asked.name,
        asked.path, asked.field_selector, asked.label_selector,
    )  # fmt: skip


def _decoded(body: bytes, content_type: str, kind: str) -> Any:
    """None for what is no object in any of our encodings."""
    if not body:
        return None
    media = bodies.media_type(content_type)
    try:
        if media.endswith("json") or not media:
            return orjson.loads(body)
        return bodies.parse(body, bodies.YAML if media.endswith("yaml") else media, kind)[0]
    except (ValueError, AtollError):
        return None
