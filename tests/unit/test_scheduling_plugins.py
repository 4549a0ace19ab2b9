"""A user's own plugins: found as entry points, asked beside the default ones."""

from __future__ import annotations

import pytest

from atoll.base.chance import Chance
from atoll.scheduling.plan import Planner
from atoll.scheduling.plugins.port import Filter, Plugin, Score
from atoll.scheduling.plugins.registry import PluginNotLoaded, default_plugins, installed_plugins
from atoll.scheduling.status import Status

OLD = Status(("node(s) were too old",))


class NotOld(Plugin):
    name = "NotOld"

    def filter(self, shape, nodes):
        return OldFilter(nodes)

    def score(self, shape, nodes):
        return Youth(nodes)


class OldFilter(Filter):
    static = True

    def __init__(self, nodes):
        self._nodes = nodes

    def allowed(self, rows):
        ages = self._nodes.label("age")
        return ages.ids[rows] != ages.values.get("old", -2)

    def why(self, node):
        return OLD if node.labels.get("age") == "old" else None


class Youth(Score):
    weight = 10
    static = True

    def __init__(self, nodes):
        self._nodes = nodes

    def values(self, rows):
        ages = self._nodes.label("age")
        return 100 * (ages.ids[rows] == ages.values.get("new", -2))


def planner(*ages):
    found = Planner(Chance(1), plugins=(*default_plugins(), NotOld()))
    for number, age in enumerate(ages):
        metadata = {"name": f"n{number}", "labels": {"age": age}}
        found.state.set_node({"metadata": metadata, "status": {"allocatable": {"cpu": "8", "pods": "9"}}})
    return found


def pod(found, number):
    spec = {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}
    return found.pod({"metadata": {"name": f"p{number}", "namespace": "d", "uid": f"u{number}"}, "spec": spec})


def test_a_users_filter_and_score_decide_with_the_others():
    found = planner("old", "middle", "new", "middle")
    for number in range(8):
        one = pod(found, number)
        decision = found.decide(one)
        assert decision.node == "n2"
        found.state.place(one, "n2")
    assert found.decide(pod(found, 9)).node in ("n1", "n3")


@pytest.mark.parametrize("count", [1, 2])
def test_a_users_reason_is_told(count):
    found = planner(*["old"] * count)
    message = found.decide(pod(found, 0)).failure.message
    assert message == f"0/{count} nodes are available: {count} node(s) were too old."


def install(folder, monkeypatch, value):
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[atoll.scheduling.plugins]\nmine = {value}\n")
    (folder / "mine_plugins.py").write_text(
        "from atoll.scheduling.plugins.port import Plugin\nclass Mine(Plugin):\n    name = 'Mine'\nmade = Mine()\n"
    )
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize("value", ["mine_plugins:Mine", "mine_plugins:made"])
def test_installed_plugins_are_classes_or_objects(tmp_path, monkeypatch, value):
    install(tmp_path, monkeypatch, value)
    assert [plugin.name for plugin in installed_plugins()] == ["Mine"]


def test_a_plugin_that_cannot_be_had_is_named(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "mine_plugins:Missing")
    with pytest.raises(PluginNotLoaded, match=r"scheduling plugin mine \(mine_plugins:Missing\)"):
        installed_plugins()
