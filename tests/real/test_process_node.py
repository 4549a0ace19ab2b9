"""Our process node and network under the real API server, scheduler and controller manager: any will do."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from control_plane import available, control_plane
from test_kernel_log import Device

from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.cluster.network.controller import ClusterNetwork, NetworkConfig
from atoll.cluster.nodes.process.doctor import diagnose
from atoll.cluster.nodes.process.model import NodeConfig
from atoll.cluster.nodes.process.node import ProcessNode
from atoll.wire.ca import CertificateAuthority
from atoll.wire.tls import server_context

KUBECTL = Path(sys.executable).parent / "kubectl"
POD_CIDR, NODE_CIDR, NODE = "10.55.0.0/16", "10.55.9.0/24", "real-node"
CLOCK = SystemClock()
pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(not available(), reason="the real programs are not built (tests/real/build.py)"),
    pytest.mark.skipif(diagnose().mode != "bridge", reason="no pod networks here"),
]

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend}
spec:
  replicas: 2
  selector: {matchLabels: {app: backend}}
  template:
    metadata: {labels: {app: backend}}
    spec:
      containers:
      - name: c
        image: atoll.dev/hello-backend
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: backend}
spec: {selector: {app: backend}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, annotations: {atoll.dev/checkpoint-file: /tmp/saved}}
spec:
  containers:
  - {name: c, image: busybox, command: [sh, -c, "echo begun; touch /tmp/saved; sleep 1000"]}
"""


@asynccontextmanager
async def running_node(plane, authority, folder, device):
    """The network as admin, the node as itself under the Node authorizer."""

    def access(certified):
        return Access(
            server=plane.server, ca_pem=plane.ca_pem.encode(),
            certificate_pem=certified.certificate_pem, key_pem=certified.key_pem,
        )  # fmt: skip

    admin = HttpClient(access(plane.admin), clock=CLOCK)
    own = plane.authority.client(f"system:node:{NODE}", organizations=["system:nodes"])
    client = HttpClient(access(own), clock=CLOCK, field_manager="kubelet")
    network = ClusterNetwork(
        admin,
        NetworkConfig("real-test", "bridge", POD_CIDR, "10.96.0.0/16", folder, api_server=("127.0.0.1", plane.port)),
        clock=CLOCK,
        chance=Chance(1),
    )
    tasks = [asyncio.create_task(network.run())]
    try:
        await network.opened.wait()
        config = NodeConfig(
            "real-test", folder / "node", folder / "volumes", mode="bridge", pod_cidr=NODE_CIDR,
            cluster_dns=network.config.dns_address,
        )  # fmt: skip
        serving = authority.server(NODE, names=[NODE], addresses=["10.55.9.1"])
        tls = server_context(serving.certificate_pem, serving.key_pem, authority.certificate_pem)
        node = ProcessNode(client, NODE, config, clock=CLOCK, chance=Chance(2), tls=tls, kernel_log=device.log)
        tasks.append(asyncio.create_task(node.run()))
        await asyncio.wait_for(node.ready.wait(), 20)
        yield
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await client.close()
        await admin.close()


async def kubectl(plane, *args, stdin=None, check=True):
    env = {**os.environ, "KUBECONFIG": str(plane.folder / "kubeconfig")}
    child = await asyncio.create_subprocess_exec(
        KUBECTL, *args, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(child.communicate(stdin.encode() if stdin else None), 60)
    assert not check or child.returncode == 0, f"{args}: {err.decode()}"
    return out.decode() if check else (child.returncode, out.decode(), err.decode())


async def scenario(plane, authority, folder):
    device = Device()
    async with running_node(plane, authority, folder, device):
        await kubectl(plane, "wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=30s")
        await kubectl(plane, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
        await kubectl(plane, "apply", "-f", "-", stdin=MANIFESTS)
        await kubectl(plane, "rollout", "status", "deployment/backend", "--timeout=40s")
        await kubectl(plane, "wait", "--for=condition=Ready", "pod/caller", "--timeout=30s")
        assert await kubectl(plane, "logs", "caller") == "begun\n"
        assert await kubectl(plane, "exec", "-i", "caller", "--", "cat", stdin="piped") == "piped"
        code, _, _ = await kubectl(plane, "exec", "caller", "--", "sh", "-c", "exit 6", check=False)
        assert code == 6
        fetch = "import urllib.request as u; print(u.urlopen('http://backend', timeout=5).read().decode())"
        answer = json.loads(await kubectl(plane, "exec", "caller", "--", "python3", "-c", fetch))
        assert answer["node"] == NODE
        assert answer["pod"].startswith("backend-")
        await forwarded(plane)
        saved = "--for=jsonpath={.metadata.annotations.atoll\\.dev/last-checkpoint}"
        await kubectl(plane, "wait", saved, "pod/caller", "--timeout=20s")
        device.write("EXT4-fs (sda1): Remounting filesystem read-only")
        await kubectl(plane, "wait", "--for=condition=ReadonlyFilesystem", f"node/{NODE}", "--timeout=20s")
        found = json.loads(await kubectl(plane, "get", "node", NODE, "-o", "json"))
        assert found["metadata"]["annotations"]["atoll.dev/kernel-log"].endswith("read-only")
        told = await kubectl(plane, "get", "events", "--field-selector", f"involvedObject.name={NODE}")
        assert "FilesystemIsReadOnly" in told
        await kubectl(plane, "delete", "pod", "caller", "--grace-period=1", "--timeout=30s")


async def forwarded(plane):
    env = {**os.environ, "KUBECONFIG": str(plane.folder / "kubeconfig")}
    child = await asyncio.create_subprocess_exec(
        KUBECTL, "port-forward", "deployment/backend", ":8080", env=env, stdout=subprocess.PIPE
    )
    try:
        line = (await asyncio.wait_for(child.stdout.readline(), 20)).decode()
        port = int(line.split(" -> ")[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 20)).endswith(b"ok\n")
        writer.close()
    finally:
        child.kill()
        await child.wait()


def test_pods_run_under_the_real_control_plane(tmp_path):
    authority = CertificateAuthority.create("kubelet-ca", CLOCK)
    shown = authority.client("kube-apiserver-kubelet-client")
    (tmp_path / "client.crt").write_bytes(shown.certificate_pem)
    (tmp_path / "client.key").write_bytes(shown.key_pem)
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem)
    arguments = (
        f"--kubelet-client-certificate={tmp_path / 'client.crt'}",
        f"--kubelet-client-key={tmp_path / 'client.key'}",
        f"--kubelet-certificate-authority={tmp_path / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
    )
    with control_plane(*arguments) as plane:
        plane.write_kubeconfig()
        plane.start_controller_manager()
        plane.start_scheduler()
        asyncio.run(scenario(plane, authority, tmp_path / "state"))
