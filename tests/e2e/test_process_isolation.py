"""What root's process nodes enforce and share: users, limits, resizes, namespaces, sysctls, load balancers."""

import json
import urllib.request

import pytest
from process_cluster import DIAGNOSIS, Cluster, events_of, fetch, pod, server, service, status_of

from atoll.cluster.nodes.process.cgroups import find_hierarchy

pytestmark = pytest.mark.skipif(DIAGNOSIS.mode != "bridge", reason=f"no pod addresses here: {DIAGNOSIS.reason}")
HIERARCHY = find_hierarchy() if DIAGNOSIS.mode == "bridge" else None
enforced = pytest.mark.skipif(HIERARCHY is None, reason="control groups can't be made here")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("iso"), "iso")
    made.atoll("cluster", "create", made.name, "--kubeconfig", str(made.kubeconfig))
    yield made
    made.atoll("cluster", "delete", made.name)


def lines(cluster, name, command, *args):
    return cluster("exec", name, *args, "--", "sh", "-c", command).splitlines()


def test_users_groups_and_the_owners_of_files_are_real(cluster):
    security = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]}
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}]}
    made = pod("owners", "touch /v/mine; sleep 1000", securityContext=security, container=mounts)
    made["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}]
    other = {"name": "root", "image": "busybox", "command": ["sleep", "1000"], **mounts}
    made["spec"]["containers"].append({**other, "securityContext": {"runAsUser": 0}})
    cluster.apply(made)
    cluster.ready("owners")
    assert lines(cluster, "owners", "id -u; id -g; id -G", "-c", "c") == ["1000", "3000", "3000 2000 4000"]
    assert lines(cluster, "owners", "stat -c %u:%g /v/mine", "-c", "root") == ["1000:2000"]
    assert lines(cluster, "owners", "stat -f -c %T /m; echo x >/m/f", "-c", "c") == ["tmpfs"]
    assert lines(cluster, "owners", "cat /m/f", "-c", "root") == ["x"]


def test_the_kernels_files_are_out_of_reach(cluster):
    cluster.apply(pod("masked"))
    cluster.ready("masked")
    command = (
        "echo 1 2>/dev/null >/proc/sys/kernel/panic && echo written; wc -c </proc/timer_list; head -c1 /proc/kcore"
    )
    assert "written" not in (found := cluster.run("exec", "masked", "--", "sh", "-c", command).stdout)
    assert found.splitlines()[:1] == ["0"]


@enforced
def test_a_container_that_takes_too_much_memory_is_killed(cluster):
    program = "python3 -c 'x = bytearray(200 << 20)'"
    limits = {"image": "python:3", "resources": {"limits": {"memory": "40Mi"}}}
    cluster.apply(pod("hungry", program, container=limits, restartPolicy="Never"))
    ended = cluster.until(lambda: status_of(cluster, "hungry").get("state", {}).get("terminated"))
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def cgroup(cluster, name, old, new):
    path = new if HIERARCHY.unified else old
    return lines(cluster, name, f"cat /sys/fs/cgroup/{path}")


@enforced
def test_a_resize_is_carried_out_in_place(cluster):
    sizes = {"resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}}
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    cluster.apply(pod("sized", container={**sizes, "resizePolicy": policy}))
    cluster.ready("sized")
    assert cgroup(cluster, "sized", "memory/memory.limit_in_bytes", "memory.max") == [str(64 << 20)]

    def resize(resources):
        patch = {"spec": {"containers": [{"name": "c", "resources": resources}]}}
        cluster("patch", "pod", "sized", "--subresource", "resize", "-p", json.dumps(patch))

    def settled(resources):
        found = status_of(cluster, "sized")
        shown = {item["type"] for item in cluster.get("pod", "sized")["status"]["conditions"]}
        return (found.get("resources") or {}).items() >= resources.items() and "PodResizeInProgress" not in shown

    resize({"requests": {"cpu": "200m"}, "limits": {"cpu": "500m"}})
    cluster.until(lambda: settled({"limits": {"cpu": "500m", "memory": "64Mi"}}))
    assert status_of(cluster, "sized")["restartCount"] == 0
    quota = cgroup(cluster, "sized", "cpu/cpu.cfs_quota_us", "cpu.max")
    assert quota[0].split()[0] == "50000"
    resize({"limits": {"memory": "96Mi"}})
    cluster.until(lambda: settled({"limits": {"cpu": "500m", "memory": "96Mi"}}))
    assert status_of(cluster, "sized")["restartCount"] == 1
    assert cgroup(cluster, "sized", "memory/memory.limit_in_bytes", "memory.max") == [str(96 << 20)]


def test_what_the_node_has_not_is_refused(cluster):
    cluster.apply(pod("greedy", container={"resources": {"requests": {"cpu": "10m"}}}))
    cluster.ready("greedy")
    patch = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "5000"}}}]}}
    refused = cluster.run("patch", "pod", "greedy", "--subresource", "resize", "-p", json.dumps(patch))
    assert "node didn't have enough allocatable resources: cpu" in refused.stderr
    assert status_of(cluster, "greedy")["allocatedResources"] == {"cpu": "10m"}


def test_containers_may_share_one_process_namespace(cluster):
    made = pod("shared", "sleep 98765", shareProcessNamespace=True)
    made["spec"]["containers"].append({"name": "eye", "image": "busybox", "command": ["sleep", "1000"]})
    apart = pod("apart", "sleep 98765")
    apart["spec"]["containers"].append({"name": "eye", "image": "busybox", "command": ["sleep", "1000"]})
    cluster.apply(made, apart)
    cluster.ready("shared", "apart")
    look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    assert "sleep 98765" in "".join(lines(cluster, "shared", look, "-c", "eye"))
    assert "sleep 98765" not in "".join(lines(cluster, "apart", look, "-c", "eye"))


def test_a_debugging_container_sees_the_processes_of_its_target(cluster):
    cluster.apply(pod("patient", "sleep 87654"))
    cluster.ready("patient")
    look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; sleep 1000"
    cluster("debug", "patient", "--image=busybox", "--target=c", "-c", "doctor", "--", "sh", "-c", look)
    cluster.until(lambda: "sleep 87654" in cluster.run("logs", "patient", "-c", "doctor").stdout)
    found = cluster.get("pod", "patient")["status"]["ephemeralContainerStatuses"][0]
    assert "running" in found["state"]


def test_containers_of_a_pod_share_memory_segments(cluster):
    made = pod("ipc", "echo here >/dev/shm/note; sleep 1000")
    made["spec"]["containers"].append({"name": "other", "image": "busybox", "command": ["sleep", "1000"]})
    cluster.apply(made)
    cluster.ready("ipc")
    assert (
        cluster.until(lambda: cluster.run("exec", "ipc", "-c", "other", "--", "cat", "/dev/shm/note").stdout)
        == "here\n"
    )
    spaces = [lines(cluster, "ipc", "readlink /proc/self/ns/ipc", "-c", name) for name in ("c", "other")]
    assert spaces[0] == spaces[1]


def test_safe_sysctls_are_set_and_others_refused(cluster):
    def with_sysctl(name, key, value):
        return pod(name, securityContext={"sysctls": [{"name": key, "value": value}]})

    cluster.apply(with_sysctl("safe", "kernel.shm_rmid_forced", "1"), with_sysctl("unsafe", "kernel.msgmax", "65536"))
    cluster.ready("safe")
    assert lines(cluster, "safe", "cat /proc/sys/kernel/shm_rmid_forced") == ["1"]
    status = cluster.until(lambda: (s := cluster.get("pod", "unsafe")["status"]).get("phase") == "Failed" and s)
    assert status["reason"] == "SysctlForbidden"


def test_the_runtimes_filter_refuses_what_is_the_kernels(cluster):
    profile = {"seccompProfile": {"type": "RuntimeDefault"}}
    program = (
        "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); print(c.unshare(0x10000000), ctypes.get_errno())"
    )
    command = ["python3", "-c", program]
    free, closed = (
        pod(
            name,
            container={"image": "python:3", "command": command, "securityContext": security},
            restartPolicy="Never",
        )
        for name, security in (("free", {}), ("closed", profile))
    )
    cluster.apply(free, closed)
    assert cluster.until(lambda: cluster.run("logs", "free").stdout).strip() == "0 0"
    assert cluster.until(lambda: cluster.run("logs", "closed").stdout).strip() == "-1 1"


def test_a_volume_over_its_limit_costs_the_pod_its_life(cluster):
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
    cluster.apply(pod("full", "head -c 3000000 /dev/zero >/v/f; sleep 1000", container=mounts, volumes=volumes))
    status = cluster.until(lambda: (s := cluster.get("pod", "full")["status"]).get("phase") == "Failed" and s)
    assert status["reason"] == "Evicted"
    assert 'EmptyDir volume "v" exceeds the limit "1Mi"' in status["message"]
    assert any(item["reason"] == "Evicted" for item in events_of(cluster, "full"))


def test_a_load_balancers_address_leads_to_the_pods(cluster):
    cluster.apply(server("behind", "hello"), service("balanced", "behind", type="LoadBalancer"), pod("caller"))
    cluster.ready("behind", "caller")

    def address():
        status = cluster.get("service", "balanced")["status"].get("loadBalancer") or {}
        return (status.get("ingress") or [{}])[0].get("ip")

    ip = cluster.until(address)
    cluster.until(lambda: _open(f"http://{ip}/") == "hello")
    assert fetch(cluster, "caller", f"http://{ip}/") == "hello"
    cluster("patch", "service", "balanced", "-p", '{"spec": {"type": "ClusterIP"}}')
    cluster.until(lambda: not address())


def _open(url):
    try:
        return urllib.request.urlopen(url, timeout=2).read().decode()
    except OSError:
        return ""


def test_endpoints_that_a_user_keeps_are_served(cluster):
    cluster.apply(server("outside", "custom"), pod("asker"))
    cluster.ready("outside", "asker")
    ip = cluster.get("pod", "outside")["status"]["podIP"]
    subset = {"addresses": [{"ip": ip}], "ports": [{"port": 8080}]}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kept"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "kept"}, "subsets": [subset]},
    )
    cluster.until(lambda: cluster.run("exec", "asker", "--", "python3", "-c", ASK, "http://kept/").stdout == "custom\n")


ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=2).read().decode())"
