"""Writes that are equal but for names, times and addresses: decided once, then only stamped.

A pod that came from a mold (`molds`) is bound, its status written, and an Event told of it, as with its hundred
siblings. What becomes of such a pod depends on the form that it was made from, on the request, and on the values in the
holes of both: names, uids, times, IPv4 addresses. None of these is looked into; they are copied, compared with each
other, and put in order. So a write that is equal in its texts, and whose values are equal to each other and ordered in
the same places, comes out the same but for the values. The second of its kind leaves a *recast*: a form of the result,
and which value goes into which hole. The next ones fill it in, without parsing the pod.

The status of a custom object (PUT, whole as it stands but for the status) likewise, with times and uids as values: but
only where its schema looks into none of them (`extensions.indifference`): no rule reads them, no pattern judges them.

Guarantees: the result is the one that the whole way gives (a recast is only made from it, and `tests/unit/test_recasts`
compares the two). Status patches and Events are remembered only where admission says on which resources it depends, and
until one of these changes; a binding is admitted each time.

Refuses, i.e. leaves to the whole way: objects that were written in any other way meanwhile, patches of more than their
status, dry runs, large bodies, values that could be mistaken for other text of the object, and times that are none.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import orjson
from msgspec import Struct

from atoll.cluster.apiserver.ports import Admission, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.forms import VERSION, Form
from atoll.cluster.apiserver.verbs.watched import Watched, caller
from atoll.cluster.store.port import ABSENT, Encoded, Key, Record, Store

_MOST = 1024
_MOST_BYTES = 32 * 1024
_MOST_TRIES = 8
_LONGEST_MESSAGE = 1024
_ORDERED, _A_TIME = 1, 2
_IS_ORDERED = re.compile(rb"[0-9][^\n]*[:.]").match
_KINDS = (  # what each matches is of one kind: no time nor ordered, a time, an address, none again
    rb"[^:.Z\n]*",
    rb"[0-9]+-[0-9-]+T[0-9]+:[0-9:]+Z",
    rb"[0-9]+\.[0-9.]+",
    rb"[A-Ya-z](?:[^\n]*[^Z\n])?",
)
_FRESH = b"\0"  # in place of a uid that is still to be drawn
_EVENTS_OWN = (("name",), ("name", "uid", "resourceVersion"), ("message", "firstTimestamp", "lastTimestamp"))
_OCTET = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_TIME = rb"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ"
_VALUES = re.compile(rb'"(' + _TIME + rb"|" + _OCTET + rb"(?:\." + _OCTET + rb'){3})"(?!:)')
_UID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_IS_UID = re.compile(_UID).fullmatch
_ALONE = rb'(?<=["( :])', rb'(?=[",)\\ ])(?!":)'  # around a uid within a text
_CUSTOM = re.compile(rb'(["( :])(' + _TIME + b"|" + _UID + b")" + _ALONE[1])  # with what stands before
_STAMP = re.compile(_TIME.decode()).fullmatch
_PLAIN = re.compile(r"[a-z0-9][-a-z0-9.]*").fullmatch  # of the names of nodes that are valid, most
_UNESCAPED = re.compile(r"[ !#-\[\]-~]+").fullmatch  # what JSON writes as it is

Equal = tuple[Any, ...]
"""What makes two writes equal but for their values."""


def _likeness(values: list[bytes]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Which values are equal; how times and addresses (lists and managers go by them) are ordered; which are times."""
    kinds = tuple([_ORDERED * bool(_IS_ORDERED(value)) | _A_TIME * value.endswith(b"Z") for value in values])
    ordered = [place for place, kind in enumerate(kinds) if kind & _ORDERED]
    return tuple(map(values.index, values)), tuple(sorted(ordered, key=values.__getitem__)), kinds


def _kind_of(value: bytes) -> bytes:
    """A pattern of values of this one's kind, of its own where it is like none."""
    return next((kind for kind in _KINDS if re.fullmatch(kind, value)), re.escape(value))


class _Likeness:
    """Recognises most values of which `_likeness` would say the same, in a third of its time."""

    __slots__ = ("_distinct", "_firsts", "_kinds", "_order")

    def __init__(self, values: list[bytes]) -> None:
        places, order, _ = _likeness(values)
        distinct = list(dict.fromkeys(places))
        self._firsts = itemgetter(*places)
        self._distinct = _getter(distinct)
        ordered = [place for place in order if place in distinct]
        self._order = itemgetter(*ordered) if len(ordered) > 1 else None
        self._kinds = re.compile(rb"\n".join([_kind_of(values[place]) for place in distinct])).fullmatch

    def has(self, values: list[bytes]) -> bool:
        """`values` are as many as it was made of, at least two."""
        if self._firsts(values) != tuple(values):
            return False
        distinct = self._distinct(values)
        if len(set(distinct)) != len(distinct):
            return False
        if self._order is not None:
            ordered = self._order(values)
            if list(ordered) != sorted(ordered):
                return False
        return self._kinds(b"\n".join(distinct)) is not None


def _getter(places: Sequence[int]) -> Callable[[list[bytes]], tuple[bytes, ...]]:
    """Of the values at these places, of which there is at least one."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: (values[places[0]],)


class Recast(Struct, frozen=True):
    """`takes`: which of the change's values is which of the form's."""

    form: Form
    takes: tuple[int, ...]
    watched: Watched
    likeness: _Likeness

    def fill(self, values: Sequence[bytes]) -> Encoded:
        """What the change with these values comes to."""
        return self.form.fill([values[place] for place in self.takes])


class Change(Struct):
    """A write as it was asked for, of the object with this key at this version."""

    equal: Equal
    key: Key
    version: int
    texts: tuple[bytes, ...]  # all that it comes from beside its values, where a recast is to be learnt
    values: list[bytes]
    recast: Recast | None
    watched: Watched | None
    noted: int

    def stamp(self, uid: str) -> None:
        """Give a new object its uid."""
        if self.values[-1] is _FRESH:
            self.values[-1] = uid.encode()


class Recasts:
    """The recasts of one API, the ones made last; one is made of what was asked twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Equal, Recast | int] = {}  # or how often it could not be learnt
        self._recent: dict[Equal, Recast] = {}  # what such texts came to last

    def __len__(self) -> int:
        return sum(isinstance(item, Recast) for item in self._known.values())

    def status_patch(self, context: Context, admission: Admission, key: Key, body: Any, now: str) -> Change | None:
        """A strategic merge patch of a pod's status. None where it can't be remembered, or is asked the first time."""
        record = self._store.newest(key)
        if record is None or record.origin is None or not _is_of_status(body, record.uid):
            return None
        try:
            parts = _VALUES.split(orjson.dumps(body["status"]))
        except TypeError:  # an object of this process that is not JSON
            return None
        texts, values = tuple(parts[::2]), parts[1::2]
        if not _are_times(values):
            return None
        values.append(now.encode())
        return self._of_pod(context, admission, record, texts, values, caller(context))

    def status_update(
        self, context: Context, admission: Admission, served: Served, key: Key, raw: Any, now: str
    ) -> Change | None:
        """A custom object, whole as it stands but for its status. None as above."""
        record = self._store.newest(key)
        form = None if record is None else record.origin
        if record is None or not isinstance(form, Form) or not record.data.startswith(served.item_prefix):
            return None
        if not served.stored_as_served or served.from_storage is not None:
            return None
        if not _is_status_of(raw, record.object):
            return None
        try:
            parts = _CUSTOM.split(orjson.dumps(raw["status"]))
        except TypeError:
            return None
        texts, own = (*parts[::3], *parts[1::3]), parts[2::3]
        if not _are_times(own):
            return None
        values = [*record.values[:-1], *own, now.encode()]
        asks = (form, served.custom, caller(context), texts)
        return self._change(context, admission, record.key, record.version, asks, texts, values, form, raw)

    def deletion(self, context: Context, record: Record, marked: Object) -> Change | None:
        """A pod that is being deleted: `marked` is what the whole way made of it, which is to leave a form too.

        A recast is used here only where it says the very same; what is written to such a pod next may be stamped then.
        """
        due = str(marked["metadata"].get("deletionTimestamp") or "").encode()
        if not _STAMP(due.decode()):
            return None
        return self._of_pod(context, None, record, (b"delete",), [due], ())

    def binding(self, context: Context, record: Record, node: str, metadata: Object, now: str) -> Change | None:
        """A binding, admitted and checked but for the pod itself. None as above."""
        asked_uid, asked_version = metadata.get("uid"), metadata.get("resourceVersion")
        if record.origin is None or not _PLAIN(node) or asked_version or (asked_uid and asked_uid != record.uid):
            return None
        text, target, at = (
            orjson.dumps([metadata.get("annotations"), metadata.get("labels")]),
            node.encode(),
            now.encode(),
        )
        if isinstance(record.origin, Form) and record.origin.says(target):  # it asks for this node by name
            return self._of_pod(context, None, record, (text, target), [at], ())
        return self._of_pod(context, None, record, (text,), [target, at], ())

    def _of_pod(
        self,
        context: Context,
        admission: Admission | None,
        record: Record,
        texts: tuple[bytes, ...],
        own: list[bytes],
        asks: Equal,
    ) -> Change | None:
        form = record.origin
        if not isinstance(form, Form):
            return None
        values = [*record.values[:-1], *own]
        return self._change(context, admission, record.key, record.version, (form, asks, texts), texts, values, form)

    def event(self, context: Context, admission: Admission, key: Key, event: Any, now: str) -> Change | None:
        """A new Event, as sent and with a valid name. None as above."""
        taken = _taken(event)
        if taken is None:
            return None
        text, values = taken
        known = (key.namespace, text, caller(context))
        return self._change(context, admission, key, ABSENT, known, (text,), [*values, now.encode(), _FRESH])

    def _change(
        self,
        context: Context,
        admission: Admission | None,
        key: Key,
        version: int,
        asks: Equal,
        texts: tuple[bytes, ...],
        values: list[bytes],
        form: Form | None = None,
        raw: Object | None = None,
    ) -> Change | None:
        """`admission`: what is still to admit it. `form`: of what is changed. `raw`: the custom object as asked for."""
        size = sum(map(len, texts)) + (0 if form is None else form.size)
        if context.dry_run or context.large or size > _MOST_BYTES:
            return None
        asked = (key.resource, *asks)
        recent = self._recent.get(asked)
        if recent is not None and recent.likeness.has(values) and recent.watched.hold(self._store):
            return Change((), key, version, texts, values, recent, None, 0)
        equal = (*asked, *_likeness(values))
        known = self._known.get(equal)
        if known is None:
            if len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[equal] = 0
            return None
        recast, watched = None, None
        if isinstance(known, Recast):
            if known.watched.hold(self._store):
                if len(self._recent) >= _MOST:
                    del self._recent[next(iter(self._recent))]
                recast = self._recent[asked] = known
            else:
                self._known[equal] = 0
        elif known >= _MOST_TRIES:
            return None
        if recast is None:
            watched = self._watch(context, admission, key.resource, raw)
            if watched is None:
                return None
            texts = (*(() if form is None else form.parts), *texts)
        return Change(equal, key, version, texts, values, recast, watched, _notes(context))

    def learn(self, context: Context, change: Change, record: Record) -> None:
        """`record` is what the whole way made of the change, of no other state of the object."""
        tries = self._known.get(change.equal)
        if change.watched is None or _notes(context) != change.noted or not isinstance(tries, int):
            return  # it told more than the answer, or another was faster: one form is enough
        change.stamp(record.uid)
        made = _recast(change, record, (context.field_manager.encode(), context.user.name.encode()))
        self._known[change.equal] = tries + 1 if made is None else made

    def refuse(self, change: Change) -> None:
        """Nothing is to be learnt of its like."""
        self._known[change.equal] = _MOST_TRIES

    def _watch(
        self, context: Context, admission: Admission | None, resource: str, raw: Object | None
    ) -> Watched | None:
        if admission is None:
            return Watched.of(self._store, ())
        depends = admission.repeats(resource, context.user, raw)
        return None if depends is None else Watched.of(self._store, depends.resources)


def _taken(event: Any) -> tuple[bytes, list[bytes]] | None:
    """What an Event is but for the texts that differ from one to the next, and these; None where it is no such Event.

    Whom it is about, the message and the times: nobody looks into them, but for a message's length.
    """
    metadata, about = event["metadata"], event.get("involvedObject")
    if about.__class__ is not dict or not metadata.keys() <= {"name", "namespace"}:
        return None
    rest = {**event, "metadata": {**metadata}, "involvedObject": {**about}}
    found: list[str] = []
    for part, names in zip((rest["metadata"], rest["involvedObject"], rest), _EVENTS_OWN, strict=True):
        for name in names:
            value = part.get(name)
            if value is None:
                continue
            if value.__class__ is not str or not 0 < len(value) <= _LONGEST_MESSAGE:
                return None
            part[name] = len(found)
            found.append(value)
    if not _UNESCAPED("".join(found)):
        return None
    values = [value.encode() for value in found]
    stamps = (event.get("firstTimestamp"), event.get("lastTimestamp"))
    if not all(stamp is None or _STAMP(stamp) for stamp in stamps) or not _are_times(values):
        return None
    try:
        return orjson.dumps(rest), values
    except TypeError:
        return None


def _notes(context: Context) -> int:
    """How much is told beside the answer; a change that adds to it is not remembered."""
    return len(context.warnings) + len(context.annotations or ())


def _are_times(values: Sequence[bytes]) -> bool:
    """Whether those that look like times are (a 31st of February is none)."""
    return all(map(_is_time, [value for value in values if value[-1:] == b"Z"]))


@functools.lru_cache(maxsize=256)
def _is_time(value: bytes) -> bool:
    try:
        datetime.datetime.fromisoformat(value.decode())
    except ValueError:
        return False
    return True


def _is_of_status(body: Any, uid: str) -> bool:
    """Whether a patch is of nothing else, but for the uid that it is for."""
    if body.__class__ is not dict or body.get("status").__class__ is not dict:
        return False
    return len(body) == 1 or (len(body) == 2 and body.get("metadata") == {"uid": uid})


def _is_status_of(raw: Any, standing: Object) -> bool:
    """Whether nothing is another but the status."""
    if raw.__class__ is not dict or raw.get("status").__class__ is not dict:
        return False
    if raw.keys() != standing.keys() and raw.keys() - standing.keys() != {"status"}:
        return False
    for name, value in raw.items():
        if name != "status":
            was = standing.get(name)
            if value is not was and value != was:
                return False
    return True


def _sought(value: bytes) -> bytes:
    """The expression that finds a value: a whole string, or a uid within a text."""
    text = re.escape(value)
    return text.join(_ALONE) if _IS_UID(value) else b'(?<=")' + text + rb'(?=["\\])'


def _recast(change: Change, record: Record, fixed: tuple[bytes, ...]) -> Recast | None:
    """The result with holes where the change's values are. None where a value could be other text."""
    first: dict[bytes, int] = {}
    for place, value in enumerate(change.values):
        if value:
            first.setdefault(value, place)
    if any(value in text for value in first for text in (*change.texts, *fixed)):
        return None
    version = b'"resourceVersion":"%d"' % record.version
    before, found, after = record.data.partition(version)
    if not found or version in after:
        return None
    longest = sorted(first, key=len, reverse=True)
    cut = re.compile(b"(" + b"|".join(map(_sought, longest)) + b")").split
    head, tail = cut(before + b'"resourceVersion":"'), cut(b'"' + after)
    parts, known = [*head[::2], *tail[::2]], [*head[1::2], None, *tail[1::2]]
    if any(value in text for value in first for text in parts):
        return None
    takes = list(dict.fromkeys(first[value] for value in known if value is not None))
    holes = [VERSION if value is None else takes.index(first[value]) for value in known]
    assert change.watched is not None
    try:
        return Recast(Form(parts, holes), tuple(takes), change.watched, _Likeness(change.values))
    except ValueError:
        return None
