"""Backup, restore and a damaged log by the command line: what is copied, what goes on, what is said."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from pathlib import Path

from conftest import Shell, until

sys.path.insert(0, str(Path(__file__).parent))
from direct import Server, server_of

MAPS = "/api/v1/namespaces/default/configmaps"


def created(shell: Shell, home: Path, name: str, *options: str) -> Server:
    config = home / f"{name}.kubeconfig"
    shell.atoll("cluster", "create", name, *options, "--kubeconfig", str(config))
    return server_of(config)


def put(server: Server, name: str) -> int:
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}).encode()
    status, made, _ = server.ask("POST", MAPS, body)
    assert status == 201, made
    return int(made["metadata"]["resourceVersion"])


def names(server: Server) -> dict[str, int]:
    items = server.ask("GET", MAPS)[1]["items"]
    return {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in items}


def log_of(shell: Shell, name: str) -> Path:
    return Path(shell.env["XDG_STATE_HOME"]) / f"atoll/fleets/cluster-{name}/clusters/{name}/store.db"


def test_a_running_cluster_is_copied_and_restored(shell: Shell, home: Path) -> None:
    server = created(shell, home, "first", "--nodes", "0", "--simulated", "2")
    web = Shell(shell.env)
    config = f"--kubeconfig={home / 'first.kubeconfig'}"
    shell.run("kubectl", config, "create", "deployment", "web", "--image=nginx", "--replicas=3")
    shell.run("kubectl", config, "rollout", "status", "deployment/web", "--timeout=40s")
    for index in range(50):
        put(server, f"before-{index}")
    over, written = threading.Event(), {}

    def write() -> None:
        index = 0
        while not over.is_set():
            written[f"during-{index}"] = put(server, f"during-{index}")
            index += 1

    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: len(written) > 5, "writes")
    said = shell.atoll("cluster", "snapshot", "first", str(home / "copy")).stdout
    over.set()
    writer.join()
    version = int(said.split("at version ")[1].split(",")[0])
    last = max(written.values())

    restored_config = home / "second.kubeconfig"
    shell.atoll("cluster", "delete", "first")
    shell.atoll("cluster", "restore", str(home / "copy"), "second", "--kubeconfig", str(restored_config))
    again = server_of(restored_config)
    there = names(again)
    assert {name for name in written if written[name] <= version} == {n for n in there if n.startswith("during")}
    assert {f"before-{index}" for index in range(50)} <= there.keys()
    assert all(there[name] == written[name] for name in written if name in there), "objects keep their versions"
    assert int(again.ask("GET", MAPS)[1]["metadata"]["resourceVersion"]) > last, "versions go on above"
    assert put(again, "after") > last

    resumed = again.ask("GET", f"{MAPS}?watch=1&resourceVersion={last}&timeoutSeconds=1")[1]
    assert resumed["type"] == "ERROR" and resumed["object"]["code"] == 410, "who knew the old one lists again"
    config = f"--kubeconfig={restored_config}"
    web.run("kubectl", config, "wait", "--for=condition=Ready", "node", "--all", "--timeout=40s")
    web.run("kubectl", config, "scale", "deployment/web", "--replicas=5")
    web.run("kubectl", config, "rollout", "status", "deployment/web", "--timeout=40s")
    nodes = json.loads(web.run("kubectl", config, "get", "nodes", "-o", "json").stdout)["items"]
    assert {node["metadata"]["name"] for node in nodes} == {"first-sim-0", "first-sim-1"}, "pods keep their nodes"
    taken = shell.atoll("cluster", "restore", str(home / "copy"), "second", check=False)
    assert taken.returncode == 1 and "exists already" in taken.stderr
    shell.atoll("cluster", "delete", "second")


def test_a_damaged_log_is_told_and_mended_only_when_asked(shell: Shell, home: Path) -> None:
    server = created(shell, home, "hurt", "--api-only")
    server.ask("POST", "/api/v1/namespaces", b'{"metadata":{"name":"default"}}')
    put(server, "kept")
    last = put(server, "damaged")
    running = shell.atoll("cluster", "check", "hurt", check=False)
    assert running.returncode == 1 and "in use" in running.stderr
    shell.atoll("down", "cluster-hurt")
    assert "whole" in shell.atoll("cluster", "check", "hurt").stdout
    shell.atoll("cluster", "snapshot", "hurt", str(home / "stopped"))

    path = log_of(shell, "hurt")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE log SET entries = CAST(replace(entries, 'damaged', 'demaged') AS BLOB) "
               "WHERE instr(entries, 'damaged')")  # fmt: skip
    db.close()
    before = path.read_bytes()
    refused = shell.atoll("cluster", "create", "hurt", "--api-only", "--kubeconfig", str(home / "k"), check=False)
    assert refused.returncode == 1 and "is damaged" in refused.stderr and "--truncate" in refused.stderr
    assert path.read_bytes() == before, "a refused start changes nothing"
    assert shell.atoll("cluster", "snapshot", "hurt", str(home / "none"), check=False).returncode == 1
    told = shell.atoll("cluster", "check", "hurt", check=False)
    assert told.returncode == 1 and "checksum" in told.stdout and "lost:" in told.stdout

    assert "mended" in shell.atoll("cluster", "check", "hurt", "--truncate").stdout
    again = created(shell, home, "hurt", "--api-only")
    assert "kept" in names(again) and "damaged" not in names(again)
    assert put(again, "after") > last
    shell.atoll("cluster", "delete", "hurt")
    shell.atoll("cluster", "restore", str(home / "stopped"), "whole", "--kubeconfig", str(home / "k"))
    assert {"kept", "damaged"} <= names(server_of(home / "k")).keys()


def test_what_can_not_be_restored_is_told(shell: Shell, home: Path) -> None:
    (home / "text").write_text("hello " * 1000)
    for source, why in ((home / "nothing", "no file"), (home / "text", "not a log")):
        done = shell.atoll("cluster", "restore", str(source), "none", check=False)
        assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr
    assert "none" not in shell.atoll("cluster", "list").stdout
    done = shell.atoll("cluster", "snapshot", "nobody", str(home / "x"), check=False)
    assert done.returncode == 1 and "there is no cluster" in done.stderr
