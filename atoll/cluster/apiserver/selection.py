"""Label and field selectors of a list, watch or deletecollection as one predicate over stored records."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.loose import Loose
from atoll.cluster.store.port import Record
from atoll.objects.selectors import FieldTerm, LabelSelector, SelectorError, parse_fields, parse_labels

_NAME, _NAMESPACE, _NODE = "metadata.name", "metadata.namespace", "spec.nodeName"


class Selection(Struct, frozen=True):
    """`labels` is None and `fields` empty where they select everything; `name` and `namespace` where one is asked.

    `converted` is set where a webhook converts and objects must be compared as that version shows them, not as they
    are stored (kube-apiserver compares what its cache of that version holds): `ready` comes before `matches` then.
    """

    labels: LabelSelector | None = None
    fields: tuple[FieldTerm, ...] = ()
    name: str | None = None
    namespace: str | None = None
    field_values: Callable[[Object], dict[str, str]] | None = None
    by_node: bool = False  # pods: spec.nodeName is read without parsing the object
    converted: Served | None = None

    @property
    def everything(self) -> bool:
        return self.labels is None and not self.fields

    async def ready(self, records: Iterable[Record]) -> None:
        """Until the next await `matches` can be asked of these. Raises ApiError (500) where the webhook fails."""
        if self.converted is not None:
            await self.converted.ready(*records)

    def matches(self, record: Record) -> bool:
        if self.converted is not None:
            record = Loose(record.key, record.version, self.converted.present(record))
        if self.labels is not None and not self.labels.matches(record.labels):
            return False
        if not self.fields:
            return True
        return self._fields_match(record)

    def _fields_match(self, record: Record) -> bool:
        values: dict[str, str] | None = None
        for term in self.fields:
            field = term.field
            if field == _NAME:
                actual = record.key.name
            elif field == _NAMESPACE:
                actual = record.key.namespace
            elif field == _NODE and self.by_node:
                actual = record.node_name
            else:
                if values is None:
                    values = self.field_values(record.object) if self.field_values is not None else {}
                actual = values.get(field, "")
            if (actual == term.value) is not term.equal:
                return False
        return True


EVERYTHING = Selection()


def selection(served: Served, label_selector: str, field_selector: str, name: str = "") -> Selection:
    """`name`: the one that a path names (deprecated /watch/…/NAME). Raises BadRequest."""
    if not label_selector and not field_selector and not name:
        return EVERYTHING
    try:
        labels = parse_labels(label_selector) if label_selector else None
        fields = parse_fields(field_selector).terms if field_selector else ()
    except SelectorError as error:
        raise BadRequest(str(error)) from None
    if fields and served.resource.group == "events.k8s.io":
        fields = tuple(_core_event_field(term) for term in fields)
    if name:
        fields += (FieldTerm(_NAME, True, name),)
    if fields:
        _check_selectable(served, fields)
    if labels is not None and labels.empty:
        labels = None
    beyond_key = labels is not None or any(term.field not in (_NAME, _NAMESPACE) for term in fields)
    return Selection(
        labels=labels,
        fields=fields,
        name=next((term.value for term in fields if term.field == _NAME and term.equal), None),
        namespace=next((term.value for term in fields if term.field == _NAMESPACE and term.equal), None),
        field_values=served.behaviour.selectable_fields,
        by_node=served.store_resource == "pods",
        converted=served if beyond_key and served.converter is not None else None,
    )


def _core_event_field(term: FieldTerm) -> FieldTerm:
    """events.k8s.io's name of a field as core's, in which events are stored. Raises BadRequest."""
    field = term.field
    if field.startswith("involvedObject.") or field in ("reportingComponent", "source"):
        raise BadRequest(f"field label not supported: {field}")
    if field.startswith("regarding."):
        field = "involvedObject." + field.removeprefix("regarding.")
    elif field == "reportingController":
        field = "reportingComponent"
    return FieldTerm(field, term.equal, term.value)


_VERSIONED = {"ResourceSlice": "resource.k8s.io/v1, Kind=ResourceSlice"}
"""Kinds whose conversion says which version does not know a field."""


def _check_selectable(served: Served, fields: tuple[FieldTerm, ...]) -> None:
    getter = served.behaviour.selectable_fields
    known = {_NAME, _NAMESPACE}
    if getter is not None:
        known.update(getter({"metadata": {}}))
    for term in fields:
        if term.field in known:
            continue
        if getter is not None or served.custom is not None:
            at = f" for {_VERSIONED[served.resource.kind]}" if served.resource.kind in _VERSIONED else ""
            raise BadRequest(f"field label not supported{at}: {term.field}")
        raise BadRequest(f'"{term.field}" is not a known field selector: only "{_NAME}", "{_NAMESPACE}"')
