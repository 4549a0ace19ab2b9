"""Answers: JSON (bytes from the store where they fit), YAML, Tables and PartialObjectMetadata by Accept, watch frames.

An event is encoded once for all watchers that show it alike: frames are kept for a while by version and form.
"""

from __future__ import annotations

import functools
from typing import Any

import orjson
from msgspec import Struct

from atoll.base.clock import Clock
from atoll.base.errors import NotAcceptable
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.tables.table import partial, table
from atoll.cluster.apiserver.verbs.list import Page
from atoll.cluster.apiserver.verbs.watch import INITIAL_EVENTS_END, Batch, Shown, Whole
from atoll.cluster.store.port import Record

_FRAMES = 1024
_BATCHES = 8
_TABLE_VERSIONS = ("v1", "v1beta1")


class Form(Struct, frozen=True):
    """How an answer is to look: `kind` is "", "Table" or "PartialObjectMetadata"; `media` json or yaml."""

    media: str = "json"
    kind: str = ""
    include: str = "Metadata"  # of a Table: what each row carries
    for_list: bool | None = None  # of PartialObjectMetadata: whether the list's form was asked

    @property
    def content_type(self) -> str:
        return "application/json" if self.media == "json" else "application/yaml"


PLAIN = Form()


@functools.lru_cache(512)
def negotiate(accept: str, tables: bool = True) -> Form:
    """`tables`: whether what is asked has one. Raises NotAcceptable."""
    if not accept:
        return PLAIN
    known = False
    for clause in accept.split(","):
        media, _, rest = clause.strip().partition(";")
        media = media.strip().lower()
        if media in ("*/*", "application/*", "application/json"):
            found = "json"
        elif media == "application/yaml":
            found = "yaml"
        else:
            continue
        known = True
        parameters = dict(item.strip().partition("=")[::2] for item in rest.split(";")) if rest else {}
        kind = parameters.get("as", "").removesuffix("List")
        if not kind:
            return Form(found)
        offered = kind in ("Table", "PartialObjectMetadata") and parameters.get("v") in _TABLE_VERSIONS
        if offered and parameters.get("g") == "meta.k8s.io" and (tables or kind != "Table"):
            listed = None if kind == "Table" else parameters["as"].endswith("List")
            return Form(found, kind, for_list=listed)
    if known:
        raise NotAcceptable(
            "only the following media types are accepted: application/json, application/yaml,"
            " application/vnd.kubernetes.protobuf"
        )
    raise NotAcceptable(
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml,"
        " application/vnd.kubernetes.protobuf",
        details={},
    )


def check_form(served: Served, form: Form, is_list: bool) -> None:
    """PartialObjectMetadata is for objects, its list for lists. Raises NotAcceptable."""
    if form.for_list is None or form.for_list is is_list:
        return
    package = "unstructured" if served.custom is not None else (served.resource.group or "core").partition(".")[0]
    name = "Unstructured" if served.custom is not None else served.resource.kind
    if is_list:
        why = f"you requested PartialObjectMetadata, but the requested object is a list (*{package}.{name}List)"
    else:
        why = f"you requested PartialObjectMetadataList, but the requested object is not a list (*{package}.{name})"
    raise NotAcceptable(why)


class Encoder:
    """Encodes what verbs answer. The clock is for the ages in tables."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._batches: dict[tuple[Any, ...], bytes] = {}
        self._young: dict[tuple[Any, ...], bytes] = {}
        self._old: dict[tuple[Any, ...], bytes] = {}

    def value(self, value: Any, form: Form) -> bytes:
        if form.media == "yaml":
            return yaml_bytes(value)
        return orjson.dumps(value)

    def _table(self, served: Served, objects: list[Object], metadata: Object, form: Form, head: bool = True) -> Object:
        return table(
            served.columns,
            objects,
            now=self._clock.wall(),
            include=form.include,
            metadata=metadata,
            headers=head,
        )

    def record(self, served: Served, record: Record, form: Form) -> bytes:
        if form.kind == "":
            if form.media == "json":
                return served.present_bytes(record)
            return self.value(served.present(record), form)
        check_form(served, form, False)
        if form.kind == "Table":
            obj = served.present(record)
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return self.value(self._table(served, [obj], metadata, form), form)
        return self.value(partial(served.present(record)), form)

    def page(self, served: Served, page: Page, form: Form) -> bytes:
        metadata: Object = {"resourceVersion": str(page.version)}
        if served.custom is not None and form.kind != "Table":
            metadata = {"continue": "", **metadata}
        if page.continue_token:
            metadata["continue"] = page.continue_token
        if page.remaining is not None:
            metadata["remainingItemCount"] = page.remaining
        if form.kind == "Table":
            objects = [served.present(record) for record in page.records]
            return self.value(self._table(served, objects, metadata, form), form)
        if form.kind == "PartialObjectMetadata":
            check_form(served, form, True)
            items = [partial(served.present(record)) for record in page.records]
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
            return self.value({**head, "items": items}, form)
        head = {"kind": served.list_kind, "apiVersion": served.resource.api_version, "metadata": metadata}
        if form.media == "yaml":
            return self.value({**head, "items": [served.present(record) for record in page.records]}, form)
        before = orjson.dumps(head)[:-1] + b',"items":['
        prefix = b"" if served.custom is not None or served.from_storage is not None else served.item_prefix
        stored = [record.data for record in page.records]
        if not stored or not prefix or not all(data.startswith(prefix) for data in stored):
            listed = b",".join([served.item_bytes(record) for record in page.records])
            return b"".join((before, listed, b"]}"))
        cut = len(prefix)  # as item_bytes does, copying all but once less
        pieces = [data[cut:] for data in stored]
        pieces[0] = before + b"{" + pieces[0]
        pieces[-1] += b"]}"
        return b",{".join(pieces)

    def frames(self, served: Served, batch: Batch, form: Form, first: bool) -> bytes:
        """A batch as lines; what all watches show alike is made once. `first`: of this watch, for a Table's columns."""
        frame = self.frame
        if not isinstance(batch, Whole) or form.kind == "Table":
            return b"".join([frame(served, shown, form, first and not at) for at, shown in enumerate(batch)])
        key = (*batch.identity, form.kind, id(served))
        lines = self._batches.get(key)
        if lines is None:
            lines = b"".join([frame(served, shown, form, False) for shown in batch])
            if len(self._batches) >= _BATCHES:
                del self._batches[next(iter(self._batches))]
            self._batches[key] = lines
        return lines

    def frame(self, served: Served, shown: Shown, form: Form, first: bool) -> bytes:
        """One event as a line. `first`: of this watch (a Table's columns come once)."""
        if shown.record is None:
            return self._bookmark(served, shown, form)
        if form.kind == "Table":
            body = self._table_row(served, shown.record, form, first)
            return b'{"type":"%b","object":%b}\n' % (shown.type.encode(), body)
        key = (shown.version, shown.type, form.kind, id(served))
        frame = self._young.get(key) or self._old.get(key)
        if frame is None:
            if form.kind:
                data = orjson.dumps(partial(served.present(shown.record)))
            else:
                data = served.present_bytes(shown.record)
            frame = b'{"type":"%b","object":%b}\n' % (shown.type.encode(), data)
            if len(self._young) >= _FRAMES:
                self._old, self._young = self._young, {}
            self._young[key] = frame
        return frame

    def _table_row(self, served: Served, record: Record, form: Form, first: bool) -> bytes:
        obj = served.present(record)
        metadata = {"resourceVersion": str(record.version)}
        return orjson.dumps(self._table(served, [obj], metadata, form, first))

    def _bookmark(self, served: Served, shown: Shown, form: Form) -> bytes:
        metadata: Object = {"resourceVersion": str(shown.version)}
        if shown.initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        if form.kind == "Table":
            obj: Object = self._table(served, [], {"resourceVersion": str(shown.version)}, form, False)
            if shown.initial_end:
                obj["rows"] = [{"cells": [], "object": {"metadata": metadata}}]
        elif form.kind:
            obj = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        else:
            obj = {"kind": served.resource.kind, "apiVersion": served.resource.api_version, "metadata": metadata}
        return orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n"


def yaml_bytes(value: Any) -> bytes:
    from atoll.objects import goyaml  # only where YAML is asked for

    return goyaml.dump(value).encode()
