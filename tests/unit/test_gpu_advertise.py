"""Labels and resources of GPU nodes: the expectations of NVIDIA's own tests of feature discovery and device plugin."""

from __future__ import annotations

import pytest

from atoll.base.errors import UserError
from atoll.cluster.gpus.advertise import advertise
from atoll.cluster.gpus.faults import last_xid, out_of_service, taints
from atoll.cluster.gpus.mig import plan_layout
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.settings import NAMESPACE, PLUGIN_LABEL, PluginConfig, Settings, Sharing, read_settings
from atoll.cluster.gpus.survey import survey
from atoll.cluster.gpus.types import gpu_type
from atoll.objects.gpu_faults import GpuFault

SHARED = {"nvidia.com/gpu": Sharing(4)}
RENAMED = {"nvidia.com/gpu": Sharing(4, "nvidia.com/gpu.shared")}


def gpus(count: int = 2, name: str = "h100") -> list[Gpu]:
    return [Gpu(index, index, f"GPU-{index}", gpu_type(name)) for index in range(count)]


def labels(found, *names: str) -> dict[str, str]:
    prefix = "nvidia.com/gpu."
    return {name: found.labels.get(name if "/" in name else prefix + name) for name in names}


def config_map(name: str, **data: str) -> dict:
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


def test_whole_gpus():
    found = advertise(gpus(), {}, PluginConfig("none"))
    assert found.capacity == found.allocatable() == {"nvidia.com/gpu": "2"}
    assert labels(found, "product", "count", "replicas", "memory", "family", "compute.major", "compute.minor") == {
        "product": "NVIDIA-H100-80GB-HBM3", "count": "2", "replicas": "1", "memory": "81559", "family": "hopper",
        "compute.major": "9", "compute.minor": "0",
    }  # fmt: skip
    assert labels(found, "nvidia.com/mig.strategy", "nvidia.com/mig.capable", "present") == {
        "nvidia.com/mig.strategy": None, "nvidia.com/mig.capable": "true", "present": "true",
    }  # fmt: skip


def test_time_slicing_under_the_same_name_and_under_another():
    same = advertise(gpus(), {}, PluginConfig(shared=SHARED))
    assert same.capacity == {"nvidia.com/gpu": "8"}
    assert labels(same, "product", "count", "replicas", "sharing-strategy") == {
        "product": "NVIDIA-H100-80GB-HBM3-SHARED", "count": "2", "replicas": "4", "sharing-strategy": "time-slicing",
    }  # fmt: skip
    renamed = advertise(gpus(), {}, PluginConfig(shared=RENAMED))
    assert renamed.capacity == {"nvidia.com/gpu.shared": "8"}
    assert labels(renamed, "product", "replicas") == {"product": "NVIDIA-H100-80GB-HBM3", "replicas": "4"}
    assert [unit.id for unit in renamed.units[:5]] == ["GPU-0::0", "GPU-0::1", "GPU-0::2", "GPU-0::3", "GPU-1::0"]


def test_mps_shares_as_time_slicing_does_under_its_own_name():
    found = advertise(gpus(), {}, PluginConfig(shared=SHARED, mps=True, fail_above_one=True))
    assert found.capacity == {"nvidia.com/gpu": "8"}
    assert labels(found, "product", "replicas", "sharing-strategy", "nvidia.com/mps.capable") == {
        "product": "NVIDIA-H100-80GB-HBM3-SHARED", "replicas": "4", "sharing-strategy": "mps",
        "nvidia.com/mps.capable": "true",
    }  # fmt: skip
    whole = gpus()
    parted = advertise(whole, plan_layout(whole, "all-1g.10gb", {}), PluginConfig("single", SHARED, mps=True))
    assert parted.capacity == {}, "MIG devices are not shared by MPS"


def test_only_some_devices_are_shared():
    def shared(devices, rename=""):
        return advertise(gpus(3), {}, PluginConfig(shared={"nvidia.com/gpu": Sharing(4, rename, devices)}))

    assert shared(1).capacity == {"nvidia.com/gpu": "6"}
    assert [unit.id for unit in shared(("2",)).units] == ["GPU-0", "GPU-1", *(f"GPU-2::{n}" for n in range(4))]
    assert shared(("GPU-1", "0"), "nvidia.com/part").capacity == {"nvidia.com/gpu": "1", "nvidia.com/part": "8"}
    whole = gpus(1)
    config = PluginConfig("mixed", {"nvidia.com/mig-1g.10gb": Sharing(2, devices=("0:1",))})
    parted = advertise(whole, plan_layout(whole, "all-1g.10gb", {}), config)
    assert parted.capacity == {"nvidia.com/mig-1g.10gb": "8"}, "one of seven, twice"


def test_nodes_of_one_nvlink_fabric_are_of_one_clique():
    def node(name, kind, domain=""):
        annotations = {"atoll.dev/gpus": f'[{{"type": "{kind}", "count": 4}}]'} | (
            {"atoll.dev/nvlink-domain": domain} if domain else {}
        )
        return {"metadata": {"name": name, "annotations": annotations}}

    one, two, other, alone, hopper = (
        survey(found, Settings()).advertised.labels.get("nvidia.com/gpu.clique")
        for found in (
            node("a", "gb200", "rack-1"),
            node("b", "gb200", "rack-1"),
            node("c", "gb200", "rack-2"),
            node("d", "gb200"),
            node("e", "h100", "rack-1"),
        )
    )
    assert one == two != other and one.endswith(".0") and len(one) == 38
    assert alone is hopper is None


def test_the_single_strategy():
    whole = gpus()
    layout = plan_layout(whole, "all-1g.10gb", {})
    found = advertise(whole, layout, PluginConfig("single"))
    assert found.capacity == {"nvidia.com/gpu": "14"}
    assert labels(found, "product", "count", "memory", "multiprocessors", "slices.gi", "engines.copy") == {
        "product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "count": "14", "memory": "9984", "multiprocessors": "16",
        "slices.gi": "1", "engines.copy": "1",
    }  # fmt: skip
    for wrong in (plan_layout(whole, "all-balanced", {}), {0: layout[0]}, {0: layout[0], 1: ()}, {0: (), 1: ()}):
        invalid = advertise(whole, wrong, PluginConfig("single"))
        assert invalid.capacity == {}
        assert labels(invalid, "product", "count", "replicas", "memory") == {
            "product": "NVIDIA-H100-80GB-HBM3-MIG-INVALID", "count": "0", "replicas": "0", "memory": "0",
        }  # fmt: skip


def test_the_mixed_strategy():
    whole = gpus()
    layout = {0: plan_layout(whole, "all-balanced", {})[0]}
    found = advertise(whole, layout, PluginConfig("mixed", shared={"nvidia.com/mig-1g.10gb": Sharing(2)}))
    assert found.capacity == {
        "nvidia.com/gpu": "1",
        "nvidia.com/mig-1g.10gb": "4",
        "nvidia.com/mig-2g.20gb": "1",
        "nvidia.com/mig-3g.40gb": "1",
    }
    assert found.labels["nvidia.com/mig-3g.40gb.memory"] == "40448"
    assert found.labels["nvidia.com/mig-1g.10gb.product"] == "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED"
    assert found.labels["nvidia.com/mig.strategy"] == "mixed"
    ignored = advertise(whole, layout, PluginConfig("none"))
    assert ignored.capacity == {"nvidia.com/gpu": "2"}
    partitioned = advertise(whole, plan_layout(whole, "all-balanced", {}), PluginConfig("mixed"))
    assert partitioned.labels["nvidia.com/gpu.replicas"] == "0" and "nvidia.com/gpu" not in partitioned.capacity


def test_each_resource_says_how_it_is_shared():
    """As feature discovery's baseLabeler: product, count, replicas and sharing-strategy of every resource."""
    whole = gpus()
    layout = {0: plan_layout(whole, "all-balanced", {})[0]}
    found = advertise(whole, layout, PluginConfig("mixed", shared={"nvidia.com/mig-1g.10gb": Sharing(2)}))
    suffix = ".sharing-strategy"
    assert {key.removesuffix(suffix): value for key, value in found.labels.items() if key.endswith(suffix)} == {
        "nvidia.com/gpu": "none",
        "nvidia.com/mig-1g.10gb": "time-slicing",
        "nvidia.com/mig-2g.20gb": "none",
        "nvidia.com/mig-3g.40gb": "none",
    }


def test_media_extensions_have_names_that_kubernetes_takes():
    whole = gpus(1)
    found = advertise(whole, plan_layout(whole, "all-1g.10gb.me", {}), PluginConfig("mixed"))
    assert found.capacity == {"nvidia.com/mig-1g.10gb.me": "1"}
    assert found.labels["nvidia.com/mig-1g.10gb.me.product"] == "NVIDIA-H100-80GB-HBM3-MIG-1g.10gbme"


def test_what_is_out_of_service_or_claimed_is_not_allocatable():
    found = advertise(gpus(4), {}, PluginConfig(), out=(1,))
    assert (found.capacity, found.allocatable()) == ({"nvidia.com/gpu": "4"}, {"nvidia.com/gpu": "3"})
    assert found.allocatable((0, 1)) == {"nvidia.com/gpu": "2"}
    assert advertise(gpus(1), {}, PluginConfig(), out=(0,)).allocatable() == {"nvidia.com/gpu": "0"}


def test_which_faults_take_a_gpu_out():
    two = gpus()
    application, fatal = GpuFault("xid", 13, 0), GpuFault("xid", 79, 1)
    assert out_of_service(two, [application, fatal]) == {1: "XID 79"}
    assert set(out_of_service(two, [GpuFault("lost")])) == {0, 1}
    assert out_of_service(two, [GpuFault("ecc", 3, 0)]) == {0: "XID 48: 3 uncorrected ECC errors"}
    assert out_of_service(two, [GpuFault("thermal", 99), GpuFault("nvlink", 5)]) == {}
    assert [last_xid([application, fatal], gpu) for gpu in (0, 1)] == [13, 79]
    assert last_xid([GpuFault("ecc", 1, 0), GpuFault("xid", 63, 0)], 0) == 63
    assert taints([application], 0) == [{"key": "gpu.nvidia.com/xid", "value": "13", "effect": "None"}]
    assert taints([fatal], 1)[0]["effect"] == "NoSchedule" and taints([fatal], 0) == []
    assert taints([GpuFault("lost", 0, 1)], 1) == [{"key": "gpu.nvidia.com/gpu-lost", "effect": "NoSchedule"}]


def test_configurations_are_found_as_the_plugins_chart_finds_them():
    one = config_map("a", only="version: v1\nflags: {migStrategy: mixed}")
    assert read_settings([one]).plugin({}).mig_strategy == "mixed"
    two = config_map(
        "b", other="version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}"
    )
    settings = read_settings([one, two])
    assert settings.plugin({}) == PluginConfig()
    assert settings.plugin({PLUGIN_LABEL: "other"}).shared == {"nvidia.com/gpu": Sharing(2)}
    named = config_map("c", default="version: v1\nflags: {migStrategy: none}")
    assert read_settings([two, one, named]).plugin({}).mig_strategy == "none"
    with pytest.raises(UserError, match="no ConfigMap in gpu-operator has that key") as refused:
        settings.plugin({PLUGIN_LABEL: "none-such"})
    assert refused.value.hint == "configurations: only, other"
    assert Settings().plugin({}) == PluginConfig()


def test_a_configuration_is_read_whole_or_its_fault_told():
    text = """
    version: v1
    flags: {migStrategy: single, failOnInitError: false}
    sharing:
      timeSlicing:
        renameByDefault: true
        failRequestsGreaterThanOne: true
        resources: [{name: nvidia.com/gpu, replicas: 10}, {name: nvidia.com/mig-1g.5gb, replicas: 2, rename: tiny}]
    """
    found = read_settings([config_map("a", x=text)]).plugin({PLUGIN_LABEL: "x"})
    assert found.fail_above_one and found.warnings == ("flags.failOnInitError has no meaning here",)
    assert found.shared == {
        "nvidia.com/gpu": Sharing(10, "nvidia.com/gpu.shared"), "nvidia.com/mig-1g.5gb": Sharing(2, "nvidia.com/tiny"),
    }  # fmt: skip
    wrong = {
        "mps": "version: v1\nsharing: {mps: {resources: [{name: a}]}}",
        "both": "version: v1\nsharing: {mps: {resources: R}, timeSlicing: {resources: R}}".replace(
            "R", "[{name: nvidia.com/gpu, replicas: 2}]"
        ),
        "mixed": "version: v1\nflags: {migStrategy: mixed}\nsharing: {mps: {resources: [{name: gpu, replicas: 2}]}}",
        "some": "version: v1\nsharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: [x]}]}}",
        "strategy": "version: v1\nflags: {migStrategy: both}",
        "count": "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu}]}}",
        "names": "version: v1\nsharing: {timeSlicing: {resources: [nvidia.com/gpu]}}",
        "no-list": "version: v1\nsharing: {timeSlicing: {resources: {name: gpu}}}",
        "flags": "version: v1\nflags: [migStrategy]",
        "sharing": "version: v1\nsharing: timeSlicing",
        "slicing": "version: v1\nsharing: {timeSlicing: 4}",
        "rename": "version: v1\nsharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, rename: 3}]}}",
    }
    settings = read_settings([config_map("a", **wrong, text="just text", other="a: [")])
    mps = read_settings(
        [config_map("a", x="version: v1\nsharing: {mps: {resources: [{name: gpu, replicas: 3, devices: 2}]}}")]
    )
    found = mps.plugin({PLUGIN_LABEL: "x"})
    assert found.mps and found.fail_above_one and found.shared == {"nvidia.com/gpu": Sharing(3, "", 2)}
    for key, why in (
        ("mps", "sharing.mps.resources: each"),
        ("both", "exclude"),
        ("mixed", "not supported"),
        ("some", "devices is all"),
        ("strategy", "migStrategy is one of"),
        ("count", "name and replicas"),
        ("names", "name and replicas"),
        ("no-list", "must be a list"),
        ("flags", "flags must be a mapping"),
        ("sharing", "sharing must be a mapping"),
        ("slicing", "sharing.timeSlicing must be a mapping"),
        ("rename", "name and replicas"),
    ):
        with pytest.raises(UserError, match=why):
            settings.plugin({PLUGIN_LABEL: key})
    assert settings.plugin({}) == PluginConfig(), "none of several is chosen"
    for key in ("any", "default"):
        only = read_settings([config_map("a", **{key: wrong["names"]})])
        with pytest.raises(UserError, match="name and replicas"):
            only.plugin({})
    parted = read_settings(
        [config_map("m", **{"config.yaml": "version: v1\nmig-configs: {mine: [{mig-enabled: false}]}"})]
    )
    assert parted.mig == {"mine": [{"mig-enabled": False}]} and parted.plugins == {}
