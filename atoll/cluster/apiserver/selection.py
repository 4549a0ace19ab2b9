"""Label and field selectors of a list, watch or deletecollection as one predicate over stored records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.served import Served
from atoll.cluster.store.port import Record
from atoll.objects.selectors import FieldTerm, LabelSelector, SelectorError, parse_fields, parse_labels

_NAME, _NAMESPACE, _NODE = "metadata.name", "metadata.namespace", "spec.nodeName"


@dataclass(frozen=True, slots=True)
class Selection:
    """`labels` is None and `fields` empty where they select everything; `name` and `namespace` where one is asked."""

    labels: LabelSelector | None = None
    fields: tuple[FieldTerm, ...] = ()
    name: str | None = None
    namespace: str | None = None
    field_values: Callable[[Object], dict[str, str]] | None = None
    by_node: bool = False  # pods: spec.nodeName is read without parsing the object

    @property
    def everything(self) -> bool:
        return self.labels is None and not self.fields

    def matches(self, record: Record) -> bool:
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
    return Selection(
        labels=None if labels is None or labels.empty else labels,
        fields=fields,
        name=next((term.value for term in fields if term.field == _NAME and term.equal), None),
        namespace=next((term.value for term in fields if term.field == _NAMESPACE and term.equal), None),
        field_values=served.behaviour.selectable_fields,
        by_node=served.store_resource == "pods",
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


def _check_selectable(served: Served, fields: tuple[FieldTerm, ...]) -> None:
    getter = served.behaviour.selectable_fields
    known = {_NAME, _NAMESPACE}
    if getter is not None:
        known.update(getter({"metadata": {}}))
    for term in fields:
        if term.field in known:
            continue
        if getter is not None or served.custom is not None:
            raise BadRequest(f"field label not supported: {term.field}")
        raise BadRequest(f'"{term.field}" is not a known field selector: only "{_NAME}", "{_NAMESPACE}"')
