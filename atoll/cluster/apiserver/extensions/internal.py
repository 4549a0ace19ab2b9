"""Conversion of custom resources in process: of kinds whose upstream has a conversion webhook, and that Atoll serves.

A CRD asks for it by the annotation `atoll.dev/conversion: internal`; one with a webhook of its own is left to that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

from atoll.cluster.apiserver.ports import Object
from atoll.cluster.store.port import Record
from atoll.kinds import kueue_conversion

_MOST_KEPT = 4096
Function = Callable[[Object, str], Object]
_BY_GROUP: Final[dict[str, Function]] = {"kueue.x-k8s.io": kueue_conversion.convert}


def conversion_of(group: str) -> Function | None:
    """The function that converts the group's kinds, if there is one."""
    return _BY_GROUP.get(group)


class InternalConverter:
    """`served.Converts` by a pure function. `finish`: by API version, an object as its schema has it."""

    def __init__(self, function: Function, finish: dict[str, Callable[[Object], Object]]) -> None:
        self._function = function
        self._finish = finish
        self._known: OrderedDict[tuple[bytes, str], Object] = OrderedDict()

    async def prepare(self, records: Sequence[Record], api_version: str) -> None:
        """Nothing is asked of others."""

    def shown(self, record: Record, api_version: str) -> Object:
        """Shared."""
        key = (record.data, api_version)
        known = self._known.get(key)  # asked first: more are kept here than are kept parsed
        if known is not None:
            return known
        obj = record.object
        if obj.get("apiVersion") == api_version:
            return obj
        made = self._known[key] = self._convert(obj, api_version)
        if len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)
        return made

    async def converted(self, obj: Object, api_version: str) -> Object:
        return obj if obj.get("apiVersion") == api_version else self._convert(obj, api_version)

    def _convert(self, obj: Object, api_version: str) -> Object:
        made: Any = self._function(obj, api_version)
        finish = self._finish.get(api_version)
        return finish(made) if finish is not None else made
