"""Settings of capacity's parts, from ConfigMaps in atoll-system; a mistake there is told and changes nothing.

A setting's document is YAML in one key of a ConfigMap, read into a msgspec Struct that refuses unknown fields.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
import yaml

from atoll.capacity import names
from atoll.kinds.builtin import CONFIGMAPS
from atoll.runtime.events import WARNING, EventRecorder
from atoll.runtime.informer import Informer, Informers

Object = dict[str, Any]
T = TypeVar("T")
log = logging.getLogger(__name__)


class SettingsError(Exception):
    """What is wrong with a document, in words."""


def parse(text: str, kind: type[T]) -> T:
    """Raises SettingsError."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"not YAML: {' '.join(str(error).split())}") from None
    try:
        return msgspec.convert({} if value is None else value, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(str(error).replace("`$.", "`").replace("`$`", "the document")) from None


def read(config_map: Object | None, key: str, kind: type[T]) -> T:
    """The settings in a ConfigMap, the defaults where there is none. Raises SettingsError."""
    text = ((config_map or {}).get("data") or {}).get(key)
    return parse(text or "", kind)


class Live(Generic[T]):
    """The settings as they are now. Call `value` only once `informer` has synced."""

    def __init__(
        self,
        informers: Informers,
        events: EventRecorder,
        name: str,
        key: str,
        kind: type[T],
        complete: Callable[[T], T] = lambda value: value,
    ) -> None:
        """`complete`: fills in what follows from what is written; raises SettingsError where that makes no sense."""
        self.informer: Informer = informers.of(CONFIGMAPS, namespace=names.SYSTEM_NAMESPACE)
        self._events = events
        self._name, self._key, self._kind = name, key, kind
        self._complete = complete
        self._good: T = parse("", kind)
        self._seen: str | None = None

    @property
    def value(self) -> T:
        """The last ones that could be read."""
        found = self.informer.get(self._name, names.SYSTEM_NAMESPACE)
        text = ((found or {}).get("data") or {}).get(self._key) or ""
        if text != self._seen:
            self._seen = text
            try:
                self._good = self._complete(parse(text, self._kind))
            except SettingsError as error:
                log.warning("%s/%s %s: %s", names.SYSTEM_NAMESPACE, self._name, self._key, error)
                if found is not None:
                    self._events.event(found, WARNING, "InvalidConfiguration", f"{self._key}: {error}")
        return self._good

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call this whenever the document is another."""

        def look(old: Object | None, new: Object | None) -> None:
            if (new or old or {})["metadata"]["name"] != self._name:
                return
            before, after = ((obj or {}).get("data") or {} for obj in (old, new))
            if before.get(self._key) != after.get(self._key):
                changed()

        self.informer.add_handler(look)
