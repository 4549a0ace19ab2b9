"""GPUs of process nodes are read from their kubelet's DCGM page, through the API server, by the health controller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell, environment, until

NAME = "bed9"
NODE = f"{NAME}-worker"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home: Path = tmp_path_factory.mktemp("gpu")
    (home / "run").mkdir(mode=0o700)
    found = Shell(environment(home), f"atoll-{NAME}")
    found.atoll("gpu", "up", "--name", NAME, "--gpus", "a100-40gb:2", "--process", "--health", timeout=120)
    yield found
    found.atoll("gpu", "down", NAME, check=False)


def healthy(shell: Shell) -> Any:
    conditions = shell.get("node", NODE)["status"].get("conditions") or ()
    return next((item for item in conditions if item["type"] == "GPUHealthy"), {})


def test_what_the_page_says_is_judged(shell: Shell) -> None:
    until(lambda: healthy(shell).get("status") == "True", "the GPUs to be read", 60)
    # as many instances as would be GPUs: by the MIG strategy `single` they have the GPUs' name, and their count
    shell.kubectl("label", "node", NODE, "nvidia.com/mig.config=all-1g.5gb")
    until(lambda: shell.get("node", NODE)["status"]["allocatable"]["nvidia.com/gpu"] == "14", "the partitions")
    shell.atoll("gpu", "fault", NODE, "--xid", "63", "--gpu", "1", "--name", NAME)  # which calls for nothing
    page = f"/api/v1/nodes/{NODE}/proxy/metrics/dcgm"
    until(lambda: "} 63" in shell.kubectl("get", "--raw", page).stdout, "the XID on the page")
    shell.atoll("gpu", "fault", NODE, "--thermal", "97", "--gpu", "0", "--name", NAME)
    found = until(lambda: (it := healthy(shell)).get("status") == "False" and it, "the heat to be found", 60)
    assert found["message"] == "GPU 0: 97 °C", "and no GPU that is not visible"
