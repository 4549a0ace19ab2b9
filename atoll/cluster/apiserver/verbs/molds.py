"""Creates of pods and custom objects that are equal but for their names: decided once, then only stamped.

Controllers and loads create pods by the hundred from one template. What the API server makes of such a request
depends on the request without its name, on who asks and how, and on the few resources that admission reads. The
second equal request therefore leaves a *mold*: the stored bytes with holes for name, uid, times, version and what
admission draws by chance. The next ones only fill the holes.

Guarantees: the result is the one that the whole way gives (a mold is only made from it, and `tests/unit/test_molds`
compares the two). A mold holds only while no resource that admission read has changed, and none is made where an
admission plugin does not say what it depends on (`depends_on`; webhooks and quotas with work to do don't).
A body that is byte for byte as one before, but for the name, is not even parsed: the bytes around the name are the
*template* of the mold's request (`read`). A template is taken up after a parse has shown that the hole is the name.

Refuses, i.e. leaves to the whole way: other kinds, custom ones whose rules read the name or that are stored in another
version, dry runs, repeated fields, large bodies, ephemeral volumes (their claims' names hold the pod's), pods that name
their node, and names that are not valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson
from msgspec import Struct

from atoll.base.clock import rfc3339
from atoll.cluster.apiserver.ports import Object, Repeatability
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.forms import VERSION, Form
from atoll.cluster.apiserver.verbs.watched import Watched, caller
from atoll.cluster.store.port import Encoded, Record, Store

_MOST_MOLDS = 256
_MOST_BYTES = 16 * 1024
_MARK = "@hole@"
_BEFORE_NAME = b'"name":"'
_PLAIN_NAME = re.compile(rb"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?").fullmatch  # of the names that are valid, most
_HOLE = re.compile(rb'(?<=")@(\d)@hole@(?=")')
_NAME, _UID, _TIME, _DRAWN, _VERSION = range(5)
_OWN = frozenset(("name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers"))

Equal = tuple[Any, ...]
"""What makes two requests equal but for their names."""


class Pending(NamedTuple):
    """What a mold will need that is made of the request under way."""

    watched: Watched
    repeat: Repeatability


class Read(NamedTuple):
    """A body that was recognised by its template. It has a name, or the prefix of one."""

    encoded: bytes  # of Equal
    name: str
    prefix: str


class Mold(Struct):
    """What equal requests come to, until what is watched changes."""

    form: Form
    watched: Watched
    draw: Callable[[], str] | None
    warnings: tuple[str, ...]
    annotations: tuple[tuple[str, str], ...]
    templated: bool = False  # whether a template was made of a body that it was found for, or tried to

    def cast(self, name: str, uid: str, now: float) -> Encoded:
        """The new object's bytes. `name` must be a valid one (it is not escaped)."""
        drawn = b"" if self.draw is None else self.draw().encode()
        return self.form.fill((name.encode(), uid.encode(), rfc3339(now).encode(), drawn), uid)


class Molds:
    """The molds of one API, the ones used last; a mold is made for what was asked twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._molds: dict[Equal, Mold | None] = {}
        self._templates: dict[tuple[bytes, bytes], tuple[bytes, str]] = {}  # to what is equal, and generateName

    def __len__(self) -> int:
        return len(self._molds)

    def equal(
        self, context: Context, served: Served, namespace: str, raw: Any, repeated: Sequence[str]
    ) -> Equal | None:
        """What the request is but for its name; None where it can't be remembered."""
        custom = served.custom
        if custom is not None and not (served.stored_as_served and served.from_storage is None):
            return None
        if custom is None and served.store_resource != "pods":
            return None
        if repeated or context.dry_run or context.large or raw.__class__ is not dict:
            return None
        metadata = raw.get("metadata")
        if metadata.__class__ is not dict or not metadata.keys() <= _OWN:
            return None
        rest = dict(metadata)
        name = rest.pop("name", "")
        if name.__class__ is not str:
            return None
        try:
            encoded = orjson.dumps({**raw, "metadata": rest})
        except TypeError:  # an object of this process that is not JSON
            return None
        if len(encoded) > _MOST_BYTES:
            return None
        return _equal(encoded, bool(name), namespace, context, custom)

    def read(self, body: bytes) -> Read | None:
        """A JSON body whose template is known, for `find_read`."""
        at = body.find(_BEFORE_NAME) + len(_BEFORE_NAME)
        end = body.find(b'"', at)
        found = self._templates.get((body[:at], body[end:]))
        if found is None:
            found = self._templates.get((body, b""))
            return None if found is None else Read(found[0], "", found[1])
        name = body[at:end]
        return Read(found[0], name.decode(), "") if _PLAIN_NAME(name) else None

    def find_read(self, read: Read, namespace: str, context: Context) -> Mold | None:
        """The mold for what was read, if it still holds."""
        return self.find(_equal(read.encoded, bool(read.name), namespace, context))

    def remember(self, mold: Mold, equal: Equal, body: bytes, metadata: Object) -> None:
        """The mold was found for this JSON body, parsed: bodies that differ from it in the name need no parsing."""
        if mold.templated or len(body) > 2 * _MOST_BYTES:
            return
        mold.templated = True
        encoded = equal[0]
        key = (body, b"")
        if metadata.get("name"):
            at = body.find(_BEFORE_NAME) + len(_BEFORE_NAME)
            key = (body[:at], body[body.find(b'"', at) :])
            try:
                other = orjson.loads(_MARK.encode().join(key))
                named = other["metadata"].pop("name")
            except (ValueError, KeyError, TypeError, AttributeError):
                return
            if named != _MARK or orjson.dumps(other) != encoded:
                return
        if len(self._templates) >= _MOST_MOLDS:
            del self._templates[next(iter(self._templates))]
        self._templates[key] = (encoded, metadata.get("generateName") or "")

    def find(self, equal: Equal) -> Mold | None:
        """The mold, if it still holds."""
        mold = self._molds.get(equal)
        if mold is not None and not mold.watched.hold(self._store):
            del self._molds[equal]
            return None
        return mold

    def watch(self, equal: Equal, repeat: Repeatability | None) -> Pending | None:
        """To be called before the whole way is gone: None where no mold can come of it, or not yet."""
        if equal not in self._molds:
            if len(self._molds) >= _MOST_MOLDS:
                del self._molds[next(iter(self._molds))]
            self._molds[equal] = None  # asked once
            return None
        if repeat is None:
            return None
        return Pending(Watched.of(self._store, repeat.resources), repeat)

    def learn(self, equal: Equal, pending: Pending, record: Record, context: Context) -> None:
        """Make the mold of what the whole way has come to."""
        if self._molds.get(equal, "") is None:  # not where another was faster: one form is enough
            self._molds[equal] = _mold(equal[0], pending, record, context)


def _equal(encoded: bytes, named: bool, namespace: str, context: Context, custom: Any = None) -> Equal:
    return (encoded, named, namespace, custom, *caller(context))


def _mold(sent: bytes, pending: Pending, record: Record, context: Context) -> Mold | None:
    obj = orjson.loads(record.data)
    spec: Object = obj.get("spec") or {}
    is_pod = record.key.resource == "pods"
    if is_pod and spec.get("nodeName"):
        return None  # admission reads the node
    if is_pod and any("ephemeral" in volume for volume in spec.get("volumes") or ()):
        return None
    if _MARK.encode() in record.data:
        return None
    drawn, draw = "", pending.repeat.draw
    if pending.repeat.drawn is not None:
        drawn = pending.repeat.drawn(obj)
        if drawn.encode() in sent:
            drawn = ""  # it is the client's
    metadata = obj["metadata"]
    metadata |= {"name": _hole(_NAME), "uid": _hole(_UID), "creationTimestamp": _hole(_TIME)}
    metadata["resourceVersion"] = _hole(_VERSION)
    for entry in metadata.get("managedFields") or ():
        entry["time"] = _hole(_TIME)
    if drawn:
        obj["spec"] = _with_holes(spec, drawn)
    parts = _HOLE.split(orjson.dumps(obj))
    holes = [VERSION if hole == _VERSION else hole for hole in map(int, parts[1::2])]
    try:
        form = Form(parts[::2], holes)
    except ValueError:
        return None
    return Mold(
        form,
        pending.watched,
        draw if drawn else None,
        tuple(context.warnings),
        tuple((context.annotations or {}).items()),
    )


def _hole(kind: int) -> str:
    return f"@{kind}{_MARK}"


def _with_holes(value: Any, drawn: str) -> Any:
    """A copy in which the drawn string is a hole."""
    if value.__class__ is dict:
        return {name: _with_holes(item, drawn) for name, item in value.items()}
    if value.__class__ is list:
        return [_with_holes(item, drawn) for item in value]
    return _hole(_DRAWN) if value == drawn else value
