"""Example 12 with kubectl on a running cluster: a team borrows, and gives back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Shell, environment, until

EXAMPLE = ROOT / "examples" / "12-a-team-borrows-and-gives-back"


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A throw-away cluster with teams."""
    home: Path = tmp_path_factory.mktemp("teams12")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-teams12")
    shell.atoll("cluster", "create", "teams12", "--nodes", "0", "--simulated", "4", "--teams", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "teams12")


def listed(shell: Shell) -> dict[str, Any]:
    found = json.loads(shell.atoll("teams", "list", "--context", "atoll-teams12", "-o", "json").stdout)
    return {item["name"]: item for item in found["items"]}


def ready(shell: Shell, name: str) -> int:
    return int(shell.get("deployment", name)["status"].get("readyReplicas", 0))


def test_a_team_borrows_and_gives_back(teams: Shell) -> None:
    assert "there is no ConfigMap" in teams.atoll("teams", "list", "--context", "atoll-teams12", check=False).stderr
    assert teams.get("namespace", "atoll-system")["status"]["phase"] == "Active"  # settings can be written at once
    teams.kubectl("apply", "-f", str(EXAMPLE / "teams.yaml"))
    until(lambda: [it["have"] for it in listed(teams).values()] == [2, 2], "each team's nodes")
    taints = [node["spec"]["taints"][0] for node in teams.get("nodes")["items"]]
    assert sorted(taint["value"] for taint in taints) == ["production", "production", "research", "research"]
    teams.kubectl("apply", "-f", str(EXAMPLE / "explore.yaml"))
    until(lambda: ready(teams, "explore") == 4, "research to have all")
    assert listed(teams)["production"]["borrowed"] == 2
    teams.kubectl("apply", "-f", str(EXAMPLE / "serve.yaml"))
    until(lambda: ready(teams, "serve") == 2, "production to have its own")
    until(lambda: listed(teams)["research"]["waiting"] == 2, "the borrowers to wait")
    assert listed(teams)["production"]["borrowed"] == 0
    teams.kubectl("delete", "deployment", "serve")
    until(lambda: ready(teams, "explore") == 4, "research to borrow again")
    table = teams.atoll("teams", "list", "--context", "atoll-teams12", "-o", "wide").stdout
    assert "2/2" in table and "atoll.dev/simulated=true" in table


def test_the_policy_for_other_servers_is_taken(teams: Shell) -> None:
    text = teams.atoll("teams", "policy", "--context", "atoll-teams12").stdout
    assert [item["kind"] for item in yaml.safe_load_all(text)][1] == "MutatingAdmissionPolicyBinding"
    assert "created" in teams.kubectl("apply", "-f", "-", stdin=text).stdout
    teams.kubectl("delete", "-f", "-", stdin=text)
