"""Changes of pods that are equal but for names, times and addresses: decided once, then only stamped.

A pod that came from a mold (`molds`) is bound, and its status written, as its hundred siblings are. What becomes of
such a pod depends on the form that it was made from, on the request, and on the values in the holes of both: names,
uids, times, IPv4 addresses. None of these is looked into; they are copied, compared with each other, and put in order.
So a change that is equal in its texts, and whose values are equal to each other and ordered in the same places, comes
out the same but for the values. The second of its kind leaves a *recast*: a form of the result, and which value goes
into which hole. The next ones fill it in, without parsing the pod.

Guarantees: the result is the one that the whole way gives (a recast is only made from it, and `tests/unit/test_recasts`
compares the two). Status patches are remembered only where admission says on which resources it depends, and until one
of these changes; a binding is admitted each time.

Refuses, i.e. leaves to the whole way: pods that were written in any other way meanwhile, patches of more than status,
dry runs, large bodies, values that could be mistaken for other text of the pod, and times that are none.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any, Literal

import orjson
from msgspec import Struct

from atoll.cluster.apiserver.ports import Admission, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.verbs.forms import VERSION, Form
from atoll.cluster.apiserver.verbs.watched import Watched, caller
from atoll.cluster.store.port import Encoded, Key, Record, Store

_MOST = 1024
_MOST_BYTES = 16 * 1024
_OCTET = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_TIME = rb"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ"
_VALUES = re.compile(rb'(?<=")(' + _TIME + rb"|" + _OCTET + rb"(?:\." + _OCTET + rb'){3})(?="[^:])')
_PLAIN = re.compile(r"[a-z0-9][-a-z0-9.]*").fullmatch  # of the names of nodes that are valid, most

Equal = tuple[Any, ...]
"""What makes two changes equal but for their values."""


class Recast(Struct, frozen=True):
    """`takes`: which of the change's values is which of the form's."""

    form: Form
    takes: tuple[int, ...]
    watched: Watched

    def fill(self, values: Sequence[bytes]) -> Encoded:
        """What the change with these values comes to."""
        return self.form.fill([values[place] for place in self.takes])


class Change(Struct):
    """A change of `record` as it was asked for; `texts` are what it brings beside its values."""

    equal: Equal
    record: Record
    form: Form
    texts: tuple[bytes, ...]
    values: list[bytes]
    recast: Recast | None
    watched: Watched | None
    noted: int


class Recasts:
    """The recasts of one API, the ones made last; one is made of what was asked twice."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Equal, Recast | Literal["asked", "never"]] = {}

    def __len__(self) -> int:
        return sum(isinstance(item, Recast) for item in self._known.values())

    def status_patch(self, context: Context, admission: Admission, key: Key, body: Any, now: str) -> Change | None:
        """A strategic merge patch of a pod's status. None where it can't be remembered, or is asked the first time."""
        record = self._store.newest(key)
        form = None if record is None else record.origin
        if record is None or not isinstance(form, Form) or body.__class__ is not dict or list(body) != ["status"]:
            return None
        try:
            parts = _VALUES.split(orjson.dumps(body))
        except TypeError:  # an object of this process that is not JSON
            return None
        texts, values = tuple(parts[::2]), parts[1::2]
        if not _are_times(values):
            return None
        values.append(now.encode())
        return self._change(context, admission, record, form, texts, values, caller(context))

    def binding(self, context: Context, record: Record, node: str, metadata: Object, now: str) -> Change | None:
        """A binding, admitted and checked but for the pod itself. None as above."""
        form = record.origin
        asked_uid, asked_version = metadata.get("uid"), metadata.get("resourceVersion")
        if not isinstance(form, Form) or not _PLAIN(node) or asked_version or (asked_uid and asked_uid != record.uid):
            return None
        text = orjson.dumps([metadata.get("annotations"), metadata.get("labels")])
        return self._change(context, None, record, form, (text,), [node.encode(), now.encode()], ())

    def _change(
        self,
        context: Context,
        admission: Admission | None,
        record: Record,
        form: Form,
        texts: tuple[bytes, ...],
        own: list[bytes],
        asks: Equal,
    ) -> Change | None:
        """`admission`: what is still to admit it."""
        if context.dry_run or context.large or sum(map(len, texts)) > _MOST_BYTES:
            return None
        values = form.read(record.data)[:-1] + own
        equal = (form, asks, texts, *_likeness(values))
        known = self._known.get(equal)
        if known is None:
            self._keep(equal, "asked")
            return None
        if known == "never":
            return None
        recast, watched = None, None
        if isinstance(known, Recast):
            if known.watched.hold(self._store):
                recast = known
            else:
                self._known[equal] = "asked"
        if recast is None:
            watched = self._watch(context, admission)
            if watched is None:
                return None
        return Change(equal, record, form, texts, values, recast, watched, _notes(context))

    def learn(self, context: Context, change: Change, record: Record) -> None:
        """`record` is what the whole way made of the change, of no other state of the pod."""
        if change.watched is None or _notes(context) != change.noted or self._known.get(change.equal) != "asked":
            return  # it told more than the answer, or another was faster: one form is enough
        made = _recast(change, record, (context.field_manager.encode(), context.user.name.encode()))
        self._known[change.equal] = "never" if made is None else made

    def _watch(self, context: Context, admission: Admission | None) -> Watched | None:
        if admission is None:
            return Watched.of(self._store, ())
        depends = admission.repeats("pods", context.user)
        return None if depends is None else Watched.of(self._store, depends.resources)

    def _keep(self, equal: Equal, what: Literal["asked"]) -> None:
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[equal] = what


def _notes(context: Context) -> int:
    """How much is told beside the answer; a change that adds to it is not remembered."""
    return len(context.warnings) + len(context.annotations or ())


def _are_times(values: Sequence[bytes]) -> bool:
    """Whether those that look like times are (a 31st of February is none)."""
    for value in set(values):
        if value.endswith(b"Z"):
            try:
                datetime.datetime.fromisoformat(value.decode())
            except ValueError:
                return False
    return True


def _likeness(values: list[bytes]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[bool, ...]]:
    """Which values are equal; how times and addresses (lists and managers go by them) are ordered; which are times."""
    distinct = list(dict.fromkeys(values))
    number = {value: place for place, value in enumerate(distinct)}
    ordered = [value for value in distinct if value[:1].isdigit() and (b":" in value or b"." in value)]
    order = sorted(range(len(ordered)), key=ordered.__getitem__)
    times = [value[-1:] == b"Z" for value in distinct]
    return tuple([number[value] for value in values]), tuple(order), tuple(times)


def _recast(change: Change, record: Record, fixed: tuple[bytes, ...]) -> Recast | None:
    """The result with holes where the change's values are. None where a value could be other text."""
    first: dict[bytes, int] = {}
    for place, value in enumerate(change.values):
        if value:
            first.setdefault(value, place)
    version = b'"resourceVersion":"%d"' % record.version
    before, found, after = record.data.partition(version)
    if not found or version in after:
        return None
    longest = sorted(first, key=len, reverse=True)
    cut = re.compile(rb'(?<=")(' + b"|".join(map(re.escape, longest)) + rb')(?=["\\])').split
    head, tail = cut(before + b'"resourceVersion":"'), cut(b'"' + after)
    parts, known = [*head[::2], *tail[::2]], [*head[1::2], None, *tail[1::2]]
    texts = (*parts, *change.form.parts, *change.texts, *fixed)
    if any(value in text for value in first for text in texts):
        return None
    takes = list(dict.fromkeys(first[value] for value in known if value is not None))
    holes = [VERSION if value is None else takes.index(first[value]) for value in known]
    assert change.watched is not None
    try:
        return Recast(Form(parts, holes), tuple(takes), change.watched)
    except ValueError:
        return None
