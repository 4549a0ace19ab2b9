"""How root closes a container in: its identity, its mounts, its system call filter, its control groups."""

import struct
from pathlib import Path

import pytest

from atoll.cluster.nodes.process.cgroups import (
    Limits,
    both,
    find_hierarchy,
    limits,
    oom_score_adjust,
    pod_limits,
    weight,
)
from atoll.cluster.nodes.process.isolation import CAPABILITIES, identity, launch_spec, steps
from atoll.cluster.nodes.process.podspace import forbidden_sysctl, memory_volumes
from atoll.cluster.nodes.process.sandbox import Mount, Sandbox
from atoll.cluster.nodes.process.seccomp import default_filter


def bits(mask):
    return {name for number, name in enumerate(CAPABILITIES) if mask >> number & 1}


def test_a_usual_container_is_root_with_the_runtimes_capabilities():
    found = identity(Sandbox("h", None))
    assert (found["uid"], found["gid"], found["groups"]) == (0, 0, [0])
    assert "CHOWN" in bits(found["bounding"])
    assert not bits(found["bounding"]) & {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"}
    assert found["seccomp"] == ""


def test_users_groups_and_capabilities_are_those_of_the_security_context():
    found = identity(
        Sandbox(
            "h", None, user=(1000, 3000), groups=(2000,), add_capabilities=("NET_ADMIN",), drop_capabilities=("ALL",)
        )
    )
    assert (found["uid"], found["gid"], found["groups"]) == (1000, 3000, [2000, 3000])
    assert bits(found["bounding"]) == {"NET_ADMIN"}
    assert bits(identity(Sandbox("h", None, privileged=True))["bounding"]) == set(CAPABILITIES)


def test_the_kernels_own_files_are_hidden_but_from_the_privileged():
    kinds = {step[0] for step in steps(Sandbox("h", "/image"))}
    assert {"overlay", "proc", "dev", "sys", "hide", "freeze"} <= kinds
    assert not {"hide", "freeze", "dev"} & {step[0] for step in steps(Sandbox("h", "/image", privileged=True))}


def test_outer_mounts_come_before_those_within_and_the_seal_comes_last():
    mounts = [Mount("/b", "/data/inner", inner="x"), Mount("/a", "/data", True)]
    found = steps(Sandbox("h", "/image", mounts=mounts, read_only_root=True))
    binds = [step for step in found if step[0] == "bind" and step[2].startswith("/data")]
    assert binds == [["bind", "/a", "/data", True, ""], ["bind", "/b", "/data/inner", False, "x"]]
    assert found[-1] == ["seal"]


def test_the_launcher_joins_the_containers_groups():
    spec = launch_spec(Sandbox("h", "/i", control_groups=[("cpu", "/cg/cpu")]), ["a"], {"K": "v"}, tty=False)
    assert spec["groups"] == ["/cg/cpu/cgroup.procs"]
    assert ["groups", [["cpu", "/cg/cpu"]]] in spec["steps"]


def decision(program, number, *, architecture=0xC000003E, argument=0):
    """Run the filter as the kernel would."""
    data = struct.pack("=IIQQQQQQQ", number, architecture, 0, argument, 0, 0, 0, 0, 0)
    code = [struct.unpack_from("=HBBI", program, offset) for offset in range(0, len(program), 8)]
    at, register = 0, 0
    while True:
        kind, yes, no, value = code[at]
        at += 1
        if kind == 0x20:
            register = struct.unpack_from("=I", data, value)[0]
        elif kind == 0x06:
            return value
        else:
            holds = {0x15: register == value, 0x35: register >= value, 0x45: bool(register & value)}[kind]
            at += yes if holds else no


ALLOWED, REFUSED, MISSING = 0x7FFF0000, 0x00050001, 0x00050026


@pytest.mark.parametrize(
    ("number", "what"), [(0, ALLOWED), (1, ALLOWED), (59, ALLOWED), (169, REFUSED), (165, REFUSED)]
)
def test_the_default_filter(number, what):
    assert decision(default_filter(admin=False, machine="x86_64"), number) == what


def test_new_namespaces_are_for_those_with_sys_admin():
    plain, admin = (default_filter(admin=admin, machine="x86_64") for admin in (False, True))
    assert decision(plain, 56, argument=0x10000000) == REFUSED  # clone with CLONE_NEWUSER
    assert decision(plain, 56, argument=0x11) == ALLOWED
    assert decision(plain, 435) == MISSING  # clone3
    assert decision(admin, 56, argument=0x10000000) == decision(admin, 165) == ALLOWED


def test_another_architectures_calls_are_refused():
    assert decision(default_filter(admin=False, machine="x86_64"), 0, architecture=0x40000003) == REFUSED
    assert default_filter(admin=False, machine="pdp11") == b""


def test_limits_are_what_kubelet_makes_of_resources():
    assert limits({}) == Limits(2, -1, -1)
    assert limits({"requests": {"cpu": "250m"}, "limits": {"cpu": "1", "memory": "64Mi"}}) == Limits(
        256, 100_000, 64 << 20
    )
    assert limits({"limits": {"cpu": "500m"}}).shares == 512
    assert limits({"limits": {"cpu": "1m"}}).quota == 1000


def test_a_pod_is_limited_only_where_each_container_is():
    one = {"resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "10Mi"}}}
    other = {"resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "20Mi"}}}
    assert pod_limits({}, [one, other]) == Limits(204, -1, 30 << 20)
    own = {"resources": {"limits": {"cpu": "1"}}}
    assert pod_limits(own, [one, other]).quota == 100_000


def test_between_two_sizes_there_is_room_for_both():
    assert both(Limits(2, 100, -1), Limits(5, 50, 10)) == Limits(5, 100, -1)


def test_weights_span_the_shares():
    assert (weight(2), weight(1024), weight(262_144)) == (1, 39, 10_000)


def test_who_is_killed_first():
    small = {"resources": {"requests": {"memory": "1Gi"}}}
    pod = {"spec": {"containers": [small]}, "status": {"qosClass": "Burstable"}}
    assert oom_score_adjust(pod, small, 10 << 30) == 900
    assert oom_score_adjust({**pod, "status": {"qosClass": "Guaranteed"}}, small, 10 << 30) == -997
    assert oom_score_adjust({**pod, "status": {"qosClass": "BestEffort"}}, small, 10 << 30) == 1000


def test_groups_of_version_one_hang_below_our_own(tmp_path: Path):
    for name in ("cpu", "memory"):
        (tmp_path / name / "mine").mkdir(parents=True)
        (tmp_path / name / "mine" / "cgroup.procs").write_text("")
    found = find_hierarchy(tmp_path, "2:memory:/mine\n1:cpu:/mine\n0::/\n")
    assert found is not None
    assert not found.unified
    group = found.group("c", "pod1")
    group.make()
    group.apply(Limits(512, 50_000, 1 << 20))
    folder = tmp_path / "cpu" / "mine" / "atoll-c" / "pod1"
    assert (folder / "cpu.cfs_quota_us").read_text() == "50000"
    assert find_hierarchy(tmp_path, "1:cpu:/mine\n") is None


def test_groups_of_version_two_hang_below_the_root(tmp_path: Path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids")
    found = find_hierarchy(tmp_path, "0::/user.slice\n")
    assert found is not None
    group = found.group("c", "pod1").inner("one")
    group.make()
    group.apply(Limits(1024, -1, -1))
    folder = tmp_path / "atoll-c" / "pod1" / "one"
    assert [(folder / name).read_text() for name in ("cpu.weight", "cpu.max", "memory.max")] == [
        "39",
        "max 100000",
        "max",
    ]
    assert (tmp_path / "atoll-c" / "pod1" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_only_safe_sysctls_of_ones_own_namespaces():
    def pod(name, **spec):
        return {"spec": {"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, **spec}}

    assert forbidden_sysctl(pod("net/ipv4/tcp_syncookies"), rootful=True) is None
    assert forbidden_sysctl(pod("kernel.msgmax"), rootful=True) == 'forbidden sysctl: "kernel.msgmax" not allowlisted'
    refused = forbidden_sysctl(pod("net.ipv4.tcp_syncookies", hostNetwork=True), rootful=True)
    assert refused == 'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled'
    assert forbidden_sysctl(pod("net.ipv4.tcp_syncookies"), rootful=False) is not None


def test_memory_volumes_are_sized_and_belong_to_the_group():
    volumes = [
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "n", "emptyDir": {"medium": "Memory"}},
        {"name": "d", "emptyDir": {}},
    ]
    assert memory_volumes({"spec": {"volumes": volumes}}, 5) == {"m": "mode=777,size=1048576", "n": "mode=777,size=5"}
    spec = {"volumes": volumes[:1], "securityContext": {"fsGroup": 7}}
    assert memory_volumes({"spec": spec}, 5) == {"m": "mode=2777,gid=7,size=1048576"}
