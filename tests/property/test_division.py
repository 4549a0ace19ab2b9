"""Replica division: sums are exact, the order of input is nothing, nobody loses on a scale-up."""

from hypothesis import given
from hypothesis import strategies as st

from atoll.scheduling import division

NAMES = st.sampled_from([f"member{number}" for number in range(8)])
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 60), min_size=1)
REPLICAS = st.integers(0, 300)
STANDING = st.dictionaries(NAMES, st.integers(0, 40))
ROOM = st.dictionaries(NAMES, st.integers(0, 40), min_size=1)


@given(REPLICAS, WEIGHTS)
def test_webster_is_exact_and_equals_one_seat_at_a_time(replicas: int, weights: dict[str, int]) -> None:
    found = division.webster(replicas, weights)
    assert sum(found.shares.values()) + found.unplaced == replicas
    if any(weights.values()):
        assert found.unplaced == 0
        assert found.shares == _seat_by_seat(replicas, weights)


@given(REPLICAS, WEIGHTS, ROOM, STANDING)
def test_webster_with_bounds_equals_one_seat_at_a_time(
    replicas: int, weights: dict[str, int], most: dict[str, int], given: dict[str, int]
) -> None:
    room = {name: most.get(name, replicas) for name in weights}
    assert division.webster(replicas, weights, most, given).shares == _seat_by_seat(replicas, weights, room, given)


def test_numbers_of_any_size() -> None:
    shares = division.webster(2**31 - 1, {"a": 1, "b": 10**12, "c": 10**12, "d": 0}, most={"b": 7}).shares
    assert shares == {"a": 0, "b": 7, "c": 2**31 - 8, "d": 0}


def _seat_by_seat(
    replicas: int, weights: dict[str, int], room: dict[str, int] | None = None, given: dict[str, int] | None = None
) -> dict[str, int]:
    shares = dict.fromkeys(weights, 0)
    start = {name: (given or {}).get(name, 0) for name in weights}
    for _ in range(replicas):
        ahead = [name for name in sorted(weights) if weights[name] and (room is None or shares[name] < room[name])]
        if not ahead:
            break
        best = ahead[0]
        for name in ahead[1:]:
            mine = weights[name] * (2 * (start[best] + shares[best]) + 1)
            its = weights[best] * (2 * (start[name] + shares[name]) + 1)
            if (mine, weights[name]) > (its, weights[best]):
                best = name
        shares[best] += 1
    return shares


@given(REPLICAS, WEIGHTS, st.randoms(use_true_random=False))
def test_webster_does_not_see_the_order(replicas: int, weights: dict[str, int], chance: object) -> None:
    items = list(weights.items())
    chance.shuffle(items)  # type: ignore[attr-defined]
    assert division.webster(replicas, dict(items)).shares == division.webster(replicas, weights).shares


@given(REPLICAS, WEIGHTS)
def test_webster_takes_from_nobody_on_a_scale_up(replicas: int, weights: dict[str, int]) -> None:
    before, after = division.webster(replicas, weights).shares, division.webster(replicas + 1, weights).shares
    assert all(after[name] >= before[name] for name in weights)


@given(st.integers(10_000, 2_000_000), st.dictionaries(NAMES, st.integers(1, 9), min_size=1))
def test_many_replicas_are_near_their_quota(replicas: int, weights: dict[str, int]) -> None:
    shares = division.webster(replicas, weights).shares
    assert sum(shares.values()) == replicas
    total = sum(weights.values())
    assert all(abs(shares[name] * total - replicas * weights[name]) < total * len(weights) for name in weights)


@given(REPLICAS, STANDING, ROOM)
def test_growing_keeps_what_stands_within_room(replicas: int, standing: dict[str, int], room: dict[str, int]) -> None:
    for divide in (division.grow, division.aggregate):
        wanted = max(replicas, sum(standing.values()))
        found = divide(wanted, standing, room)
        assert sum(found.shares.values()) + found.unplaced == wanted
        for name, share in found.shares.items():
            assert standing.get(name, 0) <= share <= standing.get(name, 0) + room.get(name, 0)
        assert bool(found.unplaced) == bool(found.reason)
        if found.unplaced:
            assert sum(found.shares.values()) == sum(standing.values()) + sum(room.values())


@given(REPLICAS, STANDING)
def test_shrinking_is_exact_and_nobody_grows(replicas: int, standing: dict[str, int]) -> None:
    replicas = min(replicas, sum(standing.values()))
    for found in (division.shrink(replicas, standing), division.aggregate(replicas, standing, {})):
        assert sum(found.shares.values()) == replicas
        assert all(share <= standing[name] for name, share in found.shares.items())


def test_ties_go_to_the_heavier_then_to_the_lower_name() -> None:
    assert division.webster(1, {"b": 1, "a": 1}).shares == {"a": 1, "b": 0}
    assert division.webster(4, {"member1": 1, "member2": 1, "member3": 1}).shares == {
        "member1": 2, "member2": 1, "member3": 1}  # fmt: skip
    assert division.webster(1, {"a": 1, "b": 3}).shares == {"a": 0, "b": 1}
