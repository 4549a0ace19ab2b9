"""Teams: allotments by as few changes as can be (against all of them by hand), taints, tolerations, borrowing."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from atoll.capacity import names
from atoll.capacity.settings import SettingsError, parse
from atoll.capacity.teams.admission import TeamTolerations, misused, toleration
from atoll.capacity.teams.flow import NodeClass, allot
from atoll.capacity.teams.plan import change, foreign, owner_of, plan_teams
from atoll.capacity.teams.policy import policy
from atoll.capacity.teams.settings import Team, TeamSettings
from atoll.capacity.teams.summary import lines

NOW = 1_700_000_000.0
TWO = TeamSettings((Team("red", {"pool": "a"}, 2), Team("blue", {"pool": "a"}, 1)))


def node(name: str, pool: str = "a", team: str = "", **more: Any) -> Any:
    taints = [{"key": names.TEAM, "value": team, "effect": "NoSchedule"}] if team else []
    labels = {"pool": pool} | ({names.TEAM: team} if team else {})
    return {"metadata": {"name": name, "resourceVersion": "1", "labels": labels}, "spec": {"taints": taints, **more}}


def pod(team: str = "", where: str = "", **spec: Any) -> Any:
    labels = {names.TEAM: team} if team else {}
    return {"metadata": {"name": "p", "namespace": "d", "labels": labels}, "spec": {"nodeName": where, **spec}}


def owners(nodes: list[Any], settings: TeamSettings, work: dict[str, Counter[str]] | None = None) -> dict[str, str]:
    return plan_teams(nodes, settings, work or {}).teams


def test_an_allotment_keeps_what_it_can() -> None:
    fresh = [node(f"n{number}") for number in range(4)]
    assert Counter(owners(fresh, TWO).values()) == {"red": 2, "blue": 1}
    have = [node("n0", team="red"), node("n1"), node("n2", team="red"), node("n3", team="blue")]
    assert owners(have, TWO) == {"n0": "red", "n2": "red", "n3": "blue"}
    less = TeamSettings((Team("red", {"pool": "a"}, 1), Team("blue", {"pool": "a"}, 1)))
    work = {"n2": Counter({"red": 5})}
    assert owners(have, less, work) == {"n0": "", "n2": "red", "n3": "blue"}, "where it works it stays"


def test_a_free_node_without_work_comes_first() -> None:
    nodes = [node("n0"), node("n1"), node("n2")]
    work = {"n0": Counter({"": 3}), "n1": Counter({"": 1})}
    assert owners(nodes, TeamSettings((Team("red", {}, 1),)), work) == {"n2": "red"}


def test_who_is_named_first_has_its_own_first_and_the_rest_is_told() -> None:
    found = plan_teams([node("n0"), node("n1")], TWO, {})
    assert (Counter(found.teams.values()), found.short) == (Counter({"red": 2}), {"blue": 1})


def test_a_team_makes_room_where_only_another_can_move() -> None:
    """blue holds the only nodes that red may have, and may have others."""
    settings = TeamSettings((Team("red", {"pool": "a"}, 1), Team("blue", {}, 1)))
    assert owners([node("n0", team="blue"), node("n1", "b")], settings) == {"n0": "red", "n1": "blue"}


def test_teams_that_are_no_more_lose_their_nodes() -> None:
    assert owners([node("n0", team="gone"), node("n1", "b", team="red")], TeamSettings()) == {"n0": "", "n1": ""}


def every_way(classes: dict[NodeClass, int], amounts: list[tuple[str, int]]) -> tuple[tuple[int, ...], int]:
    """By trying all: what each team gets at best, in their order, and the fewest changes for that."""
    units = [kind for kind, count in classes.items() for _ in range(count)]
    best: tuple[tuple[int, ...], int] | None = None
    for chosen in itertools.product(*(["", *sorted(kind.eligible)] for kind in units)):
        counts = Counter(chosen)
        if any(counts[team] > amount for team, amount in amounts):
            continue
        got = tuple(counts[team] for team, _ in amounts)
        changes = sum(team != kind.owner for team, kind in zip(chosen, units, strict=True))
        if best is None or (got, -changes) > (best[0], -best[1]):
            best = (got, changes)
    assert best is not None
    return best


@pytest.mark.parametrize("seed", range(150))
def test_no_allotment_has_fewer_changes(seed: int) -> None:
    dice = random.Random(seed)
    teams = ["a", "b", "c"]
    classes: Counter[NodeClass] = Counter()
    for _ in range(dice.randint(1, 6)):
        eligible = frozenset(team for team in teams if dice.random() < 0.6)
        owner = dice.choice(["", *teams])
        classes[NodeClass(eligible, owner)] += 1
    amounts = [(team, dice.randint(0, 3)) for team in teams]
    found = allot(classes, amounts)
    got = Counter[str]()
    changes = 0
    for kind, count in classes.items():
        of_kind = {team: number for (other, team), number in found.items() if other == kind}
        assert sum(of_kind.values()) <= count and of_kind.keys() <= kind.eligible
        got.update(of_kind)
        kept = of_kind.get(kind.owner, 0)
        changes += count - kept if kind.owner else sum(of_kind.values())
    assert (tuple(got[team] for team, _ in amounts), changes) == every_way(dict(classes), amounts)


def test_taint_and_label_are_written_where_they_differ() -> None:
    assert change(node("n", team="red"), "red", NOW) is None and change(node("n"), "", NOW) is None
    patch = change(node("n", taints=[{"key": "x", "effect": "NoSchedule"}]), "red", NOW)
    assert patch is not None and patch["metadata"]["labels"] == {names.TEAM: "red"}
    assert [(taint["key"], taint.get("value")) for taint in patch["spec"]["taints"]] == [
        ("x", None),
        (names.TEAM, "red"),
    ]
    freed = change(node("n", team="red"), "", NOW)
    assert freed is not None and freed["spec"]["taints"] == [] and freed["metadata"]["labels"] == {names.TEAM: None}
    unlabelled = node("n", team="red")
    del unlabelled["metadata"]["labels"][names.TEAM]
    assert change(unlabelled, "red", NOW) is not None
    assert owner_of(node("n", team="red")) == "red"


def test_who_may_stay() -> None:
    own = {"key": names.TEAM, "operator": "Equal", "value": "red", "effect": "NoSchedule"}
    any_of = {"key": names.TEAM, "operator": "Exists"}
    pods = [pod(), pod(tolerations=[own]), pod(tolerations=[any_of]), pod(tolerations=[{"operator": "Exists"}])]
    assert foreign(node("n", team="red"), pods) == [pods[0]]
    assert foreign(node("n", team="blue"), pods) == pods[:2]
    assert foreign(node("n"), pods) == []


def test_tolerations_are_given_by_label_namespace_and_priority() -> None:
    equal = {"key": names.TEAM, "operator": "Equal", "value": "red", "effect": "NoSchedule"}
    space = {"metadata": {"labels": {names.TEAM: "red"}}}
    assert toleration(pod("red"), None, TWO) == toleration(pod(), space, TWO) == equal
    assert toleration(pod("unknown"), None, TWO) is None and toleration(pod(), None, TWO) is None
    low = toleration(pod("red", priority=-1), None, TWO)
    assert low == {"key": names.TEAM, "operator": "Exists", "effect": "NoSchedule"}


def test_the_plugin_reads_the_newest_settings_and_keeps_the_last_good_ones() -> None:
    stored = {
        "metadata": {"resourceVersion": "1"},
        "data": {"teams.yaml": "teams: [{name: red, selector: {}, amount: 1}]"},
    }
    plugin = TeamTolerations(lambda name: stored, lambda name: None)

    class Request:
        operation, subresource, namespace, old = "CREATE", "", "d", None

        def __init__(self) -> None:
            self.obj: Any = pod("red")

    first = Request()
    plugin.mutate(first)
    plugin.mutate(first)
    assert len(first.obj["spec"]["tolerations"]) == 1
    stored |= {"metadata": {"resourceVersion": "2"}, "data": {"teams.yaml": "teams: 3"}}
    second = Request()
    plugin.mutate(second)
    assert second.obj["spec"]["tolerations"] == first.obj["spec"]["tolerations"]


def test_mistakes_in_the_settings_are_told() -> None:
    with pytest.raises(SettingsError, match="'red' is named twice"):
        parse("teams: [{name: red, selector: {}, amount: 1}, {name: red, selector: {}, amount: 1}]", TeamSettings)
    with pytest.raises(SettingsError, match=r">= 0"):
        parse("teams: [{name: red, selector: {}, amount: -1}]", TeamSettings)


def test_the_table_tells_who_borrows() -> None:
    nodes = [node("n0", team="red"), node("n1", team="red")]
    pods = [pod("red", "n0"), pod("", "n0"), pod("blue", "n1"), pod("red")]
    (red, blue) = lines(TWO, nodes, pods, {})
    assert (red.have, red.wanted, red.own, red.borrowed, red.waiting) == (2, 2, 2, 2, 1)
    assert (blue.have, blue.own, blue.borrowed) == (0, 1, 0)
    assert [obj["kind"] for obj in policy(TWO)] == ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]


def out(name: str, team: str = "") -> Any:
    found = node(name, team=team)
    found["spec"]["taints"].append({"key": names.UNHEALTHY_TAINT, "value": "XID79", "effect": "NoSchedule"})
    return found


def test_a_node_that_is_out_is_replaced_and_given_up_when_it_is_back() -> None:
    fleet = [node("n0", team="red"), node("n1", team="red"), node("n2", team="blue"), node("n3")]
    assert owners(fleet, TWO) == {"n0": "red", "n1": "red", "n2": "blue"}
    fleet[0] = out("n0", "red")
    found = plan_teams(fleet, TWO, {})
    assert found.teams == {"n0": "red", "n1": "red", "n2": "blue", "n3": "red"} and not found.short
    fleet[3] = node("n3", team="red")
    fleet[0] = node("n0", team="red")
    work = {"n1": Counter({"red": 1}), "n3": Counter({"red": 1})}
    assert owners(fleet, TWO, work) == {"n0": "", "n1": "red", "n2": "blue", "n3": "red"}, "the empty one goes"


def test_a_node_that_is_out_is_given_to_nobody() -> None:
    found = plan_teams([out("n0"), node("n1")], TWO, {})
    assert found.teams == {"n1": "red"} and found.short == {"red": 1, "blue": 1}
    assert owners([out("n0", "gone"), out("n1", "red")], TWO) == {"n0": "", "n1": "red"}


def gpus(name: str, count: int, team: str = "") -> Any:
    return node(name, team=team) | {"status": {"capacity": {"nvidia.com/gpu": str(count)} if count else {}}}


def test_gpus_are_rounded_up_to_whole_nodes() -> None:
    settings = parse(
        "teams: [{name: red, selector: {pool: a}, gpus: 20}, {name: blue, selector: {}, amount: 1}]", TeamSettings
    )
    fleet = [gpus("cpu", 0), *(gpus(f"n{number}", 8) for number in range(5))]
    found = plan_teams(fleet, settings, {})
    assert found.wanted == {"red": 3, "blue": 1} and found.teams["cpu"] == "blue"
    small = plan_teams([*fleet, gpus("small", 4)], settings, {})
    assert small.wanted["red"] == 5, "never less than promised, whichever nodes it gets"
    assert plan_teams([gpus("cpu", 0)], settings, {}).short == {"red": 1}
    for text in ("{name: red, selector: {}}", "{name: red, selector: {}, amount: 1, gpus: 8}"):
        with pytest.raises(SettingsError, match="either an amount"):
            parse(f"teams: [{text}]", TeamSettings)


BOUND = parse(
    "teams: [{name: red, selector: {}, amount: 1, namespaces: [research]}, {name: blue, selector: {}, amount: 1}]",
    TeamSettings,
)


@pytest.mark.parametrize(
    ("namespace", "told", "refused"),
    [
        ("research", pod("red"), ""), ("d", pod("red"), "red"), ("d", pod("blue"), ""), ("d", pod(), ""),
        ("d", pod(tolerations=[{"key": names.TEAM, "value": "red"}]), "red"),
        ("d", pod(tolerations=[{"key": names.TEAM, "value": "blue"}]), ""),
        ("d", pod(tolerations=[{"key": names.TEAM, "operator": "Exists"}]), "red"),
        ("d", pod(tolerations=[{"key": names.TEAM, "operator": "Exists"}], priority=-1), ""),
        ("d", pod(tolerations=[{"operator": "Exists"}]), ""),
    ],
)  # fmt: skip
def test_a_team_is_for_its_namespaces(namespace: str, told: Any, refused: str) -> None:
    assert misused(told, None, namespace, BOUND) == refused
    common = {"metadata": {"labels": {names.TEAM: "red"}}}
    assert misused(pod(), common, "d", BOUND) == "red", "a namespace's label too"
