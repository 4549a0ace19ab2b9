"""Partitioning GPUs: which instances lie where, which can't be had, and what changes."""

from __future__ import annotations

import pytest

from atoll.base.errors import UserError
from atoll.cluster.gpus.mig import ANNOTATION, changed, format_layout, most_of, place, plan_layout, read_layout
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.types import gpu_type, gpu_types

PARTITIONED = [kind for kind in gpu_types().values() if kind.mig]


def gpus(*names: str) -> list[Gpu]:
    return [Gpu(index, index, f"GPU-{index}", gpu_type(name)) for index, name in enumerate(names)]


def shape(layout, gpu: int = 0):
    return [(device.profile.name, device.start) for device in layout[gpu]]


@pytest.mark.parametrize("kind", PARTITIONED, ids=lambda kind: kind.name)
def test_as_many_of_a_profile_as_published_fit_and_no_more(kind):
    gpu = Gpu(0, 0, "GPU-0", kind)
    for profile in kind.mig:
        most = most_of(kind, profile)
        devices = place(gpu, {profile.name: most})
        assert len(devices) == most and len({device.uuid for device in devices}) == most
        assert not any(a.overlaps(b) for a in devices for b in devices if a is not b)
        assert all(device.start in profile.starts for device in devices)
        with pytest.raises(UserError, match="does not fit on one"):
            place(gpu, {profile.name: most + 1})


@pytest.mark.parametrize(
    ("name", "profile", "count"),
    [("a100-40gb", "1g.5gb", 7), ("a100-40gb", "1g.10gb", 4), ("h100", "2g.20gb", 3), ("h100", "3g.40gb", 2),
     ("h100", "1g.10gb+me", 1), ("h200", "7g.141gb", 1), ("a30", "1g.6gb", 4), ("b200", "1g.45gb", 4)],
)  # fmt: skip
def test_numbers_of_the_mig_user_guide(name, profile, count):
    kind = gpu_type(name)
    assert most_of(kind, kind.profile(profile)) == count


def test_configurations_that_the_operator_ships():
    two = gpus("h100", "h100")
    assert plan_layout(two, "all-disabled", {}) == {}
    assert plan_layout(two, "all-enabled", {}) == {0: (), 1: ()}
    assert shape(plan_layout(two, "all-1g.10gb", {}), 1) == [("1g.10gb", start) for start in range(7)]
    assert shape(plan_layout(two, "all-1g.10gb.me", {})) == [("1g.10gb+me", 0)]
    assert sorted(name for name, _ in shape(plan_layout(two, "all-balanced", {}))) == [
        "1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb",
    ]  # fmt: skip


def test_mig_parteds_own_configurations_by_device_and_by_filter():
    configs = {
        "mixed": [
            {"device-filter": ["0x20B010DE"], "devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 2}},
            {"devices": [0], "mig-enabled": False},
            {"devices": [1], "mig-enabled": True, "mig-devices": {"3g.40gb": 1, "1g.10gb": 2}},
        ]
    }
    layout = plan_layout(gpus("h100", "h100", "a100-40gb"), "mixed", configs)
    assert set(layout) == {1, 2}
    assert shape(layout, 1) == [("1g.10gb", 0), ("1g.10gb", 1), ("3g.40gb", 4)]
    assert shape(layout, 2) == [("1g.5gb", 0), ("1g.5gb", 1)]
    with pytest.raises(UserError, match="no entry for GPU 1, NVIDIA L4"):
        plan_layout(gpus("h100", "l4"), "mixed", {"mixed": [{"devices": [0], "mig-enabled": False}]})


@pytest.mark.parametrize(
    ("name", "config", "why"),
    [
        ("h100", "all-1g.5gb", "unknown MIG configuration 'all-1g.5gb' for NVIDIA H100"),
        ("h100", "balanced", "unknown MIG configuration"),
        ("l4", "all-balanced", "NVIDIA L4 can't be partitioned"),
        ("h100", "four-of-three", "4 x 3g.40gb does not fit"),
        ("h100", "no-such", "no MIG profile '9g.9gb'"),
        ("h100", "two-media", "does not fit"),
        ("h100", "no-entries", "not a list of entries"),
        ("h100", "no-list", "not a list of entries"),
        ("h100", "no-count", "says how many of each profile"),
        ("h100", "less-than-none", "says how many of each profile"),
        ("h100", "no-devices", "says how many of each profile"),
        ("h100", "one-device", "devices are all, or a list of indices, not 0"),
    ],
)
def test_what_can_not_be_had_is_told(name, config, why):
    configs = {
        "four-of-three": [{"mig-enabled": True, "mig-devices": {"3g.40gb": 4}}],
        "no-such": [{"mig-enabled": True, "mig-devices": {"9g.9gb": 1}}],
        "two-media": [{"mig-enabled": True, "mig-devices": {"1g.10gb+me": 2}}],
        "no-entries": ["all"],
        "no-list": {"devices": "all", "mig-enabled": True},
        "no-count": [{"mig-enabled": True, "mig-devices": {"1g.10gb": "two"}}],
        "less-than-none": [{"mig-enabled": True, "mig-devices": {"1g.10gb": -1}}],
        "no-devices": [{"mig-enabled": True, "mig-devices": ["1g.10gb"]}],
        "one-device": [{"devices": 0, "mig-enabled": True, "mig-devices": {"1g.10gb": 1}}],
    }
    with pytest.raises(UserError, match=why):
        plan_layout(gpus(name), config, configs)


def test_a_layout_is_kept_in_the_annotation():
    two = gpus("h100", "h100")
    layout = plan_layout(two[:1], "all-balanced", {})
    node = {"metadata": {"name": "n", "annotations": {ANNOTATION: format_layout(layout)}}}
    assert read_layout(node, two) == layout
    assert read_layout({"metadata": {"name": "n"}}, two) == {}
    assert changed(layout, {}, two) == [two[0]]
    with pytest.raises(UserError, match="damaged"):
        read_layout({"metadata": {"name": "n", "annotations": {ANNOTATION: '{"0": [1]}'}}}, two)
