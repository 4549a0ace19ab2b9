"""Values that a recast is found for at once are those that the whole comparison finds it for."""

from hypothesis import given
from hypothesis import strategies as st

from atoll.cluster.apiserver.verbs.recasts import _Likeness, _likeness

_VALUES = st.sampled_from(
    [
        b"a", b"b", b"web-1", b"10.web", b"5f0c:Z", b"Z", b"", b"\0", b"Pod a.b to c", b"lastZ", b"2026", b"10.0.0.1",
        b"10.0.0.2", b"172.30.0.1", b"2026-11-28T17:00:00Z", b"2026-11-28T17:00:01Z", b"9Z", b"1:", b"1:Z",
    ]
)  # fmt: skip
_LISTS = st.lists(_VALUES, min_size=3, max_size=6)


@given(_LISTS, _LISTS)
def test_no_other_values_are_taken_for_alike(made_of: list[bytes], values: list[bytes]) -> None:
    values = (values * 2)[: len(made_of)]
    alike = _Likeness(made_of)
    assert alike.has(made_of)
    if len(values) == len(made_of) and alike.has(values):
        assert _likeness(values) == _likeness(made_of)


@given(st.integers(0, 255), st.integers(0, 59))
def test_other_names_and_later_times_are_alike(number: int, second: int) -> None:
    def values(number: int, second: int) -> list[bytes]:
        name, time = b"web-%d" % number, b"2026-11-28T17:00:%02dZ" % second
        return [name, b"%d-a" % number, b"10.0.0.%d" % number, b"172.0.0.%d" % number, time, time, b"Pod %s.x" % name]

    assert _Likeness(values(0, 0)).has(values(number, second))
