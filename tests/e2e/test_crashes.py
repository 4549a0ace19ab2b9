"""kill -9 of a cluster under load, fifty times: nothing acknowledged is lost, versions never go back, all goes on."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell, environment, until

from atoll.app.control import ask_one

sys.path.insert(0, str(Path(__file__).parent))
from direct import Server, server_of

TIMES = 50
MAPS = "/api/v1/namespaces/default/configmaps"
BROKEN = (OSError, http.client.HTTPException)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A cluster with two simulated nodes."""
    home = tmp_path_factory.mktemp("victim")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-victim")
    shell.atoll("cluster", "create", "victim", "--nodes", "0", "--simulated", "2")
    yield shell
    shell.atoll("cluster", "delete", "victim")


class Writer(threading.Thread):
    """Creates ConfigMaps as fast as it is answered; what was acknowledged, with its version."""

    def __init__(self, server: Server, name: str, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._server, self._name, self._over = server, name, over
        self.acknowledged: dict[str, int] = {}
        self.went_back: list[tuple[int, int]] = []

    def run(self) -> None:
        index = 0
        connection = self._server.connect(5)
        while not self._over.is_set():
            name = f"{self._name}-{index}"
            index += 1
            body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}).encode()
            try:
                status, made, _ = self._server.ask("POST", MAPS, body, connection=connection)
            except BROKEN:
                connection.close()
                connection = self._server.connect(5)
                self._over.wait(0.01)
                continue
            if status == 201:
                version = int(made["metadata"]["resourceVersion"])
                last = next(reversed(self.acknowledged.values()), 0)
                if version <= last:
                    self.went_back.append((last, version))
                self.acknowledged[name] = version


class Watcher(threading.Thread):
    """One watch, taken up again from the last version that it saw."""

    def __init__(self, server: Server, version: str, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._server, self._version, self._over = server, version, over
        self.seen: dict[str, int] = {}
        self.problems: list[Any] = []
        self.resumed = 0

    def run(self) -> None:
        while not self._over.is_set():
            connection = self._server.connect(2)
            try:
                path = f"{MAPS}?watch=1&resourceVersion={self._version}&allowWatchBookmarks=true"
                connection.request("GET", path, headers={"Authorization": f"Bearer {self._server.token}"})
                self._follow(connection.getresponse())
            except BROKEN:
                self._over.wait(0.01)
            finally:
                connection.close()

    def _follow(self, answer: http.client.HTTPResponse) -> None:
        if answer.status != 200:
            self.problems.append((answer.status, answer.read()))
            return
        self.resumed += 1
        for line in answer:
            event = json.loads(line)
            if event["type"] == "ERROR":
                self.problems.append(event["object"])
                return
            metadata = event["object"]["metadata"]
            version = int(metadata["resourceVersion"])
            if version < int(self._version):
                self.problems.append(f"{version} after {self._version}")
            self._version = str(version)
            if event["type"] == "ADDED":
                if metadata["name"] in self.seen:
                    self.problems.append(f"{metadata['name']} twice")
                self.seen[metadata["name"]] = version


def test_fifty_kills_under_load(victim: Shell) -> None:
    folder = Path(victim.env["XDG_STATE_HOME"]) / "atoll/fleets/cluster-victim"
    server = server_of(folder / "clusters/victim/admin.kubeconfig")
    control = _control(victim)
    victim.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    over = threading.Event()
    version = server.ask("GET", MAPS)[1]["metadata"]["resourceVersion"]
    watcher = Watcher(server, version, over)
    writers = [Writer(server, name, over) for name in ("a", "b", "c")]
    for thread in (watcher, *writers):
        thread.start()
    for _ in range(TIMES):
        goal = sum(len(writer.acknowledged) for writer in writers) + 20
        until(lambda goal=goal: sum(len(writer.acknowledged) for writer in writers) >= goal, "writes go on", 30)
        ask_one(control, {"do": "kill", "cluster": "victim", "how": "kill"})
        ask_one(control, {"do": "heal", "cluster": "victim"})
    until(lambda: _is_ready(server), "the cluster again", 30)
    acknowledged = {name: version for writer in writers for name, version in writer.acknowledged.items()}
    until(lambda: acknowledged.keys() <= watcher.seen.keys(), "the watch to see every write", 30)
    over.set()
    for thread in (watcher, *writers):
        thread.join(10)
    there = {i["metadata"]["name"]: int(i["metadata"]["resourceVersion"]) for i in server.ask("GET", MAPS)[1]["items"]}
    assert not {name: version for name, version in acknowledged.items() if there.get(name) != version}
    assert not [writer.went_back for writer in writers if writer.went_back]
    assert not watcher.problems and watcher.resumed > TIMES // 2
    assert {name: watcher.seen[name] for name in acknowledged} == acknowledged
    victim.kubectl("scale", "deployment/web", "--replicas=7")
    victim.kubectl("rollout", "status", "deployment/web", "--timeout=40s")


def _is_ready(server: Server) -> bool:
    try:
        return server.ask("GET", "/readyz")[0] == 200
    except BROKEN:
        return False


def _control(shell: Shell) -> Path:
    found = list(Path(shell.env["XDG_RUNTIME_DIR"]).glob("atoll-*/control"))
    assert len(found) == 1
    return found[0]
