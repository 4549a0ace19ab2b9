"""What simulations write: the table as Parquet, the report, a live cluster's scenario, explored scenarios."""

from __future__ import annotations

import gzip
import hashlib
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from atoll.simulate.explore import explored, explored_text
from atoll.simulate.invariants.port import Violation
from atoll.simulate.layout import places
from atoll.simulate.parquet import Kind, write_table
from atoll.simulate.record import Row
from atoll.simulate.report.page import page
from atoll.simulate.scenario.read import parse
from atoll.simulate.snapshot import scenario_text
from atoll.simulate.summary import RunResult
from atoll.simulate.table import write_results

SCENARIO = """
apiVersion: simulate.atoll.dev/v1alpha1
kind: Scenario
metadata: {name: "a <night>"}
spec: {duration: 2h, fleet: {pools: [{name: h, nodes: 4, gpu: H100, gpus: 8}]}}
"""


def result(policy: str, seed: int) -> RunResult:
    gauges = [
        Row(60.0 * minute, "gauge", name, "", 0.0, value, "")
        for minute in range(0, 121, 5)
        for name, value in (("gpus", 32.0), ("working", float(minute % 30 + seed)), ("fragmented", 2.0))
    ]
    rows = [
        *gauges,
        Row(600.0, "fault", "h-r0", "", 0.0, 900.0, "rack"),
        Row(620.0, "work-lost", "p", "t", 8.0, 7200.0, "x"),
        Row(700.0, "workload-evicted", "j", "t", 0.0, 0.0, "Preempted"),
        Row(1000.0, "recovered", "h-r0", "", 0.0, 400.0, "rack"),
        Row(7200.0, "job-waiting", "big-1", "t", 64.0, 60.0, "needs <64> GPUs"),
    ]
    measures = {"utilisation": 40.0 + seed, "wait": 3.0, "wait of a": 2.0, "wait of b": 4.0, "lost": 2.0}
    broken = [Violation("devices", 100.0, "9 of 8")] if (policy, seed) == ("b", 2) else []
    return RunResult(policy, seed, "ab" * 32, 10, 7200.0, 1.5, measures, rows, broken)


RESULTS = [result(policy, seed) for policy in ("a", "b") for seed in (1, 2)]


def test_parquet_is_as_pyarrow_and_duckdb_have_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow 26 and DuckDB 2.0 were seen to read this very table as it was meant; the digest is of its layout."""
    path = tmp_path / "t.parquet"
    rows = [("a", number, number * 0.5) for number in range(1000)] + [("fäir", -3, 1e300)]
    columns: list[tuple[str, Kind]] = [("policy", "text"), ("seed", "int64"), ("v", "double")]
    write_table(path, columns, rows)
    assert struct.pack("<1001d", *(row[2] for row in rows)) in _pages(path)
    with pytest.raises(ValueError):
        write_table(path, columns, [("a", 1, 2.0), ("b", 3)])
    monkeypatch.setattr(gzip, "compress", lambda data, mtime: data)  # zlib's versions do not agree on bytes
    write_table(path, columns, rows)
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] == LAYOUT


def _pages(path: Path) -> list[bytes]:
    magic = b"\x1f\x8b\x08\x00"
    parts = path.read_bytes().split(magic)[1:]
    return [zlib.decompressobj(31).decompress(magic + part) for part in parts]  # a page header follows each


LAYOUT = "f7e311ea4120e3a2"


def test_all_rows_are_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    monkeypatch.setattr("atoll.simulate.table.write_table", lambda path, columns, rows: written.append((columns, rows)))
    write_results(tmp_path / "t", RESULTS)
    ((columns, rows),) = written
    assert [name for name, _ in columns][:4] == ["policy", "seed", "seconds", "event"]
    assert len(rows) == sum(len(item.rows) + len(item.measures) + len(item.violations) for item in RESULTS)
    assert ("b", 2, 100.0, "violation", "devices", "", 0.0, 0.0, "9 of 8") in rows


def test_the_report_has_six_whole_plots_the_numbers_and_what_broke() -> None:
    text = page(parse(SCENARIO, "s.yaml"), RESULTS, ["atoll simulate s.yaml --seeds 2 --compare 'b'   # devices"])
    assert "a &lt;night&gt;" in text and "<script" not in text and "http" not in text.replace("http-equiv", "")
    plots = [part.split("</svg>")[0] + "</svg>" for part in text.split("<figcaption>")[1:]]
    assert len(plots) == 6
    for plot in plots:
        ElementTree.fromstring(plot[plot.index("<svg") :])
    assert text.count('class="line ') == 8  # four plots, two policies
    assert "rack h-r0: 15 min" in text and "rack h-r0, seed 1: 6.7 min" in text
    assert "<b>a</b>: 2 such as <code>big-1</code>: needs &lt;64&gt; GPUs" in text
    assert "An invariant was broken" in text and "--seeds 2" in text
    assert "All invariants held" in page(parse(SCENARIO, "s.yaml"), RESULTS[:1], [])


def live_node(name: str, rack: str, **more: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "cloud.provider.com/topology-rack": rack, "disk": "ssd", **more}
    taints = [{"key": "team", "value": "a", "effect": "NoSchedule"}, {"key": "node.kubernetes.io/x", "effect": "x"}]
    have = {"cpu": "95500m", "memory": "1024Gi", "pods": "110", "nvidia.com/gpu": "8"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}, "status": {"allocatable": have}}


def test_a_live_cluster_becomes_a_scenario_that_reads() -> None:
    product = {"nvidia.com/gpu.product": "NVIDIA-H200"}
    nodes = [live_node(f"gpu-{number}", f"r{number // 2}", **product) for number in range(4)]
    template = {"metadata": {"labels": {"job-name": "train", "app": "x"}}, "spec": {"containers": []}}
    metadata = {"name": "train", "namespace": "ml", "uid": "u", "resourceVersion": "7", "labels": {"job-name": "train"}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"suspend": False, "selector": {"matchLabels": {}}, "parallelism": 2, "template": template},
        "status": {"active": 2},
    }
    done = {**job, "metadata": {"name": "old"}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    system = {**job, "metadata": {"name": "x", "namespace": "kube-system"}}
    flavor = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "f", "uid": "u"}}
    text = scenario_text("live", nodes, [flavor], [job, done, system], duration="2h", remaining_seconds=600)
    found = parse(text, "live.yaml")
    assert [(pool.gpu, pool.gpus, pool.names) for pool in found.pools] == [
        ("NVIDIA-H200", 8, ("gpu-0", "gpu-1")),
        ("NVIDIA-H200", 8, ("gpu-2", "gpu-3")),
    ]
    assert [(place.node, place.rack) for place in places(found.pools)][-1] == ("gpu-3", "r1")
    assert dict(found.pools[0].labels)["disk"] == "ssd"
    assert found.pools[0].taints == ((("effect", "NoSchedule"), ("key", "team"), ("value", "a")),)
    assert [item.obj["metadata"]["name"] for item in found.given] == ["f", "train"]
    spec = found.given[1].obj["spec"]
    assert set(spec) == {"parallelism", "template"} and "status" not in found.given[1].obj
    assert spec["template"]["metadata"] == {"labels": {"app": "x"}, "annotations": {"atoll.dev/run-seconds": "600"}}
    assert found.given[1].obj["metadata"] == {"name": "train", "namespace": "ml", "labels": {}}


def test_a_seed_always_makes_the_same_scenario_and_seeds_differ() -> None:
    texts = [explored_text(seed) for seed in range(40)]
    assert texts == [explored_text(seed) for seed in range(40)] and len(set(texts)) == 40
    scenarios = [explored(seed) for seed in range(40)]
    assert all(item.jobs and item.queueing and item.gpus for item in scenarios)
    targets = {fault.target for item in scenarios for fault in item.faults}
    assert targets == {"rack", "node", "network", "apiServer", "gpu"}
    kinds = {given.obj["kind"] for item in scenarios for given in item.given}
    assert {"Cohort", "PodDisruptionBudget", "Deployment", "PriorityClass"} <= kinds
    assert yaml.safe_load(texts[0])["kind"] == "Scenario"
