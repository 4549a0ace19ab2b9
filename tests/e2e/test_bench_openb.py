"""atoll bench openb as a user types it, on the trace beside the checkout (../shared/traces/openb)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, ROOT

from atoll.cli.bench import _POLICIES
from atoll.simulate.openb import published, replay, trace

TRACES = ROOT.parent / "shared" / "traces" / "openb"
LISTS = ("openb_pod_list_default", "openb_pod_list_gpushare40", "openb_pod_list_multigpu20")
ONE_SEED = 3.5
"""Sample deviations by which a single run may differ, beside SLACK."""


@pytest.fixture(scope="module")
def traces() -> Path:
    if not TRACES.is_dir():
        assert not os.environ.get("CI"), f"CI must have the trace at {TRACES}"
        pytest.skip(f"no trace at {TRACES}")
    return TRACES


def atoll(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "atoll", "bench", "openb", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_knows_all_policies() -> None:
    assert tuple(replay.POLICIES) == _POLICIES


@pytest.mark.parametrize("pods", LISTS)
def test_one_seed_agrees_with_the_published_results(traces: Path, pods: str) -> None:
    given = trace.read(traces / "openb_node_list_all_node.csv", traces / f"{pods}.csv")
    assert (len(given.machines), given.gpus) == (1_213, 6_212)
    peers = published.read(traces / "fgd_expected.json", pods)
    fgd = {}
    for name in replay.POLICIES:
        result = replay.run(replay.Contest(given, name), 42)
        assert tuple(result.allocated) == replay.PERCENTS
        for table, found in ((peers.allocated, result.allocated), (peers.fragmented, result.fragmented)):
            for percent, value in found.items():
                if name in table:
                    cell = table[name][percent]
                    assert abs(value - cell.mean) <= published.SLACK + ONE_SEED * cell.sd_sample, (name, percent)
        if name == "06-FGD":
            fgd = result.allocated, result.fragmented
        if name == "07-Atoll":
            assert result.allocated[100] > fgd[0][100] + 0.3
            assert result.fragmented[95] < fgd[1][95] - 0.2


def test_json_of_all_seeds_within_tolerance(traces: Path) -> None:
    pods = traces / f"{LISTS[2]}.csv"
    done = atoll("--nodes", traces / "openb_node_list_gpu_node.csv", "--pods", pods, "--policy", "05-BestFit",
                 "--expected", traces / "fgd_expected.json", "-o", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["05-BestFit"]
    assert list(found["05-BestFit"]) == ["50", "80", "90", "95", "100", "110", "120", "130"]
    assert 93.4 < found["05-BestFit"]["100"] < 94.1


def test_a_mean_that_is_off_is_marked_and_fails(traces: Path, tmp_path: Path) -> None:
    document = json.loads((traces / "fgd_expected.json").read_text())
    document["alloc_pct"][LISTS[0]]["02-DotProd"]["110"]["mean"] += 2
    (tmp_path / "expected.json").write_text(json.dumps(document))
    done = atoll("--nodes", traces / "openb_node_list_gpu_node.csv", "--pods", traces / f"{LISTS[0]}.csv",
                 "--policy", "02-DotProd", "--expected", tmp_path / "expected.json")  # fmt: skip
    assert done.returncode == 1
    assert "from the published mean: 02-DotProd at 110 %" in done.stderr
    assert done.stdout.count("✗") == 1
    assert "8,152 pods on 1,213 nodes with 6,212 GPUs" in done.stdout


def test_wrong_input_is_told_with_the_next_step(tmp_path: Path) -> None:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\nn,64000,262144,2,P100\n")
    pods.write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np,1,1,1,500,V900\n")
    done = atoll("--nodes", nodes, "--pods", pods)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: {pods}, line 2, column gpu_spec: unknown GPU model 'V900'" in done.stderr
    assert "next: " in done.stderr and "P100" in done.stderr
    done = atoll("--nodes", tmp_path / "none.csv", "--pods", pods)
    assert done.returncode == 1 and "none.csv: No such file" in done.stderr
