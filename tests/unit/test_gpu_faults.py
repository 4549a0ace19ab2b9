"""The annotation that declares faults of simulated GPUs: written, read, and what is refused."""

import pytest

from atoll.cluster.gpus.faults import without
from atoll.objects.gpu_faults import ANNOTATION, GpuFault, format_faults, parse_faults, read_faults

FAULTS = (GpuFault("xid", 79, 3), GpuFault("thermal", 97), GpuFault("lost", gpu=0))


def test_what_is_written_is_read():
    assert parse_faults(format_faults(FAULTS)) == FAULTS
    assert read_faults({"metadata": {"annotations": {ANNOTATION: format_faults(FAULTS)}}}) == FAULTS
    assert read_faults({"metadata": {}}) == ()


def test_a_fault_concerns_its_gpu_or_all():
    assert [gpu for gpu in range(4) if FAULTS[0].concerns(gpu)] == [3]
    assert all(FAULTS[1].concerns(gpu) for gpu in range(4))


def test_one_gpu_is_mended_of_what_concerns_all():
    all_hot, own = GpuFault("thermal", 97), GpuFault("xid", 79, 1)
    assert without((all_hot, own), 1, 3) == [GpuFault("thermal", 97, 0), GpuFault("thermal", 97, 2)]
    assert without((all_hot, own), 0, 1) == [own]
    assert without((all_hot, own), None, 3) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("{}", "must be a list"),
        ("[1]", "kind is one of ecc, lost, nvlink, thermal, xid"),
        ('[{"kind": "smoke"}]', "kind is one of"),
        ('[{"kind": "xid"}]', "needs a value above 0"),
        ('[{"kind": "xid", "value": true}]', "needs a value above 0"),
        ('[{"kind": "lost", "gpu": -1}]', "index from 0"),
        ('[{"kind": "lost", "gpus": 1}]', "unknown field 'gpus'"),
    ],
)
def test_what_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        parse_faults(text)
