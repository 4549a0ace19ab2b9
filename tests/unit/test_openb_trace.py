"""Reading the OpenB lists and published results: what is taken, and what is said when they are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atoll.base.errors import UserError
from atoll.scheduling.devices.model import Machine, Request
from atoll.simulate.openb import published, trace

NODES = "sn,cpu_milli,memory_mib,gpu,model\nb,64000,262144,2,P100\nc,32000,1,0,\na,96000,393216,8,G2\n"
PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos
p-2,4000,100,1,460,,LS
p-1,8000,200,2,1000,P100|G2,BE
p-3,1000,300,0,0,,LS
"""


def read(folder: Path, nodes: str = NODES, pods: str = PODS) -> trace.Trace:
    (folder / "nodes.csv").write_text(nodes)
    (folder / "pods.csv").write_text(pods)
    return trace.read(folder / "nodes.csv", folder / "pods.csv")


def test_gpu_nodes_and_pods_by_name(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.machines == (Machine("b", 64000, 262144, 2, "P100"), Machine("a", 96000, 393216, 8, "G2"))
    assert found.gpus == 10
    assert found.pods == (
        Request(8000, 200, 2, 1000, frozenset({"P100", "G2"})),
        Request(4000, 100, 1, 460),
        Request(1000, 300),
    )


def test_a_list_without_models_and_in_another_order_of_columns(tmp_path: Path) -> None:
    found = read(tmp_path, pods="gpu_milli,num_gpu,name,memory_mib,cpu_milli\r\n1000,1,x,7,5\r\n")
    assert found.pods == (Request(5, 7, 1, 1000),)


BAD_PODS = [
    (PODS.replace("num_gpu", "gpus"), "pods.csv, line 1, column num_gpu: is missing"),
    (PODS.replace("460", "half"), "pods.csv, line 2, column gpu_milli: 'half' is not a whole number from 0 to 1000"),
    (PODS.replace("460", "1460"), "pods.csv, line 2, column gpu_milli: '1460' is not a whole number from 0 to 1000"),
    (PODS.replace("460", "0"), "pods.csv, line 2, column gpu_milli: 0 does not go with num_gpu 1"),
    (PODS.replace("4000", "-4000"), "pods.csv, line 2, column cpu_milli: '-4000' is not a whole number"),
    (PODS.replace("4000", "4.5"), "pods.csv, line 2, column cpu_milli: '4.5' is not a whole number"),
    (PODS.replace("4000", "9" * 5000), "pods.csv, line 2, column cpu_milli: '9999"),
    (PODS.replace("4000", ""), "pods.csv, line 2, column cpu_milli: is empty"),
    (PODS.replace("|G2", "|H900"), "pods.csv, line 3, column gpu_spec: unknown GPU model 'H900'"),
    (PODS.replace("p-3", "p-2"), "pods.csv, line 4, column name: 'p-2' is also in line 2"),
    (PODS.replace("p-3,1000,300", "p-3,1000"), "pods.csv, line 4, column qos: has no value"),
    (PODS.replace("0,0,,LS", "0,0,,LS,1"), "pods.csv, line 4, more values than columns"),
    (PODS.replace("p-3", '"p-3'), "pods.csv, line 3: unexpected end of data"),
    (PODS.splitlines()[0], "pods.csv, line 2: there are no rows below the header"),
    ("\n".join([PODS.splitlines()[0], "p,1,1,0,0,,"]), "pods.csv, column num_gpu: no pod asks for a GPU"),
    ("", "pods.csv, line 1: the file is empty"),
]
BAD_NODES = [
    (NODES.replace(",model", ""), "nodes.csv, line 1, column model: is missing"),
    (NODES.replace("P100", ""), "nodes.csv, line 2, column model: is empty"),
    (NODES.replace(",8,", ",x,"), "nodes.csv, line 4, column gpu: 'x' is not a whole number from 0 to 63"),
    (NODES.replace(",8,", ",0,").replace(",2,", ",0,"), "nodes.csv, column gpu: no node has a GPU"),
    (NODES.replace("c,", "b,"), "nodes.csv, line 3, column sn: 'b' is also in line 2"),
    ("", "nodes.csv, line 1: the file is empty"),
]


@pytest.mark.parametrize(("pods", "message"), BAD_PODS)
def test_wrong_pods(tmp_path: Path, pods: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, pods=pods)
    assert message in caught.value.message and caught.value.hint


@pytest.mark.parametrize(("nodes", "message"), BAD_NODES)
def test_wrong_nodes(tmp_path: Path, nodes: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, nodes=nodes)
    assert message in caught.value.message and caught.value.hint


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        trace.read(tmp_path / "none.csv", tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        trace.read(tmp_path / "binary.csv", tmp_path / "binary.csv")


RESULTS = {"alloc_pct": {"pods": {"06-FGD": {"100": {"mean": 95.2, "sd_sample": 0.1, "n": 10}}}}}


def test_published_results(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps(RESULTS))
    found = published.read(tmp_path / "e.json", "pods")
    cell = found.allocated["06-FGD"][100]
    assert found.fragmented == {}
    assert cell.holds(95.59) and cell.holds(94.81)
    assert not cell.holds(95.61) and not cell.holds(94.79) and not cell.holds(None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "alloc_pct: is missing"),
        ("{", "is not JSON"),
        ('{"alloc_pct": {"other": {}}}', "has no results for pods; it has other"),
        ('{"alloc_pct": {"pods": {"06-FGD": {"100": {"mean": 1}}}}}', "'sd_sample'"),
        ('{"alloc_pct": {"pods": {"06-FGD": {"all": {}}}}}', "alloc_pct, pods"),
        ('{"alloc_pct": {"pods": []}}', "alloc_pct, pods"),
    ],
)
def test_wrong_results(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(UserError) as caught:
        published.read(tmp_path / "e.json", "pods")
    assert message in caught.value.message and caught.value.hint
    with pytest.raises(UserError, match="No such file"):
        published.read(tmp_path / "none.json", "pods")
