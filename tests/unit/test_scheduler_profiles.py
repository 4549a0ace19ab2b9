"""Profiles as kube-scheduler's configuration has them: which plugins decide, with what weight, and mistakes by key."""

from __future__ import annotations

import pytest

from atoll.app.scheduler_config import read_profiles
from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.scheduling.devices.annotations import COUNT, INDEX, MEMORY, MILLI, MODEL, devices_of, index_of, share_of
from atoll.scheduling.devices.model import Share
from atoll.scheduling.plan import Planner
from atoll.scheduling.plugins.profile import profiles_of
from atoll.scheduling.plugins.registry import default_plugins
from atoll.scheduling.pod import PodInfo

VERSION = "kubescheduler.config.k8s.io/v1"
BAD_PODS = {"typicalPods": [{"weight": 0}]}
PACKED = {"filter": {"enabled": [{"name": "Open-Gpu-Share"}]}, "score": {"disabled": [{"name": "*"}]}}


def document(*profiles, **more):
    return {"apiVersion": VERSION, "kind": "KubeSchedulerConfiguration", "profiles": list(profiles), **more}


def with_score(name, weight=None, **more):
    enabled = {"name": name} if weight is None else {"name": name, "weight": weight}
    score = {"disabled": [{"name": "*"}], "enabled": [enabled]}
    return {"schedulerName": "packer", "plugins": {**PACKED, "score": score}, **more}


def planner(*profiles, nodes=2, memory=None):
    found = Planner(Chance(1), profiles=profiles_of(document(*profiles), Chance(1)))
    for number in range(nodes):
        allocatable = {"cpu": "32", "memory": "64Gi", "pods": "99", COUNT: "2"}
        if memory:
            allocatable[MEMORY] = memory
        labels = {MODEL: ("A", "B")[number % 2]}
        found.state.set_node(
            {"metadata": {"name": f"n{number}", "labels": labels}, "status": {"allocatable": allocatable}}
        )
    return found


def pod(found: Planner, name, scheduler="packer", cpu="1", **annotations) -> PodInfo:
    words = {"milli": MILLI, "count": COUNT, "model": MODEL, "memory": MEMORY}
    metadata = {"name": name, "uid": name, "namespace": "d"}
    metadata["annotations"] = {words[word]: value for word, value in annotations.items()}
    spec = {"schedulerName": scheduler, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}
    return found.pod({"metadata": metadata, "spec": spec})


def place(found: Planner, one: PodInfo):
    decision = found.decide(one)
    if decision.node is None:
        return decision.failure.message
    found.assume(one, decision.node)
    return decision.node, one.devices


@pytest.mark.parametrize("score", ["FGDScore", "ProspectScore", "BestFitScore", "GpuPackingScore", "RandomScore"])
def test_shares_fill_a_device_and_no_device_is_given_twice(score):
    found = planner(with_score(score))
    places = [place(found, pod(found, f"p{number}", milli="400")) for number in range(8)]
    assert all(isinstance(item, tuple) for item in places)
    assert all(places.count(item) == 2 for item in places)
    assert place(found, pod(found, "more", milli="400")).startswith(
        "0/2 nodes are available: 2 Insufficient alibabacloud.com/gpu-milli."
    )
    assert isinstance(place(found, pod(found, "small", milli="200")), tuple)


SHORT = "Insufficient alibabacloud.com/gpu-mem"


@pytest.mark.parametrize("score", ["FGDScore", "ProspectScore", "RandomScore"])
def test_memory_of_a_device_is_given_once(score):
    """One node of two devices of 16 GiB."""
    found = planner(with_score(score), nodes=1, memory="32Gi")
    first = place(found, pod(found, "a", memory="10Gi"))
    assert place(found, pod(found, "b", memory="6Gi")) == first  # the device with the least left
    other = ("n0", (1 - first[1][0],))
    assert place(found, pod(found, "c", milli="500")) == other  # and half of its memory
    assert f"1 {SHORT}" in place(found, pod(found, "d", memory="9Gi"))
    assert place(found, pod(found, "e", memory="8Gi", milli="100")) == other
    assert f"1 {SHORT}" in place(found, pod(found, "f", milli="100"))
    found.forgo(found.state.nodes["n0"].pods["b"])
    assert place(found, pod(found, "g", milli="300")) == first
    assert "Insufficient alibabacloud.com/gpu-milli" in place(found, pod(found, "whole", count="1"))
    assert f"1 {SHORT}" in place(found, pod(found, "large", memory="17Gi"))


def test_memory_needs_a_node_that_says_it():
    found = planner(with_score("FGDScore"))
    assert f"2 {SHORT}" in place(found, pod(found, "a", memory="1Gi"))
    assert "'7' is no quantity of 1Mi or more, as 4Gi" in place(found, pod(found, "b", memory="7"))
    assert place(planner(with_score("FGDScore"), memory="9223372036854775807"), pod(found, "c", memory="1Ti"))


def test_whole_gpus_models_and_what_is_wrong():
    found = planner(with_score("FGDScore"))
    assert place(found, pod(found, "pair", count="2", model="B|C")) == ("n1", (0, 1))
    told = place(found, pod(found, "another", model="B", milli="1"))
    assert (
        "1 node(s) had no GPU of a model that will do" in told and "1 Insufficient alibabacloud.com/gpu-milli" in told
    )
    assert "2 Insufficient alibabacloud.com/gpu-count" in place(found, pod(found, "many", count="3"))
    assert "'1.5' is not a whole number from 0 to 1000" in place(found, pod(found, "odd", milli="1.5"))
    found.forgo(found.state.nodes["n1"].pods["pair"])
    assert place(found, pod(found, "later", model="B", milli="1"))[0] == "n1"


def test_a_pod_that_was_given_devices_before_keeps_them():
    found = planner(with_score("FGDScore"), nodes=1)
    obj = pod(found, "old", milli="700").obj
    obj["metadata"]["annotations"][INDEX] = "1"
    found.state.place(found.pod(obj), "n0")
    assert place(found, pod(found, "half", milli="500")) == ("n0", (0,))
    assert place(found, pod(found, "rest", milli="300")) == ("n0", (1,))


def test_profiles_decide_for_their_own_pods():
    found = planner(with_score("BestFitScore"), {"schedulerName": "plain"}, nodes=3)
    for number in range(3):  # the default plugins spread, the packer fills
        assert place(found, pod(found, f"plain-{number}", "plain", cpu="4"))
    used = [len(node.pods) for node in found.state.nodes.values()]
    assert used == [1, 1, 1]
    packed = {place(found, pod(found, f"packed-{number}", cpu="4"))[0] for number in range(5)}
    assert len(packed) == 1


def test_weights_are_taken():
    """Room speaks for one node, the pod's wish for the other: the weight decides."""
    chosen = {}
    for weight in (1, 50):
        score = {"enabled": [{"name": "NodeResourcesFit", "weight": weight}]}
        found = planner({"schedulerName": "packer", "plugins": {"score": score}})
        for number in range(20):
            found.state.place(pod(found, f"full-{number}"), "n0")
        wish = {"matchExpressions": [{"key": MODEL, "operator": "In", "values": ["A"]}]}
        terms = [{"weight": 1, "preference": wish}]
        one = pod(found, "p").obj
        one["spec"]["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}
        chosen[weight] = found.decide(found.pod(one)).node
    assert chosen == {1: "n0", 50: "n1"}


def test_without_plugins_a_profile_has_the_default_ones():
    names = [plugin.name for plugin in profiles_of(document({}), Chance(1))["default-scheduler"]]
    assert names == [plugin.name for plugin in default_plugins()]


@pytest.mark.parametrize(("milli", "taken"), [(500, 0), (1000, 1)])
def test_expected_pods_are_an_argument(milli, taken):
    """A quarter spoils a half for halves to come, and a whole device for whole ones."""
    pods = [{"cpu": 1, "gpuMilli": milli, "gpuModel": "A|B", "weight": 7}]
    config = [{"name": "FGDScore", "args": {"typicalPods": pods}}]
    found = planner(with_score("FGDScore", pluginConfig=config), nodes=1)
    first = pod(found, "first", milli="500")
    first.devices = (1,)
    found.state.place(first, "n0")
    assert place(found, pod(found, "quarter", milli="250")) == ("n0", (taken,))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("nothing", "kind: is not KubeSchedulerConfiguration"),
        ({"kind": "KubeSchedulerConfiguration", "apiVersion": "v1"}, "apiVersion: 'v1' is not"),
        (document("x"), "profiles[0]: is not a map"),
        (document({}, {}), "profiles[1].schedulerName: 'default-scheduler' is taken"),
        (
            document({"plugins": {"score": {"enabled": [{"name": "Nope"}]}}}),
            "profiles[0].plugins.score.enabled: 'Nope'",
        ),
        (document({"plugins": {"nope": {}}}), "profiles[0].plugins.nope: is no extension point"),
        (document(with_score("FGDScore", 0)), "profiles[0].plugins.score.enabled: FGDScore: weight 0"),
        (document({"plugins": {"score": {"enabled": [{"name": "FGDScore"}]}}}), "Open-Gpu-Share is missing"),
        (document({"pluginConfig": [{"name": "NodeResourcesFit", "args": {}}]}), "profiles[0].pluginConfig[0]"),
        (
            document(
                with_score("FGDScore", pluginConfig=[{"name": "FGDScore", "args": {"typicalPods": [{"weight": 0}]}}])
            ),
            "profiles[0].pluginConfig[0].args.typicalPods[0]",
        ),
    ],
)
def test_mistakes_are_told_by_their_key(wrong, told):
    with pytest.raises(UserError) as caught:
        profiles_of(wrong, Chance(1))
    assert told in str(caught.value) and caught.value.hint


def test_the_file_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(UserError, match=r"config.yaml: No such file"):
        read_profiles(path, Chance(1))
    path.write_text("kind: [")
    with pytest.raises(UserError, match=r"config.yaml: is not YAML"):
        read_profiles(path, Chance(1))
    path.write_text("kind: KubeSchedulerConfiguration\napiVersion: kubescheduler.config.k8s.io/v1\nprofiles: {}\n")
    assert read_profiles(path, Chance(1)) == {}
    path.write_text("kind: KubeSchedulerConfiguration\napiVersion: kubescheduler.config.k8s.io/v1\nprofiles: 3\n")
    with pytest.raises(UserError, match=r"config.yaml: profiles: is not a list"):
        read_profiles(path, Chance(1))


def test_what_a_pod_asks_for():
    assert share_of(None) is None and share_of({MODEL: "A"}) is None and share_of({MILLI: "0"}) is None
    assert share_of({MILLI: "250"}) == Share(1, 250)
    assert share_of({MEMORY: "2Gi"}) == Share(1, 1, memory=2 << 30)
    assert share_of({MEMORY: "1Mi", MILLI: "20", COUNT: "2"}) == Share(2, 20, memory=1 << 20)
    assert share_of({COUNT: "4", MODEL: "A | B"}) == Share(4, 1000, frozenset("AB"))
    for value in ("-1", "1001", "x", "٣", "1" * 40):
        assert share_of({MILLI: value}).wrong
    assert devices_of({INDEX: index_of((3, 0))}) == (3, 0)
    assert devices_of({INDEX: "3-x"}) == devices_of({INDEX: ""}) == devices_of({}) == ()
