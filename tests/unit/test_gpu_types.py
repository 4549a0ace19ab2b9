"""Declared GPU types, and how nodes declare GPUs of them."""

from __future__ import annotations

import json

import pytest

from atoll.base.errors import UserError
from atoll.cluster.gpus.mig import most_of
from atoll.cluster.gpus.model import (
    ANNOTATION,
    Gpu,
    annotation,
    declare,
    declare_real,
    gpus_of,
    parse_gpus,
    parse_machine,
    real_type,
)
from atoll.cluster.gpus.types import gpu_type, gpu_types


def node(text: str) -> dict:
    return {"metadata": {"name": "n", "annotations": {ANNOTATION: text}}}


@pytest.mark.parametrize(
    ("name", "memory", "compute", "family", "links"),
    [
        ("a100-40gb", 40960, (8, 0), "ampere", 12),
        ("A100", 81920, (8, 0), "ampere", 12),
        ("h100", 81559, (9, 0), "hopper", 18),
        ("NVIDIA-H200", 143771, (9, 0), "hopper", 18),
        ("b200", 183359, (10, 0), "blackwell", 18),
        ("gb200", 189471, (10, 0), "blackwell", 18),
        ("l4", 23034, (8, 9), "ada-lovelace", 0),
        ("Tesla T4", 15360, (7, 5), "turing", 0),
        ("v100", 32768, (7, 0), "volta", 6),
        ("a10", 23028, (8, 6), "ampere", 0),
    ],
)
def test_published_facts(name, memory, compute, family, links):
    kind = gpu_type(name)
    assert (kind.memory_mib, kind.compute, kind.family, kind.nvlink_links) == (memory, compute, family, links)


@pytest.mark.parametrize(
    ("name", "profile", "gib", "sms"),
    [
        ("a30", "1g.6gb", 5.81, 14), ("a30", "2g.12gb", 11.69, 28), ("a30", "4g.24gb", 23.44, 56),
        ("h100-nvl", "1g.12gb", 10.75, 16), ("h100-nvl", "3g.47gb", 46.38, 60), ("h100-nvl", "7g.94gb", 93.12, 132),
        ("h100-pcie", "1g.20gb", 19.62, 14), ("h100-pcie", "4g.40gb", 39.50, 62), ("h200", "1g.18gb", 16.00, 16),
        ("h200", "2g.35gb", 32.50, 32), ("a100-80gb", "3g.40gb", 39.25, 42), ("h100", "1g.10gb", 9.75, 16),
    ],
)  # fmt: skip
def test_profiles_as_nvidia_smi_lists_them(name, profile, gib, sms):
    """`nvidia-smi mig -lgip`, which shows GiB with two digits."""
    found = gpu_type(name).profile(profile)
    assert found is not None and abs(found.memory_mib / 1024 - gib) <= 0.0051 and found.sms == sms


def test_an_unknown_type_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="unknown GPU type 'h10'") as refused:
        gpu_type("h10")
    assert "did you mean h100" in refused.value.hint and "atoll gpu types" in refused.value.hint


@pytest.mark.parametrize("kind", [kind for kind in gpu_types().values() if kind.mig], ids=lambda kind: kind.name)
def test_a_profile_is_no_larger_than_its_gpu(kind):
    whole = kind.profile(kind.mig[-1].name)
    for profile in kind.mig:
        assert profile.memory_mib * most_of(kind, profile) <= kind.memory_mib
        assert profile.sms * most_of(kind, profile) <= kind.sms
        assert all(start + profile.size <= kind.memory_slices for start in profile.starts)
        assert profile.memory_mib <= whole.memory_mib and profile.sms <= whole.sms


def test_uuids_outlive_processes_and_differ_between_nodes():
    text = annotation([declare(gpu_type("h100"), count=2)])
    first, other = parse_gpus(text, "n1"), parse_gpus(text, "n2")
    assert len({gpu.uuid for gpu in (*first, *other)}) == 4
    assert first[0].uuid == "GPU-86da83ed-e107-44a1-8f0b-3dbb1e2b23e4"


def test_gpus_of_a_machine_are_renumbered_on_the_node():
    text = annotation([declare(gpu_type("a100-40gb"), machine="m", indices=[1, 3])])
    found = gpus_of(node(text))
    assert [(gpu.index, gpu.minor) for gpu in found] == [(0, 1), (1, 3)]
    whole = parse_gpus(annotation([declare(gpu_type("a100-40gb"), machine="m", indices=[0, 1, 2, 3])]), "other")
    assert [gpu.uuid for gpu in found] == [whole[1].uuid, whole[3].uuid]


def test_a_real_gpu_is_declared_by_what_nvml_says():
    gpu = Gpu(0, 4, "GPU-real", real_type("NVIDIA Z9", 1000, (9, 0)), simulated=False)
    (found,) = gpus_of(node(annotation([declare_real(gpu)])))
    assert (found.uuid, found.minor, found.simulated) == ("GPU-real", 4, False)
    assert (found.type.product, found.type.family, found.type.mig) == ("NVIDIA Z9", "hopper", ())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("{}", "must be a list"),
        ('["h100"]', "an object with `type`"),
        ('[{"type": "h100", "cuont": 2}]', "unknown field 'cuont'"),
        ('[{"type": "h100", "count": -1}]', "whole numbers"),
        ('[{"type": "h100", "machine": "m", "indices": [1, 1]}]', "one GPU twice"),
        ('[{"type": "h100", "count": 65}]', "at most 64"),
        ('[{"type": "x900", "count": 1}]', "unknown GPU type"),
        ('[{"uuid": "GPU-1"}]', "a real GPU has"),
    ],
)
def test_a_wrong_declaration_is_told(text, why):
    with pytest.raises(UserError, match=why):
        gpus_of(node(text))


def test_a_machine_in_short():
    assert parse_machine("h100:4, l4:2") == [
        {"type": "h100-sxm5-80gb", "count": 4},
        {"type": "l4", "count": 2},
    ]
    for wrong in ("h100", "h100:x", "h100:0", "8"):
        with pytest.raises(UserError, match="is not TYPE:COUNT"):
            parse_machine(wrong)
    assert json.loads(annotation(parse_machine("t4:1"))) == [{"type": "t4", "count": 1}]
