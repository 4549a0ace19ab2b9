"""Records: canonical bytes and a few header fields, parsed only when somebody looks inside."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from atoll.cluster.store.parts import Parts
from atoll.cluster.store.port import Key, Object, Origin


class _Metadata(msgspec.Struct):
    uid: str = ""
    labels: msgspec.Raw = msgspec.Raw(b"null")


class _Head(msgspec.Struct):
    metadata: _Metadata


class _PodSpec(msgspec.Struct):
    nodeName: str = ""


class _Pod(msgspec.Struct):
    spec: _PodSpec


_read_head = msgspec.json.Decoder(_Head).decode
_read_pod = msgspec.json.Decoder(_Pod).decode
_NO_LABELS: dict[str, str] = {}


class ParsedObjects:
    """The objects parsed or written last: a small LRU, because all objects parsed would be ten times their bytes.

    And what was filled into the texts written last: soon somebody will ask for it.
    """

    def __init__(self, most: int) -> None:
        self.parts = Parts()
        self._most = most
        self._values: OrderedDict[int, Sequence[bytes]] = OrderedDict()
        self._before: OrderedDict[int, tuple[bytes, Object]] = OrderedDict()
        self._objects: OrderedDict[int, Object] = OrderedDict()  # a plain dict seeks its first item past all it lost

    def get(self, version: int) -> Object | None:
        found = self._objects.get(version)
        if found is not None:
            self._objects.move_to_end(version)
        return found

    def put(self, version: int, obj: Object) -> None:
        objects = self._objects
        objects[version] = obj
        if len(objects) > self._most:
            objects.popitem(last=False)

    def follow(self, version: int, record: StoredRecord) -> None:
        """This version comes after that record's: what they share need not be parsed again."""
        found = self._objects.get(record.version)
        if found is not None:
            self._before[version] = record.data, found
            if len(self._before) > self._most:
                self._before.popitem(last=False)

    def parse(self, version: int, data: bytes) -> Object:
        return self.parts.parse(data, self._before.pop(version, None))

    def filled(self, version: int) -> Sequence[bytes] | None:
        return self._values.get(version)

    def fill(self, version: int, values: Sequence[bytes]) -> None:
        known = self._values
        known[version] = values
        if len(known) > self._most:
            known.popitem(last=False)


class StoredRecord:
    """See `atoll.cluster.store.port.Record`."""

    __slots__ = ("_labels", "_parsed", "_uid", "data", "key", "origin", "version")

    def __init__(
        self,
        key: Key,
        version: int,
        data: bytes,
        parsed: ParsedObjects,
        origin: Origin | None = None,
        uid: str | None = None,
    ) -> None:
        self.key = key
        self.version = version
        self.data = data
        self.origin = origin
        self._parsed = parsed
        self._uid = uid
        self._labels: dict[str, str] | None = None

    @property
    def object(self) -> Object:
        found = self._parsed.get(self.version)
        if found is None:
            origin = self.origin
            filled = self._parsed.filled(self.version)
            parsed = self._parsed
            found = parsed.parse(self.version, self.data) if origin is None else origin.parse(self.data, filled)
            self._parsed.put(self.version, found)
        return found

    @property
    def values(self) -> Sequence[bytes]:
        filled = self._parsed.filled(self.version)
        if filled is None:
            return () if self.origin is None else self.origin.read(self.data)
        return filled

    @property
    def uid(self) -> str:
        if self._uid is None:
            self._read_head()
        return self._uid or ""

    @property
    def labels(self) -> dict[str, str]:
        if self._labels is None:
            self._read_head()
        return self._labels or _NO_LABELS

    @property
    def node_name(self) -> str:
        """spec.nodeName of a Pod, "" for a pod that is not bound."""
        try:
            return _read_pod(self.data).spec.nodeName
        except msgspec.ValidationError:
            return ""

    def _read_head(self) -> None:
        try:
            head = _read_head(self.data).metadata
        except msgspec.ValidationError:  # odd types where the API would have refused them
            metadata: dict[str, Any] = orjson.loads(self.data).get("metadata") or {}
            head = _Metadata(str(metadata.get("uid") or ""), msgspec.Raw(orjson.dumps(metadata.get("labels"))))
        labels = self._parsed.parts.part(bytes(head.labels), 2)
        self._labels = labels if isinstance(labels, dict) else _NO_LABELS
        self._uid = sys.intern(head.uid)

    def __repr__(self) -> str:
        return f"StoredRecord({self.key}, {self.version})"
