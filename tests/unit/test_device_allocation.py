"""The allocator of devices on small inventories: what a claim gets, what it is refused, what is written."""

from __future__ import annotations

import itertools

import pytest

from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.scheduling.dra.allocate import PoolProblem, Site, Wanted, search
from atoll.scheduling.dra.ledger import Ledger
from atoll.scheduling.dra.model import AllocationError, DeviceClass
from atoll.scheduling.dra.pools import Inventory
from atoll.scheduling.dra.results import allocations, preference

DRIVER = "gpu.example.com"
CLASSES = {
    "gpu": DeviceClass("gpu"),
    "big": DeviceClass("big", ("device.capacity['gpu.example.com'].memory.compareTo(quantity('100Gi')) >= 0",)),
    "set": DeviceClass("set", (), ({"opaque": {"driver": DRIVER, "parameters": {"mode": "shared"}}},)),
}


def device(name, memory="80Gi", **fields):
    attributes = fields.pop("attributes", {})
    told = {key: {"int" if isinstance(value, int) else "string": value} for key, value in attributes.items()}
    return {"name": name, "attributes": told, "capacity": {"memory": {"value": memory}}, **fields}


def slice_of(name, devices=None, pool="n1", generation=1, count=1, **fields):
    spec = {"driver": DRIVER, "pool": {"name": pool, "generation": generation, "resourceSliceCount": count}}
    if not any(field in fields for field in ("nodeSelector", "allNodes", "perDeviceNodeSelection")):
        spec["nodeName"] = "n1"
    if devices is not None:
        spec["devices"] = devices
    return {"metadata": {"name": name}, "spec": {**spec, **fields}}


def site(*slices, node="n1", labels=None, ledger=None):
    inventory = Inventory()
    for found in slices:
        inventory.put(found)
    labels = labels or {}
    pools = inventory.of_node(node, labels)
    return Site(node, labels, pools, ledger or Ledger(), CLASSES, CelSelectors())


def exactly(name="gpu", kind="gpu", **fields):
    return {"name": name, "exactly": {"deviceClassName": kind, **fields}}


def claim(*requests, **fields):
    return Wanted("default/c", {"devices": {"requests": list(requests), **fields}})


def cel(text):
    return {"selectors": [{"cel": {"expression": text}}]}


def names(where, *wanted):
    """The devices of each claim, or None."""
    solution = search(where, wanted)
    return None if solution is None else [[item.device.id[2] for item in found.picked] for found in solution]


def written(where, *wanted):
    ids = (f"share-{number}" for number in itertools.count())
    return allocations(search(where, wanted), where.name, CLASSES, lambda: next(ids))


THREE = slice_of("s", [device("a"), device("b", "141Gi"), device("c")])


def test_the_first_devices_that_fit_are_taken_in_order():
    assert names(site(THREE), claim(exactly())) == [["a"]]
    assert names(site(THREE), claim(exactly(count=2)), claim(exactly())) == [["a", "b"], ["c"]]
    assert names(site(THREE), claim(exactly(count=4))) is None


def test_classes_and_selectors_choose():
    assert names(site(THREE), claim(exactly(kind="big"))) == [["b"]]
    wanted = exactly(**cel("device.capacity['gpu.example.com'].memory.isLessThan(quantity('100Gi'))"), count=2)
    assert names(site(THREE), claim(wanted)) == [["a", "c"]]


def test_what_was_taken_first_is_given_back_where_it_is_needed_elsewhere():
    """`any` takes b only because nothing else is left for `big`."""
    two = slice_of("s", [device("b", "141Gi"), device("c")])
    assert names(site(two), claim(exactly("any")), claim(exactly("big", "big"))) == [["c"], ["b"]]


def test_taken_devices_are_not_given_again_but_to_admins():
    ledger = Ledger()
    ledger.add([{"driver": DRIVER, "pool": "n1", "device": "a"}])
    where = site(slice_of("s", [device("a")]), ledger=ledger)
    assert names(where, claim(exactly())) is None
    (found,) = written(where, claim(exactly(adminAccess=True)))
    assert found["devices"]["results"][0]["adminAccess"] is True
    ledger.add(found["devices"]["results"])
    ledger.add([{"driver": DRIVER, "pool": "n1", "device": "a"}], -1)
    assert names(where, claim(exactly())) == [["a"]]


def test_all_means_every_device_that_fits_and_at_least_one():
    assert names(site(THREE), claim(exactly(allocationMode="All"))) == [["a", "b", "c"]]
    assert names(site(THREE), claim(exactly(kind="big", allocationMode="All"))) == [["b"]]
    assert names(site(THREE), claim(exactly(allocationMode="All", **cel("false")))) is None
    half = slice_of("s", [device("a")], count=2)
    with pytest.raises(AllocationError, match="asks for all devices, but resource pool"):
        search(site(half), [claim(exactly(allocationMode="All"))])


def test_alternatives_are_tried_in_order():
    either = {
        "name": "gpu",
        "firstAvailable": [
            {"name": "large", "deviceClassName": "big", "count": 2},
            {"name": "small", "deviceClassName": "gpu", "count": 1},
        ],
    }
    where = site(THREE)
    solution = search(where, [claim(either)])
    assert preference(solution) == 7
    (found,) = allocations(solution, "n1", CLASSES, str)
    assert [item["request"] for item in found["devices"]["results"]] == ["gpu/small"]
    two_big = slice_of("s", [device("a", "141Gi"), device("b", "141Gi")])
    assert preference(search(site(two_big), [claim(either)])) == 8


def test_constraints_hold_over_the_devices_that_they_name():
    devices = [device(name, attributes={"numa": numa}) for name, numa in (("a", 0), ("b", 1), ("c", 0))]
    where = site(slice_of("s", devices))
    match = [{"matchAttribute": f"{DRIVER}/numa"}]
    assert names(where, claim(exactly(count=2), constraints=match)) == [["a", "c"]]
    distinct = [{"distinctAttribute": f"{DRIVER}/numa"}]
    assert names(where, claim(exactly(count=2), constraints=distinct)) == [["a", "b"]]
    assert names(where, claim(exactly(count=3), constraints=distinct)) is None
    only = [{"requests": ["x"], "matchAttribute": f"{DRIVER}/numa"}]
    assert names(where, claim(exactly("x", count=2), exactly("y"), constraints=only)) == [["a", "c", "b"]]
    assert names(where, claim(exactly(), constraints=[{"matchAttribute": "other/x"}])) is None


def test_taints_keep_off_who_does_not_tolerate_them():
    tainted = device("a", taints=[{"key": "sick", "value": "xid-79", "effect": "NoExecute"}])
    where = site(slice_of("s", [tainted, device("b", taints=[{"key": "k", "effect": "None"}])]))
    assert names(where, claim(exactly())) == [["b"]]
    tolerant = exactly(tolerations=[{"key": "sick", "operator": "Exists"}])
    (found,) = written(where, claim(tolerant))
    assert found["devices"]["results"] == [
        {
            "request": "gpu",
            "driver": DRIVER,
            "pool": "n1",
            "device": "a",
            "tolerations": [{"key": "sick", "operator": "Exists"}],
        }
    ]
    wrong = exactly(tolerations=[{"key": "sick", "operator": "Equal", "value": "xid-48"}])
    assert names(where, claim(wrong)) == [["b"]]


def partitions():
    """One GPU of 80 GiB as a whole, two halves and four quarters."""

    def part(name, memory):
        counters = {"memory": {"value": memory}}
        return device(name, memory, consumesCounters=[{"counterSet": "gpu-0", "counters": counters}])

    counters = slice_of(
        "counters", count=2, sharedCounters=[{"name": "gpu-0", "counters": {"memory": {"value": "80Gi"}}}]
    )
    parts = [part("whole", "80Gi"), *(part(f"half-{n}", "40Gi") for n in range(2))]
    parts += [part(f"quarter-{n}", "20Gi") for n in range(4)]
    return counters, slice_of("parts", parts, count=2)


def size(memory):
    return cel(f"device.capacity['gpu.example.com'].memory.compareTo(quantity('{memory}')) == 0")


def test_partitions_draw_on_the_same_counters():
    where = site(*partitions())
    assert names(where, claim(exactly("h", **size("40Gi")), exactly("q", **size("20Gi"), count=2))) == [
        ["half-0", "quarter-0", "quarter-1"]
    ]
    assert names(where, claim(exactly("h", **size("40Gi")), exactly("q", **size("20Gi"), count=3))) is None
    assert names(where, claim(exactly("w", **size("80Gi")), exactly("q", **size("20Gi")))) is None
    ledger = Ledger()
    ledger.add([{"driver": DRIVER, "pool": "n1", "device": "quarter-3"}])
    assert names(site(*partitions(), ledger=ledger), claim(exactly(**size("80Gi")))) is None
    assert names(site(*partitions(), ledger=ledger), claim(exactly(count=2, **size("40Gi")))) is None
    assert names(site(*partitions(), ledger=ledger), claim(exactly(**size("40Gi")))) == [["half-0"]]


def test_a_shared_device_is_given_in_parts():
    policy = {"default": "10Gi", "validRange": {"min": "10Gi", "step": "10Gi"}}
    shared = device("nic", allowMultipleAllocations=True)
    shared["capacity"] = {"memory": {"value": "80Gi", "requestPolicy": policy}}
    ledger = Ledger()
    where = site(slice_of("s", [shared]), ledger=ledger)
    asks = exactly(capacity={"requests": {"memory": "25Gi"}})
    first, second = written(where, claim(asks), claim(asks))
    assert first["devices"]["results"][0]["consumedCapacity"] == {"memory": "30Gi"}
    assert [item["devices"]["results"][0]["shareID"] for item in (first, second)] == ["share-0", "share-1"]
    ledger.add([*first["devices"]["results"], *second["devices"]["results"]])
    assert names(where, claim(asks)) is None
    (third,) = written(where, claim(exactly()))
    assert third["devices"]["results"][0]["consumedCapacity"] == {"memory": "10Gi"}
    assert names(where, claim(exactly(capacity={"requests": {"absent": "1"}}))) is None


def test_where_devices_can_be_used_is_written():
    wide = slice_of("w", [device("x")], pool="fabric", nodeSelector={
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1"]}]}]
    })  # fmt: skip
    (found,) = written(site(wide, node="n2", labels={"rack": "r1"}), claim(exactly()))
    assert found["nodeSelector"] == wide["spec"]["nodeSelector"]
    assert names(site(wide, node="n3", labels={"rack": "r2"}), claim(exactly())) is None
    everywhere = slice_of("w", [device("x")], pool="fabric", allNodes=True)
    (found,) = written(site(everywhere, node="n9"), claim(exactly()))
    assert "nodeSelector" not in found
    (found,) = written(site(everywhere, THREE), claim(exactly(count=4)))
    assert found["nodeSelector"] == {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]
    }
    own = slice_of("w", [device("x", nodeName="n1"), device("y", allNodes=True)], perDeviceNodeSelection=True)
    assert names(site(own, node="n2"), claim(exactly())) == [["y"]]
    assert names(site(own, node="n1"), claim(exactly(count=2))) == [["x", "y"]]


def test_configurations_of_classes_come_first_then_the_claims():
    own = {"requests": ["a"], "opaque": {"driver": DRIVER, "parameters": {"x": 1}}}
    wanted = claim(exactly("a", "set"), exactly("b", "set"), exactly("c"), config=[own])
    (found,) = written(site(THREE), wanted)
    assert found["devices"]["config"] == [
        {
            "source": "FromClass",
            "requests": ["a", "b"],
            "opaque": {"driver": DRIVER, "parameters": {"mode": "shared"}},
        },
        {"source": "FromClaim", **own},
    ]


def test_only_the_newest_generation_of_a_pool_counts_and_only_if_it_is_whole():
    old, new = slice_of("old", [device("a")]), slice_of("new", [device("b")], generation=2)
    assert names(site(old, new), claim(exactly())) == [["b"]]
    assert names(site(old, slice_of("new", [device("b")], generation=2, count=2)), claim(exactly())) is None
    twice = slice_of("t", [device("a")], count=2), slice_of("u", [device("a")], count=2)
    with pytest.raises(PoolProblem):
        search(site(*twice), [claim(exactly())])


def test_faults_name_the_class_or_the_claim():
    where = site(THREE)
    with pytest.raises(AllocationError, match="could not retrieve device class none"):
        search(where, [claim(exactly(kind="none"))])
    with pytest.raises(AllocationError, match=r"claim default/c: selector #0: CEL runtime error: no such key: x"):
        search(where, [claim(exactly(**cel("device.attributes['gpu.example.com'].x == 1")))])
    with pytest.raises(AllocationError, match="exceeds the claim limit of 32"):
        search(where, [claim(exactly(count=33))])
