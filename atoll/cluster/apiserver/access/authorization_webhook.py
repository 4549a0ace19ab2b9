"""An authorizer that asks a webhook by SubjectAccessReview, and remembers what it said for a while.

Match conditions are looked at first: a request that one of them lets go by never leaves this process.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from functools import partial
from typing import Any

import orjson

from atoll.base.clock import Clock
from atoll.cluster.apiserver.access.authorization_config import WebhookConfig
from atoll.cluster.apiserver.access.outside import Outside, ReviewClient, ReviewFailed, Shared
from atoll.cluster.apiserver.ports import NO_OPINION, Attributes, Decision, MustWait
from atoll.objects.selectors import SelectorError, parse_fields, parse_labels

Object = dict[str, Any]
log = logging.getLogger(__name__)
_KEPT = 8192
_MOST_KEY_BYTES = 10_000  # upstream: what users make this large is not remembered


class WebhookAuthorizer:
    """Implements `ports.Authorizer`."""

    def __init__(self, config: WebhookConfig, outside: Outside, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._client = ReviewClient(outside, config.endpoint, config.timeout_seconds)
        self._answers: OrderedDict[bytes, tuple[float, Decision]] = OrderedDict()
        self._shared = Shared()
        self._on_failure = Decision(False, "", denied=True) if config.deny_on_failure else NO_OPINION

    def authorize(self, attributes: Attributes) -> Decision:
        spec = review_spec(attributes)
        if self._config.conditions:
            matches = self._matches(spec)
            if matches is not True:
                return NO_OPINION if matches is False else self._on_failure
        key = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
        held = self._answers.get(key)
        if held is not None and self._clock.monotonic() < held[0]:
            return held[1]
        raise MustWait(partial(self._ask, key, spec, attributes.verb))

    def _matches(self, spec: Object) -> bool | None:
        """None: some condition failed and none said no."""
        from atoll.cluster.apiserver.expressions.errors import ExpressionError

        failed = False
        for program in self._config.conditions:
            try:
                if program.run({"request": spec}) is not True:
                    return False
            except ExpressionError as error:
                log.warning("authorizer %s: expression %r: %s", self._config.name, program.source, error)
                failed = True
        return None if failed else True

    async def _ask(self, key: bytes, spec: Object, verb: str) -> Decision:
        decision: Decision = await self._shared.run(key, partial(self._review, key, spec))
        return decision

    async def _review(self, key: bytes, spec: Object) -> Decision:
        config = self._config
        review = {
            "kind": "SubjectAccessReview", "apiVersion": f"authorization.k8s.io/{config.version}",
            "metadata": {}, "spec": _as_version(spec, config.version), "status": {"allowed": False},
        }  # fmt: skip
        try:
            status = await self._client.review(review)
        except ReviewFailed as error:
            log.error("Failed to make webhook authorizer request: %s", error)
            return self._on_failure
        allowed, denied, reason = bool(status.get("allowed")), bool(status.get("denied")), status.get("reason")
        decision = Decision(allowed and not denied, str(reason or ""), denied)
        seconds = config.authorized_seconds if allowed else config.unauthorized_seconds
        if seconds and len(key) < _MOST_KEY_BYTES:
            self._answers[key] = (self._clock.monotonic() + seconds, decision)
            if len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        return decision


def review_spec(attributes: Attributes) -> Object:
    """The spec of a SubjectAccessReview v1, without what is empty."""
    user = attributes.user
    spec: Object = {}
    if attributes.resource:
        resource: Object = {
            name: value
            for name in ("namespace", "verb", "group", "version", "resource", "subresource", "name")
            if (value := getattr(attributes, name))
        }
        for field, parse, raw in (
            ("fieldSelector", _field_requirements, attributes.field_selector),
            ("labelSelector", _label_requirements, attributes.label_selector),
        ):
            requirements = parse(raw) if raw else []
            if requirements:
                resource[field] = {"requirements": requirements}
        spec["resourceAttributes"] = resource
    else:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
    for key, value in (("user", user.name), ("uid", user.uid), ("groups", list(user.groups))):
        if value:
            spec[key] = value
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    return spec


def _as_version(spec: Object, version: str) -> Object:
    """v1beta1 calls the groups group."""
    if version != "v1beta1":
        return spec
    return {("group" if key == "groups" else key): value for key, value in spec.items()}


_LABEL_OPERATORS = {
    "in": "In", "=": "In", "==": "In", "notin": "NotIn", "!=": "NotIn", "exists": "Exists", "!": "DoesNotExist",
}  # fmt: skip


def _field_requirements(raw: str) -> list[Object]:
    """Those that can be read; to leave one out asks about more, never about less."""
    try:
        terms = parse_fields(raw).terms
    except SelectorError:
        return []
    return [{"key": term.field, "operator": "In" if term.equal else "NotIn", "values": [term.value]} for term in terms]


def _label_requirements(raw: str) -> list[Object]:
    try:
        requirements = parse_labels(raw).requirements
    except SelectorError:
        return []
    found = []
    for item in requirements:
        operator = _LABEL_OPERATORS.get(item.operator)
        if operator is not None:
            values = {"values": list(item.values)} if item.values else {}
            found.append({"key": item.key, "operator": operator, **values})
    return found
