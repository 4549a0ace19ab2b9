"""Webhooks as configured, in upstream's order: by their configuration's name, then as listed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from atoll.cluster.apiserver.ports import HookTarget, Object
from atoll.cluster.store.port import Store
from atoll.objects.selectors import LabelSelector, from_object

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"
_DEFAULT_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook. Selectors are None where they select everything."""

    uid: str
    configuration: str
    name: str
    rules: Sequence[Object] = field(repr=False)
    conditions: Sequence[Object] = field(repr=False)
    namespaces: LabelSelector | None
    objects: LabelSelector | None
    review_versions: tuple[str, ...]
    equivalent: bool
    fails_open: bool
    side_effects: str
    reinvoked: bool
    timeout_seconds: int
    target: HookTarget


class Configured:
    """The webhooks of one kind of configuration, read again when a configuration has changed."""

    def __init__(self, store: Store, resource: str) -> None:
        self._store = store
        self.resource = resource
        self._read_at = 0
        self._hooks: tuple[Hook, ...] = ()

    def current(self) -> tuple[Hook, ...]:
        changed = self._store.last_change(self.resource)
        if changed != self._read_at:
            self._hooks = tuple(hook for record in self._store.scan(self.resource) for hook in hooks_of(record.object))
            self._read_at = changed
        return self._hooks


def hooks_of(configuration: Object) -> list[Hook]:
    """The webhooks of one configuration, whose fields have their defaults."""
    name = configuration["metadata"]["name"]
    seen: dict[str, int] = {}
    found = []
    for raw in configuration.get("webhooks") or ():
        count = seen.get(raw["name"], 0)
        seen[raw["name"]] = count + 1
        found.append(_hook(name, f"{name}/{raw['name']}/{count}", raw))
    return found


def _hook(configuration: str, uid: str, raw: Object) -> Hook:
    seconds: int = raw.get("timeoutSeconds") or _DEFAULT_TIMEOUT_SECONDS
    return Hook(
        uid=uid,
        configuration=configuration,
        name=raw["name"],
        rules=raw.get("rules") or (),
        conditions=raw.get("matchConditions") or (),
        namespaces=_selector(raw.get("namespaceSelector")),
        objects=_selector(raw.get("objectSelector")),
        review_versions=tuple(raw.get("admissionReviewVersions") or ()),
        equivalent=raw.get("matchPolicy", "Equivalent") == "Equivalent",
        fails_open=raw.get("failurePolicy", "Fail") == "Ignore",
        side_effects=raw.get("sideEffects") or "",
        reinvoked=raw.get("reinvocationPolicy") == "IfNeeded",
        timeout_seconds=seconds,
        target=_told_in_time(target_of(raw.get("clientConfig") or {}), seconds),
    )


def _selector(raw: Object | None) -> LabelSelector | None:
    return from_object(raw) if raw and any(raw.values()) else None


def _told_in_time(target: HookTarget, seconds: int) -> HookTarget:
    """With the deadline that the webhook is told, and always a path."""
    scheme, _, rest = target.url.partition("://")
    path = rest if "/" in rest else f"{rest}/"
    return replace(target, url=f"{scheme}://{path}?timeout={seconds}s")


def target_of(client: Object) -> HookTarget:
    """A WebhookClientConfig as an address."""
    ca_pem = base64.b64decode(client.get("caBundle") or "")
    service = client.get("service")
    if service is None:
        return HookTarget(client.get("url") or "", ca_pem)
    namespace, name, port = service["namespace"], service["name"], service.get("port") or 443
    path = (service.get("path") or "").lstrip("/")
    return HookTarget(f"https://{name}.{namespace}.svc:{port}/{path}", ca_pem, (namespace, name, port))
