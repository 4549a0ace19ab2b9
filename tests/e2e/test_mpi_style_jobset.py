"""A JobSet as MPI users run one, on process nodes: ranks find each other by stable names and talk directly, a failure
stops all of them as one, and they resume from the last checkpoint."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from process_cluster import DIAGNOSIS, Cluster

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(DIAGNOSIS.mode != "bridge", reason=f"no pod networks here: {DIAGNOSIS.reason}"),
]
WORKERS, EVERY, FAILS_AT, STEPS = 2, 10, 35, 60
COMMON = """
import json, os, pathlib, socket, sys, time
shared = pathlib.Path("/shared")
def tell(**what):
    with open(shared / "log", "a") as log:
        log.write(json.dumps({"attempt": int(os.environ["ATTEMPT"]), "name": socket.gethostname(), **what}) + "\\n")
def line(peer):
    text = peer.readline()
    if not text:
        tell(lost=True)
        sys.exit(1)
    return json.loads(text)
def say(peer, **what):
    peer.write(json.dumps(what) + "\\n")
    peer.flush()
"""
LEAD = (
    COMMON
    + """
peers = []
for rank in range(1, WORKERS + 1):
    host = f"mpi-work-0-{rank - 1}.mpi"
    deadline = time.monotonic() + 60
    while True:
        try:
            peers.append(socket.create_connection((host, 7000), timeout=5))
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    tell(rank=rank, at=peers[-1].getpeername()[0], me=peers[-1].getsockname()[0])
files = [peer.makefile("rw") for peer in peers]
latest = shared / "latest"
step = int(latest.read_text()) if latest.exists() else 0
tell(begins=step)
while step < STEPS:
    step += 1
    for file in files:
        say(file, step=step)
    total = sum(line(file)["square"] for file in files)
    assert total == sum((step * rank) ** 2 for rank in range(1, WORKERS + 1)), total
    if step % EVERY == 0:
        (shared / "new").write_text(str(step))
        (shared / "new").rename(latest)
    time.sleep(0.02)
for file in files:
    say(file, done=True)
tell(ended=step)
"""
)
WORK = (
    COMMON
    + """
rank = int(os.environ["INDEX"]) + 1
server = socket.create_server(("", 7000))
peer, address = server.accept()
tell(rank=rank, by=address[0])
file = peer.makefile("rw")
while True:
    asked = line(file)
    if "done" in asked:
        sys.exit(0)
    if asked["step"] == FAILS_AT and rank == 2 and os.environ["ATTEMPT"] == "0":
        tell(fails=asked["step"])
        sys.exit(1)
    say(file, square=(asked["step"] * rank) ** 2)
"""
)


def filled(program):
    for name in ("WORKERS", "EVERY", "FAILS_AT", "STEPS"):
        program = program.replace(name, str(globals()[name]))
    return program


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("mpi"), "mpi")
    made.atoll("cluster", "create", made.name, "--nodes", "2", "--batch", "--kubeconfig", str(made.kubeconfig))
    yield made
    made.atoll("cluster", "delete", made.name)


def replicated(name, pods, program, folder):
    def label(path):
        return {"valueFrom": {"fieldRef": {"fieldPath": f"metadata.{path}"}}}

    env = [
        {"name": "ATTEMPT", **label("labels['jobset.sigs.k8s.io/restart-attempt']")},
        {"name": "INDEX", **label("annotations['batch.kubernetes.io/job-completion-index']")},
    ]
    container = {
        "name": "c", "image": "python:3", "command": ["python3", "-c", filled(program)], "env": env,
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }  # fmt: skip
    pod = {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container],
        "volumes": [{"name": "shared", "hostPath": {"path": str(folder)}}],
    }  # fmt: skip
    spec = {"parallelism": pods, "completions": pods, "backoffLimit": 0, "template": {"spec": pod}}
    return {"name": name, "replicas": 1, "template": {"spec": spec}}


def test_ranks_talk_directly_fail_as_one_and_resume(cluster, tmp_path):
    tmp_path.chmod(0o777)
    spec = {
        "failurePolicy": {"maxRestarts": 3},
        "replicatedJobs": [
            replicated("lead", 1, LEAD, tmp_path),
            replicated("work", WORKERS, WORK, tmp_path),
        ],
    }
    job_set = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": "mpi"}, "spec": spec}
    cluster.apply(job_set)
    seen: dict[str, set[str]] = {}  # by restart attempt: the UIDs of pods

    def ended():
        for pod in cluster.get("pods")["items"]:
            attempt = pod["metadata"]["labels"]["jobset.sigs.k8s.io/restart-attempt"]
            seen.setdefault(attempt, set()).add(pod["metadata"]["uid"])
        status = cluster.get("jobset", "mpi").get("status") or {}
        return status.get("terminalState")

    assert cluster.until(ended, seconds=120) == "Completed"
    assert cluster.get("jobset", "mpi")["status"]["restarts"] == 1
    assert len(seen["1"]) == WORKERS + 1
    assert not seen.get("0", set()) & seen["1"]  # every rank was made anew
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    ends = {pod["metadata"]["name"].rsplit("-", 1)[0]: pod["status"]["podIP"] for pod in cluster.get("pods")["items"]}
    for attempt in (0, 1):
        mine = [item for item in told if item["attempt"] == attempt]
        lead = [item for item in mine if "at" in item]
        assert [item["rank"] for item in lead] == [1, 2]
        assert {item["by"] for item in mine if "by" in item} == {lead[0]["me"]}  # no address in between
        if attempt == 1:
            assert [item["at"] for item in lead] == [ends["mpi-work-0-0"], ends["mpi-work-0-1"]]
            assert lead[0]["me"] == ends["mpi-lead-0-0"]
    assert [item["fails"] for item in told if "fails" in item] == [FAILS_AT]
    last = FAILS_AT - FAILS_AT % EVERY
    assert [item["begins"] for item in told if "begins" in item] == [0, last]  # less than an interval is done again
    assert [item["ended"] for item in told if "ended" in item] == [STEPS]
