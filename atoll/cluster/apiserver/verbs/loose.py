"""A Record that no store holds: the answer of a dry run, or an object that was made up on read."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from atoll.cluster.apiserver.ports import Object
from atoll.cluster.store.port import Key


class Loose:
    """See the module; encodes when asked."""

    __slots__ = ("_data", "_object", "key", "version")
    origin = None
    values: Sequence[bytes] = ()

    def __init__(self, key: Key, version: int, obj: Object) -> None:
        self.key = key
        self.version = version
        self._object = obj
        self._data: bytes | None = None

    @property
    def object(self) -> Object:
        return self._object

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = orjson.dumps(self._object)
        return self._data

    @property
    def uid(self) -> str:
        return str(self._object["metadata"].get("uid", ""))

    @property
    def labels(self) -> dict[str, str]:
        return self._object["metadata"].get("labels") or {}

    @property
    def node_name(self) -> str:
        return str((self._object.get("spec") or {}).get("nodeName") or "")
