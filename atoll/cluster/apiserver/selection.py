"""Label and field selectors of a list, watch or deletecollection as one predicate over stored records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.served import Served
from atoll.cluster.store.port import Record

LabelMatch = Callable[[Mapping[str, str]], bool]
_ALWAYS_SELECTABLE = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class Selection:
    """`labels` and `fields` are None where they select everything; `name` is set where one name is asked."""

    labels: LabelMatch | None = None
    fields: tuple[tuple[str, bool, str], ...] = ()  # (field, equal?, value)
    name: str | None = None
    namespace: str | None = None
    field_values: Callable[[Object], dict[str, str]] | None = None

    @property
    def everything(self) -> bool:
        return self.labels is None and not self.fields

    def matches(self, record: Record) -> bool:
        if self.labels is not None and not self.labels(record.labels):
            return False
        if not self.fields:
            return True
        return self._fields_match(record)

    def _fields_match(self, record: Record) -> bool:
        values: dict[str, str] | None = None
        for field, equal, value in self.fields:
            if field == "metadata.name":
                actual = record.key.name
            elif field == "metadata.namespace":
                actual = record.key.namespace
            else:
                if values is None:
                    values = self.field_values(record.object) if self.field_values is not None else {}
                actual = values.get(field, "")
            if (actual == value) is not equal:
                return False
        return True


EVERYTHING = Selection()


@functools.lru_cache(1024)
def parse_fields(text: str) -> tuple[tuple[str, bool, str], ...]:
    """`a=b,c!=d`. Raises BadRequest with upstream's text."""
    terms: list[tuple[str, bool, str]] = []
    for part in _split_terms(text):
        if not part:
            continue
        for operator, equal in (("!=", False), ("==", True), ("=", True)):
            left, found, right = part.partition(operator)
            if found and not (operator == "=" and "!" in left):
                terms.append((left, equal, _unescape(right)))
                break
        else:
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{part}'")
    return tuple(terms)


def _split_terms(text: str) -> list[str]:
    terms, current, escaped = [], "", False
    for character in text:
        if escaped:
            current += character
            escaped = False
        elif character == "\\":
            current += character
            escaped = True
        elif character == ",":
            terms.append(current)
            current = ""
        else:
            current += character
    terms.append(current)
    return terms


def _unescape(value: str) -> str:
    return value.replace("\\,", ",").replace("\\=", "=").replace("\\\\", "\\") if "\\" in value else value


def selection(served: Served, label_selector: str, field_selector: str, name: str = "") -> Selection:
    """`name`: the one that a path names (deprecated /watch/…/NAME). Raises BadRequest."""
    if not label_selector and not field_selector and not name:
        return EVERYTHING
    fields = parse_fields(field_selector) if field_selector else ()
    if name:
        fields += (("metadata.name", True, name),)
    getter = served.behaviour.selectable_fields
    if fields:
        _check_selectable(served, fields)
    only_name = next((value for field, equal, value in fields if field == "metadata.name" and equal), None)
    only_namespace = next((value for field, equal, value in fields if field == "metadata.namespace" and equal), None)
    return Selection(
        labels=parse_labels(label_selector) if label_selector else None,
        fields=fields,
        name=only_name,
        namespace=only_namespace,
        field_values=getter,
    )


def _check_selectable(served: Served, fields: tuple[tuple[str, bool, str], ...]) -> None:
    known: set[str] = set(_ALWAYS_SELECTABLE)
    getter = served.behaviour.selectable_fields
    if getter is not None:
        known.update(getter({"metadata": {}}))
    for field, _, _ in fields:
        if field not in known:
            resource = served.resource
            if served.custom is not None:
                raise BadRequest(f"field label not supported: {field}")
            if getter is not None:
                raise BadRequest(f"field label not supported: {field}")
            raise BadRequest(f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"')
            _ = resource


def parse_labels(text: str) -> LabelMatch:
    raise BadRequest(f"unable to parse requirement: {text}")
