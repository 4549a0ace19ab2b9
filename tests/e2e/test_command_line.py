"""Every command as a user types it: what it prints, what it leaves, what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from conftest import BIN, ROOT, Shell, environment, until

from atoll.cli.main import cli
from atoll.cluster.network.bridge import bridge_name

TINY = """
apiVersion: fleet.atoll.dev/v1alpha1
kind: Fleet
metadata: {name: tiny}
spec:
  clusters:
  - {name: one, region: north, labels: {tier: gold}, nodes: {simulated: 2}}
  - {name: two, region: south, nodes: {simulated: 2}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A hub and two small clusters, started from a file."""
    home = tmp_path_factory.mktemp("tiny")
    (home / "run").mkdir(mode=0o700)
    (home / "fleet.yaml").write_text(TINY)
    shell = Shell(environment(home), "atoll-hub")
    shell.atoll("up", str(home / "fleet.yaml"))
    yield shell
    shell.atoll("down", "--all", "--purge")


def home_of(shell: Shell) -> Path:
    return Path(shell.env["HOME"])


def status(shell: Shell, fleet: str = "tiny") -> Any:
    return json.loads(shell.atoll("status", "--fleet", fleet, "-o", "json").stdout)


def cluster_of(shell: Shell, name: str) -> Any:
    return next(item for item in status(shell)["clusters"] if item["name"] == name)


def supervisor(shell: Shell, fleet: str = "tiny") -> int:
    return int((home_of(shell) / "state/atoll/fleets" / fleet / "supervisor.pid").read_text().split()[0])


def alive(*pids: int) -> list[int]:
    """Of these processes, those that live."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in _proc_status(pid)]


def _proc_status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "\nState:\tZ"


def pids(shell: Shell, fleet: str = "tiny") -> list[int]:
    found = status(shell, fleet)
    return [item["pid"] for item in [*found["clusters"], *([found["hub"]] if found["hub"] else [])]]


def commands(group: click.Group, path: str = "") -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found: list[tuple[str, click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append((f"{path}{name}", command))
        if isinstance(command, click.Group):
            found += commands(command, f"{path}{name} ")
    return found


def test_every_command_has_help_with_an_example() -> None:
    found = commands(cli)
    assert {"up", "cluster create", "plan", "completion"} <= {name for name, _ in found}
    for name, command in found:
        text = command.get_help(click.Context(command, info_name=name))
        assert "Example" in text and "atoll " in text, f"atoll {name} --help shows no example"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("stauts", "Did you mean 'status'?"),
        ("status --fleet nope", "the fleet 'nope' is not running.*next: start it: atoll up"),
        ("status --fleet ../x", "can't be a fleet's name"),
        ("up /nope/fleet.yaml", "/nope/fleet.yaml: No such file.*next: name a fleet file"),
        ("explain web --fleet tiny", "'web' is not KIND/NAME"),
        ("explain deployment/nope", "there is no Deployment nope"),
        ("tree boat/x", "serves no kind 'boat'"),
        ("get boats", "no kind 'boats'.*next: kubectl api-resources"),
        ("get pods nope --clusters", "there is no pods nope in any cluster"),
        ("kill nope", "no cluster 'nope'.*next: there are: hub, one, two"),
        ("logs nope", "no log of 'nope'.*next: there are: hub, one, supervisor, two"),
        ("plan -f /nope", "/nope does not exist"),
        ("apply /etc/hostname", "this is no plan.*next: make one with atoll plan"),
        ("join x --kubeconfig /nope", "kubeconfig /nope: No such file"),
        ("unjoin nope", "no cluster is joined as nope"),
        ("cluster create Bad_Name", "can't be a.* name"),
        ("cluster delete nope", "there is no cluster 'nope'.*next: atoll cluster list"),
        ("completion tcsh", "is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_mistakes_are_told_with_the_next_step(tiny: Shell, args: str, message: str) -> None:
    done = tiny.atoll(*args.split(), check=False)
    assert done.returncode in (1, 2), done.stdout
    assert re.search(message, done.stderr.replace("\n", " ")), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TINY.replace("region: north", "regoin: north"), r":7: spec.clusters\[0\].regoin: unknown key"),
        (TINY.replace("simulated: 2}}\n  - {name: two", "simulated: two}}\n  - {name: two"), r":7: .*simulated"),
        (TINY.replace("name: two", "name: one"), r":8: .*one"),
        ("a: [", ":1: not YAML|:2: not YAML"),
        ("", "the file is empty"),
        ("- a", ":1: the document: must be a mapping"),
    ],
)
def test_a_mistake_in_a_fleet_file_is_told_with_line_and_key(
    tiny: Shell, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    done = tiny.atoll("up", str(path), check=False)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_up_twice_and_two_fleets_at_once(tiny: Shell, tmp_path: Path) -> None:
    again = tiny.atoll("up", str(home_of(tiny) / "fleet.yaml"))
    assert "is running already" in again.stderr and "2 clusters, 4 nodes ready" in again.stdout
    other = tmp_path / "other.yaml"
    other.write_text("apiVersion: fleet.atoll.dev/v1alpha1\nkind: Fleet\nmetadata: {name: other}\n"
                     "spec: {clusters: [{name: three, nodes: {simulated: 1}}]}\n")  # fmt: skip
    tiny.atoll("up", str(other))
    assert [item["name"] for item in status(tiny, "other")["clusters"]] == ["three"]
    assert [item["name"] for item in status(tiny)["clusters"]] == ["one", "two"]
    ports = [item["port"] for name in ("tiny", "other") for item in status(tiny, name)["clusters"]]
    assert len(set(ports)) == 3
    assert tiny.get("nodes", context="atoll-three")["items"]
    gone = pids(tiny, "other")
    assert "stopped, state deleted" in tiny.atoll("down", "other", "--purge").stdout
    assert not alive(*gone)
    assert len(status(tiny)["clusters"]) == 2, "the other fleet goes on"


def test_status_in_every_form_and_logs(tiny: Shell) -> None:
    shown = tiny.atoll("status").stdout
    assert re.search(r"^fleet tiny: hub ready at https://127\.0\.0\.1:\d+", shown), shown
    assert re.search(r"^one +ready +Ready +2/2 +v1\.36", shown, re.M), shown
    wide = tiny.atoll("status", "-o", "wide").stdout
    assert re.search(rf"^two .* south .* {cluster_of(tiny, 'two')['pid']}", wide, re.M), wide
    assert yaml.safe_load(tiny.atoll("status", "-o", "yaml").stdout)["clusters"][1]["region"] == "south"
    assert "joined one" in tiny.atoll("logs", "hub").stdout
    follow = tiny.popen(str(BIN / "atoll"), "logs", "hub", "-f", "--tail", "1")
    assert follow.stdout is not None and follow.stdout.readline()
    follow.send_signal(signal.SIGINT)
    assert "Traceback" not in follow.communicate(timeout=20)[0]


def test_doctor_and_completion(tiny: Shell) -> None:
    found = json.loads(tiny.atoll("doctor", "-o", "json").stdout)
    assert {"python", "open files", "process nodes"} <= {item["check"] for item in found}
    assert re.search(r"^process nodes +(ok|warn) +(bridge|host|none) mode", tiny.atoll("doctor").stdout, re.M)
    for shell, word in (("bash", "complete -o"), ("zsh", "#compdef atoll"), ("fish", "complete --no-files")):
        assert word in tiny.atoll("completion", shell).stdout


def test_kubeconfig_keeps_what_others_wrote(tiny: Shell, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    foreign = {
        "apiVersion": "v1", "kind": "Config", "current-context": "mine", "preferences": {"colors": True},
        "clusters": [{"name": "mine", "cluster": {"server": "https://mine.example.com"}}],
        "users": [{"name": "mine", "user": {"token": "t"}}],
        "contexts": [{"name": "mine", "context": {"cluster": "mine", "user": "mine"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(foreign))
    tiny.atoll("kubeconfig", "--file", str(path))
    merged = yaml.safe_load(path.read_text())
    assert merged["current-context"] == "mine" and merged["preferences"] == {"colors": True}
    assert {item["name"] for item in merged["contexts"]} == {"mine", "atoll-hub", "atoll-one", "atoll-two"}
    assert merged["users"][0]["user"]["token"] == "t"
    assert path.stat().st_mode & 0o077 == 0
    nodes = tiny.run(str(BIN / "kubectl"), f"--kubeconfig={path}", "--context=atoll-two", "get", "nodes", "-o", "name")
    assert len(nodes.stdout.split()) == 2
    broken = tmp_path / "broken"
    broken.write_text("{")
    done = tiny.atoll("kubeconfig", "--file", str(broken), check=False)
    assert done.returncode == 1 and str(broken) in done.stderr and broken.read_text() == "{"


def test_a_throw_away_cluster_joins_and_leaves(tiny: Shell, tmp_path: Path) -> None:
    config = tmp_path / "ext.yaml"
    made = tiny.atoll("cluster", "create", "ext", "--nodes", "0", "--simulated", "2", "--kubeconfig", str(config))
    assert re.search(r"cluster ext ready in [\d.]+ s: KUBECONFIG=", made.stdout)
    user = yaml.safe_load(config.read_text())["users"][0]["user"]
    assert user["token"]
    assert re.search(r"^ext +running +\d+", tiny.atoll("cluster", "list").stdout, re.M)
    assert "exists already" in tiny.atoll("cluster", "create", "ext", check=False).stderr

    dry = tiny.atoll("join", "ext", "--kubeconfig", str(config), "--allow", "Deployment,default", "--dry-run").stdout
    assert "would be joined" in dry and "kind: Role" in dry and "'*'" not in dry
    joined = tiny.atoll("join", "ext", "--kubeconfig", str(config), "--region", "mars", "--label", "tier=red").stdout
    assert "kind: ClusterRole" in joined and "ext joined" in joined
    until(lambda: cluster_of(tiny, "ext").get("ready") == "True", "ext ready")
    assert (cluster_of(tiny, "ext")["process"], cluster_of(tiny, "ext")["region"]) == ("external", "mars")
    taken = tiny.atoll("join", "twin", "--kubeconfig", str(config), check=False)
    assert "this cluster is joined already, as ext" in taken.stderr

    tiny.kubectl("create", "deployment", "roamer", "--image=nginx", "--replicas=2")
    tiny.kubectl("apply", "-f", "-", stdin=_policy("roamer", {"labelSelector": {"matchLabels": {"tier": "red"}}}))
    on_ext = [str(BIN / "kubectl"), f"--kubeconfig={config}"]
    until(lambda: not tiny.run(*on_ext, "get", "deployment/roamer", check=False).returncode, "the copy in ext")
    assert "ext has left the fleet" in tiny.atoll("unjoin", "ext").stdout
    assert tiny.run(*on_ext, "get", "deployment/roamer", check=False).returncode, "nobody manages it: it is gone"
    until(lambda: "atoll" not in tiny.run(*on_ext, "get", "ns,sa,clusterrole,clusterrolebinding", "-A").stdout, "clean")
    left = tiny.kubectl("get", "namespaces,secrets,clusterprofiles", "-A", "-o", "name").stdout
    assert "ext" not in left.replace("extension", "")
    tiny.kubectl("delete", "deployment/roamer", "propagationpolicy/roamer", "--timeout=20s")
    tiny.atoll("cluster", "delete", "ext")
    assert "ext" not in tiny.atoll("cluster", "list").stdout


def _policy(name: str, affinity: dict[str, Any]) -> str:
    selector = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {"resourceSelectors": [selector], "placement": {"clusterAffinity": affinity}}
    metadata = {"name": name, "namespace": "default"}
    return json.dumps(
        {"apiVersion": "policy.karmada.io/v1alpha1", "kind": "PropagationPolicy", "metadata": metadata, "spec": spec}
    )


def test_api_only_and_a_port_in_use(tiny: Shell, tmp_path: Path) -> None:
    config = tmp_path / "bare.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        args = ("cluster", "create", "bare", "--api-only", "--kubeconfig", str(config), "--port", str(port))
        done = tiny.atoll(*args, check=False)
    assert done.returncode == 1 and f"port {port} is in use" in done.stderr and "next: stop what listens" in done.stderr
    assert "bare" not in tiny.atoll("cluster", "list").stdout, "nothing is left of it"
    tiny.atoll(*args)
    kubectl = [str(BIN / "kubectl"), f"--kubeconfig={config}"]
    assert f":{port}" in yaml.safe_load(config.read_text())["clusters"][0]["cluster"]["server"]
    tiny.run(*kubectl, "create", "configmap", "c", "--from-literal=a=b")
    assert "No resources found" in tiny.run(*kubectl, "get", "nodes").stderr
    tiny.atoll("cluster", "delete", "bare")


def test_plan_out_and_apply(tiny: Shell, tmp_path: Path) -> None:
    manifest, kept = tmp_path / "app.yaml", tmp_path / "app.plan"
    example = (ROOT / "examples/01-hello-fleet/app.yaml").read_text()
    manifest.write_text(example.replace("onprem, cloud-a, cloud-b", "one, two"))
    planned = tiny.atoll("plan", "-f", str(manifest), "--out", str(kept)).stdout
    assert "7 to create, 0 to change, 0 to delete" in planned and f"atoll apply {kept}" in planned
    assert tiny.kubectl("get", "deployment", "hello", check=False).returncode, "a plan changes nothing"
    applied = tiny.atoll("apply", str(kept)).stdout
    assert "Deployment default/hello on hub: created" in applied and applied.endswith("done\n")
    tiny.kubectl("rollout", "status", "deployment/hello", "--timeout=30s")

    again = tiny.atoll("apply", str(kept), check=False)
    assert again.returncode == 1 and "changed" in again.stderr and "next:" in again.stderr
    assert "0 to create, 0 to change, 0 to delete" in tiny.atoll("plan", "-f", str(manifest)).stdout
    manifest.write_text(manifest.read_text().replace("replicas: 2", "replicas: 3"))
    changed = tiny.atoll("plan", "-f", str(manifest), "--out", str(kept)).stdout
    assert re.search(r"~ one: Deployment default/hello × 3", changed), changed
    assert re.search(r"spec\.replicas: 2 (→|->) 3", changed), changed
    tiny.kubectl("scale", "deployment/hello", "--replicas=5")
    refused = tiny.atoll("apply", str(kept), check=False)
    assert refused.returncode == 1 and "Deployment default/hello" in refused.stderr, refused.stderr
    assert tiny.get("deployment", "hello")["spec"]["replicas"] == 5
    json.loads(tiny.atoll("plan", "-f", str(manifest), "-o", "json").stdout)


def test_get_explain_tree(tiny: Shell) -> None:
    tiny.kubectl("create", "deployment", "seen", "--image=nginx", "--replicas=2")
    tiny.kubectl("apply", "-f", "-", stdin=_policy("seen", {"labelSelector": {"matchLabels": {"tier": "gold"}}}))
    tiny.kubectl("rollout", "status", "deployment/seen", "--timeout=30s")
    shown = tiny.atoll("get", "pods", "--clusters", "-l", "app=seen", "-o", "wide").stdout
    assert re.match(r"CLUSTER +NAME +READY +STATUS .* NODE", shown) and shown.count("Running") == 2, shown
    both = tiny.atoll("get", "services,deploy", "--clusters", "-A").stdout
    assert both.count("CLUSTER   NAMESPACE") == 2 and re.search(r"^one +default +seen +2/2", both, re.M), both
    explained = tiny.atoll("explain", "deployment/seen").stdout
    assert re.search(r"^one +chosen", explained, re.M) and re.search(r"^two +no .*labels", explained, re.M), explained
    branches = json.loads(tiny.atoll("tree", "deployment/seen", "-o", "json").stdout)
    kinds = []
    while branches:
        kinds.append(branches["kind"])
        branches = (branches.get("children") or [None])[0]
    assert kinds == ["Deployment", "ResourceBinding", "Work", "Deployment", "ReplicaSet", "Pod"]
    tiny.kubectl("delete", "deployment/seen", "propagationpolicy/seen", "--timeout=20s")


@pytest.mark.parametrize("how", ["kill", "stop", "partition"])
def test_kill_and_heal(tiny: Shell, how: str) -> None:
    """`status --watch` shows it; what happens meanwhile in a cluster that is cut off is not seen, and seen later."""
    watch = tiny.popen(str(BIN / "atoll"), "status", "--watch")
    try:
        told = tiny.atoll("kill", "two", "--how", how).stdout
        assert "undo with: atoll heal two" in told
        until(lambda: cluster_of(tiny, "two")["ready"] != "True", "not ready", 20)
        got = tiny.atoll("get", "nodes", "--clusters", check=False)
        assert "one" in got.stdout and got.returncode == 0
        if how != "partition":
            assert re.search("warning: two: .*", got.stderr), "who can't be asked is told"
        else:
            tiny.kubectl("label", "nodes", "--all", "seen=later", context="atoll-two")
    finally:
        assert f"healed ({how})" in tiny.atoll("heal", "two").stdout
    until(lambda: cluster_of(tiny, "two")["ready"] == "True", "ready again", 20)
    assert "nothing to heal" in tiny.atoll("heal", "two").stdout
    time.sleep(0.6)
    watch.send_signal(signal.SIGINT)
    seen = watch.communicate(timeout=20)[0]
    assert re.search(r"^two +\S+ +NotReady", seen, re.M) and "Traceback" not in seen, seen


def test_a_cluster_of_its_own_is_killed_and_healed(tiny: Shell, tmp_path: Path) -> None:
    config = tmp_path / "alone.yaml"
    tiny.atoll("cluster", "create", "alone", "--api-only", "--kubeconfig", str(config))
    ask = [str(BIN / "kubectl"), f"--kubeconfig={config}", "get", "--raw=/readyz"]
    try:
        cut = tiny.atoll("kill", "alone", "--how", "partition", check=False)
        assert re.search("'alone' has no hub to be cut off from.*next: use --how kill", cut.stderr, re.S)
        assert "alone killed; undo with: atoll heal alone" in tiny.atoll("kill", "alone").stdout
        assert tiny.run(*ask, check=False).returncode
        assert "healed (kill)" in tiny.atoll("heal", "alone").stdout
        until(lambda: not tiny.run(*ask, check=False).returncode, "it answers again", 20)
        assert "nothing to heal" in tiny.atoll("heal", "alone").stdout
    finally:
        tiny.atoll("cluster", "delete", "alone")
    gone = tiny.atoll("kill", "alone", check=False)
    assert "no cluster 'alone' in this fleet" in gone.stderr, gone.stderr


def test_a_killed_supervisor_leaves_no_process_and_up_takes_its_state_up(tiny: Shell) -> None:
    tiny.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    tiny.kubectl("create", "configmap", "kept", "--from-literal=a=b", context="atoll-one")
    before = {item["name"]: item["port"] for item in status(tiny)["clusters"]} | {"hub": status(tiny)["hub"]["port"]}
    processes = pids(tiny)
    os.kill(supervisor(tiny), signal.SIGKILL)
    until(lambda: not alive(*processes), "children die with it", 10)
    done = tiny.atoll("status", check=False)
    assert done.returncode == 1 and "not running" in done.stderr
    tiny.atoll("up", "--fleet", "tiny")
    after = {item["name"]: item["port"] for item in status(tiny)["clusters"]} | {"hub": status(tiny)["hub"]["port"]}
    assert after == before
    assert tiny.get("configmap", "kept")["data"] == tiny.get("configmap", "kept", context="atoll-one")["data"]
    until(lambda: cluster_of(tiny, "two")["ready"] == "True", "ready again", 20)


def test_foreground_and_down_leave_nothing(tiny: Shell) -> None:
    tiny.atoll("down", "tiny")
    assert "was not running" in tiny.atoll("down", "tiny").stdout
    running = tiny.popen(str(BIN / "atoll"), "up", str(home_of(tiny) / "fleet.yaml"), "--foreground")
    until(lambda: _is_up(tiny), "the fleet in the foreground", 30)
    processes = pids(tiny)
    markers = [json.loads(marker.read_text()) for marker in home_of(tiny).rglob("network.json")]
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=30)[0]
    assert "2 clusters, 4 nodes ready" in said and "Traceback" not in said, said
    assert not alive(*processes)
    bridges = {bridge_name(marker["cluster"]) for marker in markers}
    assert not bridges & set(os.listdir("/sys/class/net"))
    tiny.atoll("up", str(home_of(tiny) / "fleet.yaml"))


def _is_up(shell: Shell) -> bool:
    done = shell.atoll("status", "--fleet", "tiny", "-o", "json", check=False)
    if done.returncode:
        return False
    found = json.loads(done.stdout)
    return len(found["clusters"]) == 2 and all(item.get("ready") == "True" for item in found["clusters"])


def test_damaged_state_is_told(tiny: Shell, tmp_path: Path) -> None:
    """A store that can't be read, a fleet file that can't: each is named, with what to do; nothing waits for ever."""
    file = tmp_path / "worn.yaml"
    file.write_text("apiVersion: fleet.atoll.dev/v1alpha1\nkind: Fleet\nmetadata: {name: worn}\n"
                    "spec: {clusters: [{name: four, nodes: {simulated: 1}}]}\n")  # fmt: skip
    tiny.atoll("up", str(file))
    tiny.atoll("down", "worn")
    folder = home_of(tiny) / "state/atoll/fleets/worn"
    store = folder / "clusters/four/store.db"
    with store.open("r+b") as damaged:
        for page in range(1, store.stat().st_size // 4096):
            damaged.seek(page * 4096)
            damaged.write(b"\xff" * 2000)
    done = tiny.atoll("up", "--fleet", "worn", check=False)
    assert done.returncode == 1 and f"{store} is damaged" in done.stderr and "atoll cluster check" in done.stderr
    tiny.atoll("down", "worn")
    (folder / "fleet.json").write_text("{")
    done = tiny.atoll("up", "--fleet", "worn", check=False)
    assert done.returncode == 1 and "next: atoll down --purge worn" in done.stderr
    tiny.atoll("down", "--purge", "worn")
    assert not folder.exists()
    assert len(status(tiny)["clusters"]) == 2
