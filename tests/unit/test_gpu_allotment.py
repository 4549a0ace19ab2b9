"""Which containers get which devices: by index, spread where shared, as many as asked for and none twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cluster.gpus.advertise import Unit, advertise
from atoll.cluster.gpus.allotment import (
    NoDevices,
    allot,
    asks_for_devices,
    environment,
    held,
    recorded,
    status_of,
)
from atoll.cluster.gpus.health import device_health
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.settings import PluginConfig, Sharing
from atoll.cluster.gpus.types import gpu_type

GPU = "nvidia.com/gpu"
UNITS = [Unit(f"GPU-{index}", GPU, index) for index in range(4)]
SHARED = advertise(
    [Gpu(index, index, f"GPU-{index}", gpu_type("t4")) for index in range(2)],
    {},
    PluginConfig(shared={GPU: Sharing(3)}),
).units


def container(name: str, count: int = 0, resource: str = GPU, **more) -> dict:
    limits = {resource: str(count)} if count else {"cpu": "1"}
    return {"name": name, "resources": {"limits": limits}, **more}


def pod(*containers: dict, init: tuple[dict, ...] = (), **status) -> dict:
    metadata = {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "7"}
    return {
        "metadata": metadata,
        "spec": {"containers": list(containers), "initContainers": list(init)},
        "status": status,
    }


def test_by_index_over_containers():
    found = allot(pod(container("a", 2), container("b"), container("c", 1)), UNITS, {"GPU-1"})
    assert found == {"a": {GPU: ["GPU-0", "GPU-2"]}, "c": {GPU: ["GPU-3"]}}
    assert environment(found["a"]) == {"NVIDIA_VISIBLE_DEVICES": "GPU-0,GPU-2"} and environment({}) == {}


def test_an_init_containers_devices_go_on_to_the_next():
    found = allot(pod(container("a", 3), container("b", 1), init=(container("i", 2),)), UNITS, ())
    assert found["i"] == {GPU: ["GPU-0", "GPU-1"]}
    assert found["a"] == {GPU: ["GPU-0", "GPU-1", "GPU-2"]} and found["b"] == {GPU: ["GPU-3"]}
    sidecar = allot(pod(container("a", 1), init=(container("s", 1, restartPolicy="Always"),)), UNITS, ())
    assert sidecar == {"s": {GPU: ["GPU-0"]}, "a": {GPU: ["GPU-1"]}}


def test_shared_devices_are_spread():
    found = allot(pod(container("a", 1), container("b", 1), container("c", 1)), SHARED, {"GPU-0::0", "GPU-0::1"})
    assert [ids[GPU][0].partition("::")[0] for ids in found.values()] == ["GPU-1", "GPU-1", "GPU-0"]
    two = allot(pod(container("a", 2)), SHARED, ())
    assert environment(two["a"]) == {"NVIDIA_VISIBLE_DEVICES": "GPU-0,GPU-1"}
    with pytest.raises(NoDevices, match="maximum request size for shared resources is 1"):
        allot(pod(container("a", 2)), SHARED, (), shared_at_most_one=True)


def test_what_is_not_there_is_refused_in_kubelets_words():
    sick = [*UNITS[:3], Unit("GPU-3", GPU, 3, healthy=False)]
    with pytest.raises(NoDevices, match=r"unavailable for nvidia.com/gpu. Requested: 3, Available: 2, which is unexp"):
        allot(pod(container("a", 3)), sick, {"GPU-0"})
    with pytest.raises(NoDevices, match="Requested: 1, Available: 0"):
        allot(pod(container("a", 1, "nvidia.com/mig-1g.10gb")), UNITS, ())


def test_the_status_is_the_record():
    asked = pod(container("a", 2), init=(container("i", 1),))
    assert asks_for_devices(asked) and not asks_for_devices(pod(container("a")))
    found = allot(asked, UNITS, ())
    sick = [Unit("GPU-0", GPU, 0, healthy=False), *UNITS[1:]]
    statuses = {name: {"name": name, "allocatedResourcesStatus": status_of(ids, sick)} for name, ids in found.items()}
    running = pod(phase="Running", containerStatuses=[statuses["a"]], initContainerStatuses=[statuses["i"]])
    assert recorded(running) == found and held(running) == {"GPU-0", "GPU-1"}
    assert statuses["a"]["allocatedResourcesStatus"][0]["resources"][0] == {
        "resourceID": "GPU-0",
        "health": "Unhealthy",
    }
    assert held({**running, "status": {**running["status"], "phase": "Succeeded"}}) == set()
    assert recorded(pod(phase="Running", containerStatuses=[{"name": "a"}])) == {}


def test_health_follows_the_device():
    status = {"name": "a", "ready": True, "allocatedResourcesStatus": status_of({GPU: ["GPU-0", "GPU-1"]}, UNITS)}
    running = pod(phase="Running", containerStatuses=[status, {"name": "b"}])
    assert device_health(running, UNITS) is None
    patch = device_health(running, [Unit("GPU-0", GPU, 0, healthy=False)])
    assert patch["metadata"] == {"resourceVersion": "7"}
    (resource,) = patch["status"]["containerStatuses"][0]["allocatedResourcesStatus"]
    assert [item["health"] for item in resource["resources"]] == ["Unhealthy", "Unknown"]
    assert patch["status"]["containerStatuses"][0]["ready"] is True and len(patch["status"]["containerStatuses"]) == 2


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=8), st.booleans())
def test_none_is_given_twice_whatever_is_asked_for(pods, shared):
    units, taken = SHARED if shared else UNITS, set()
    for counts in pods:
        asked = pod(*(container(f"c{place}", count) for place, count in enumerate(counts)))
        try:
            found = allot(asked, units, taken)
        except NoDevices:
            assert sum(counts) > len(units) - len(taken)
            continue
        given_now = [item for ids in found.values() for item in ids[GPU]]
        assert len(given_now) == len(set(given_now)) == sum(counts)
        assert not taken & set(given_now)
        taken |= set(given_now)
