"""FlowSchemas and PriorityLevelConfigurations as values, and which requests a FlowSchema is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from atoll.cluster.apiserver.flowcontrol.queues import EXEMPT, Queuing
from atoll.cluster.apiserver.flowcontrol.shuffle import is_dealable
from atoll.cluster.apiserver.ports import Attributes, User

Object = dict[str, Any]
CATCH_ALL = "catch-all"
EXEMPT_NAME = "exempt"
_ACCOUNT = "system:serviceaccount:"


class Level(Struct, frozen=True):
    """A PriorityLevelConfiguration. `borrowing_percent` None: as much as there is."""

    name: str
    uid: str
    shares: int
    lendable_percent: int
    borrowing_percent: int | None
    queuing: Queuing

    @property
    def exempt(self) -> bool:
        return self.queuing.queues == EXEMPT


class FlowSchema(Struct, frozen=True):
    """`distinguisher`: "", ByUser or ByNamespace."""

    name: str
    uid: str
    precedence: int
    level: str
    distinguisher: str
    rules: tuple[Object, ...]

    def matches(self, asked: Attributes) -> bool:
        return any(_rule_matches(rule, asked) for rule in self.rules)

    def flow(self, asked: Attributes) -> str:
        """What tells its flows apart."""
        if self.distinguisher == "ByUser":
            return asked.user.name
        return asked.namespace if self.distinguisher == "ByNamespace" else ""


def read_level(obj: Object) -> Level | None:
    """None for what can't work (its limit response lacks queues, the exempt level is limited …)."""
    name, spec = obj["metadata"]["name"], obj["spec"]
    uid = obj["metadata"].get("uid", "")
    exempt = spec.get("type") == "Exempt"
    if exempt != (name == EXEMPT_NAME) or exempt != ("exempt" in spec) or exempt == ("limited" in spec):
        return None
    if exempt:
        own = spec["exempt"]
        shares = own.get("nominalConcurrencyShares") or 0
        return Level(name, uid, shares, own.get("lendablePercent") or 0, None, Queuing(EXEMPT))
    own = spec["limited"]
    queuing = _read_queuing(own.get("limitResponse") or {})
    if queuing is None:
        return None
    shares = own.get("nominalConcurrencyShares")
    return Level(
        name, uid, 30 if shares is None else shares, own.get("lendablePercent") or 0,
        own.get("borrowingLimitPercent"), queuing,
    )  # fmt: skip


def _read_queuing(response: Object) -> Queuing | None:
    own = response.get("queuing")
    if (response.get("type") == "Reject") != (own is None):
        return None
    if own is None:
        return Queuing(0)
    queues, hand, length = own.get("queues", 64), own.get("handSize", 8), own.get("queueLengthLimit", 50)
    return Queuing(queues, hand, length) if is_dealable(queues, hand) else None


def read_schema(obj: Object) -> FlowSchema:
    metadata, spec = obj["metadata"], obj["spec"]
    return FlowSchema(
        metadata["name"],
        metadata.get("uid", ""),
        spec.get("matchingPrecedence", 1000),
        spec["priorityLevelConfiguration"]["name"],
        (spec.get("distinguisherMethod") or {}).get("type", ""),
        tuple(spec.get("rules") or ()),
    )


def _rule_matches(rule: Object, asked: Attributes) -> bool:
    if not any(_is_subject(subject, asked.user) for subject in rule.get("subjects") or ()):
        return False
    if asked.resource:
        return any(_resource_matches(item, asked) for item in rule.get("resourceRules") or ())
    return any(_path_matches(item, asked) for item in rule.get("nonResourceRules") or ())


def _is_subject(subject: Object, user: User) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        name = (subject.get("user") or {}).get("name")
        return name in ("*", user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return name == "*" or name in user.groups
    if kind == "ServiceAccount":
        own = subject.get("serviceAccount") or {}
        prefix = f"{_ACCOUNT}{own.get('namespace')}:"
        if own.get("name") == "*":
            return user.name.startswith(prefix)
        return user.name == prefix + str(own.get("name"))
    return False


def _holds(listed: Sequence[str], wanted: str, every: str = "*") -> bool:
    return wanted in listed or list(listed) == [every]


def _resource_matches(rule: Object, asked: Attributes) -> bool:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    if not (
        _holds(rule.get("verbs") or (), asked.verb)
        and _holds(rule.get("resources") or (), resource)
        and _holds(rule.get("apiGroups") or (), asked.group)
    ):
        return False
    if not asked.namespace:
        return bool(rule.get("clusterScope"))
    return _holds(rule.get("namespaces") or (), asked.namespace)


def _path_matches(rule: Object, asked: Attributes) -> bool:
    if not _holds(rule.get("verbs") or (), asked.verb):
        return False
    for pattern in rule.get("nonResourceURLs") or ():
        if pattern in ("*", asked.path):
            return True
        prefix = pattern.removesuffix("*")
        if asked.path.startswith(prefix if prefix.endswith("/") else prefix + "/"):
            return True
    return False
