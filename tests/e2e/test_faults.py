"""Bad input and faults: the right status or a clear message with the next step; nothing is lost, nothing half done."""

from __future__ import annotations

import base64
import datetime
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Shell, until

sys.path.insert(0, str(Path(__file__).parent))
from direct import Server, server_of

MAPS = "/api/v1/namespaces/default/configmaps"
MiB = 1 << 20


@pytest.fixture(scope="module")
def server(shell: Shell, home: Path) -> Server:
    """A bare API server."""
    config = home / "bare.kubeconfig"
    shell.atoll("cluster", "create", "bare", "--api-only", "--kubeconfig", str(config))
    made = server_of(config)
    made.ask("POST", "/api/v1/namespaces", b'{"metadata":{"name":"default"}}')
    return made


def config_map(name: str, **more: Any) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}).encode()


def pod(**spec: Any) -> bytes:
    containers = [{"name": "c", "image": "i", **spec}]
    return json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}}
    ).encode()


PROTOBUF = "application/vnd.kubernetes.protobuf"
PODS = "/api/v1/namespaces/default/pods"
BAD: dict[str, tuple[str, str, bytes, str, int, str, str]] = {
    "json": ("POST", MAPS, b'{"kind":', "application/json", 400, "BadRequest", ""),
    "not utf-8": ("POST", MAPS, b'{"kind":"\xff"}', "application/json", 400, "BadRequest", ""),
    "deep": ("POST", MAPS, b"[" * 100_000, "application/json", 400, "BadRequest", ""),
    "yaml": ("POST", MAPS, b"a: [", "application/yaml", 400, "BadRequest", ""),
    "protobuf": ("POST", MAPS, b"k8s\0\xff\xff\xff", PROTOBUF, 400, "BadRequest", ""),
    "empty": ("POST", MAPS, b"", "application/json", 400, "BadRequest", ""),
    "kind": ("POST", MAPS, b'{"apiVersion":"v1","kind":"Boat"}', "application/json", 400, "BadRequest", "Boat"),
    "other kind": ("POST", MAPS, pod(), "application/json", 400, "BadRequest", "Pod"),
    "no such path": ("GET", "/api/v1/boats", b"", "application/json", 404, "NotFound", ""),
    "field": ("POST", MAPS + "?fieldValidation=Strict", config_map("f", spek=1), "application/json", 400, "BadRequest",
              'unknown field "spek"'),
    "type": ("POST", PODS, pod(command="ls"), "application/json", 400, "BadRequest", ""),
    "long name": ("POST", MAPS, config_map("x" * 300), "application/json", 422, "Invalid", "no more than 253"),
    "content type": ("POST", MAPS, b"hi", "text/plain", 415, "UnsupportedMediaType", ""),
    "patch type": ("PATCH", f"{MAPS}/c", b"{}", "application/json", 415, "UnsupportedMediaType", ""),
    "2 MB of data": ("POST", MAPS, config_map("big", data={"a": "x" * 2 * MiB}), "application/json", 422, "Invalid",
                     "may not be more than 1048576 bytes"),
    "3 MB": ("POST", MAPS, config_map("big", data={"a": "x" * 3 * MiB}), "application/json", 413,
             "RequestEntityTooLarge", "limit is 3145728"),
    "method": ("PUT", MAPS, b"{}", "application/json", 405, "MethodNotAllowed", ""),
    "selector": ("GET", MAPS + "?labelSelector=%3D%3D", b"", "application/json", 400, "BadRequest", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_bad_requests_get_the_right_status(server: Server, case: str) -> None:
    method, path, body, content_type, code, reason, message = BAD[case]
    status, answer, _ = server.ask(method, path, body, content_type)
    assert (status, answer.get("kind"), answer.get("reason")) == (code, "Status", reason), answer
    assert message in answer["message"], answer["message"]
    assert server.ask("GET", "/readyz")[0] == 200


def test_unknown_fields_warn(server: Server) -> None:
    status, made, headers = server.ask("POST", MAPS + "?fieldValidation=Warn", config_map("warned", spek=1))
    assert status == 201 and "spek" not in made
    assert "unknown field" in headers["Warning"] and "spek" in headers["Warning"]


def test_truncated_bodies_and_vanishing_clients(server: Server) -> None:
    head = (
        f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nContent-Type: application/json\r\n"
    )
    for tail in ("Content-Length: 1000\r\n\r\n{", 'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a"', "Content-Len", ""):
        for _ in range(10):
            with server.raw() as connection:
                connection.sendall((head + tail).encode())
    with server.raw(tls=False) as connection:
        connection.sendall(b"\x16\x03\x01")
    with server.raw() as connection:
        connection.sendall(b"\0\1\2\3 nonsense\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert server.ask("POST", MAPS, config_map("after-nonsense"))[0] == 201


def test_a_watcher_that_does_not_read_slows_nobody(server: Server) -> None:
    with server.raw() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode())
        connection = server.connect()
        before = _memory(server)
        for index in range(200):
            body = config_map(f"fat-{index}", data={"a": "x" * 100_000})
            assert server.ask("POST", MAPS, body, connection=connection)[0] == 201
        for index in range(200):
            assert server.ask("DELETE", f"{MAPS}/fat-{index}", connection=connection)[0] == 200
        assert _memory(server) - before < 200 * MiB


def _memory(server: Server) -> int:
    """Resident bytes of the process that listens there."""
    lines = subprocess.run(["ss", "-Hltnp", f"sport = :{server.port}"], capture_output=True, text=True).stdout
    if "pid=" not in lines:
        return 0
    pid = lines.split("pid=")[1].split(",")[0]
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_idle_connections(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_000
    if hard != resource.RLIM_INFINITY and hard < wanted + 500:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + 500, hard))
    before = _memory(server)
    idle: list[socket.socket] = []
    try:
        for index in range(wanted):
            idle.append(server.raw(tls=index % 50 == 0))
            if index % 1000 == 999:
                assert server.ask("GET", "/readyz")[0] == 200
        assert server.ask("POST", MAPS, config_map("among-many"))[0] == 201
        assert _memory(server) - before < 500 * MiB
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.ask("GET", f"{MAPS}/among-many")[0] == 200


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(home: Path, shell: Shell) -> None:
    disk = home / "small"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    tight = Shell({**shell.env, "XDG_STATE_HOME": str(disk)})
    config = home / "tight.kubeconfig"
    try:
        tight.atoll("cluster", "create", "tight", "--api-only", "--kubeconfig", str(config))
        server = server_of(config)
        server.ask("POST", "/api/v1/namespaces", b'{"metadata":{"name":"default"}}')
        kept = _fill(server, disk)
        assert server.ask("GET", "/readyz")[0] in (200, 500)
        names = {item["metadata"]["name"] for item in server.ask("GET", MAPS)[1]["items"]}
        assert names == kept, "what was refused is not there, what was acknowledged is"
        (disk / "filler").unlink()
        assert until(lambda: server.ask("POST", MAPS, config_map("room"))[0] == 201, "room again", 10)
        os.kill(_pid(tight, "tight"), 9)
        after = until(lambda: _names(server), "the cluster again", 20)
        assert after == kept | {"room"}
    finally:
        tight.atoll("down", "--all", check=False)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(server: Server, disk: Path) -> set[str]:
    """Write until the disk takes no more; what was acknowledged. The refusal is a Status that says why."""
    kept: set[str] = set()
    for index in range(20):
        assert server.ask("POST", MAPS, config_map(f"c-{index}"))[0] == 201
        kept.add(f"c-{index}")
    filler = os.open(disk / "filler", os.O_CREAT | os.O_WRONLY)
    try:
        while os.write(filler, b"\0" * 4096):
            pass
    except OSError:
        os.close(filler)
    for index in range(2000):
        status, answer, _ = server.ask("POST", MAPS, config_map(f"d-{index}", data={"a": "x" * 20_000}))
        if status != 201:
            assert status in (500, 503, 507) and answer["kind"] == "Status", answer
            assert "disk" in answer["message"] or "durable" in answer["message"], answer
            return kept
        kept.add(f"d-{index}")
    raise AssertionError("the disk never was full")


def _pid(shell: Shell, cluster: str) -> int:
    found = json.loads(shell.atoll("status", "--fleet", f"cluster-{cluster}", "-o", "json").stdout)
    return int(found["clusters"][0]["pid"])


def _names(server: Server) -> set[str]:
    try:
        return {item["metadata"]["name"] for item in server.ask("GET", MAPS)[1]["items"]}
    except (OSError, KeyError):
        return set()


class Broken(BaseHTTPRequestHandler):
    """An API server that has only one answer."""

    def do_GET(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"oops")

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hub(shell: Shell, home: Path) -> Shell:
    """A fleet with one member, `fine`."""
    file = home / "fleet.yaml"
    file.write_text("apiVersion: fleet.atoll.dev/v1alpha1\nkind: Fleet\nmetadata: {name: faulty}\n"
                    "spec: {clusters: [{name: fine, nodes: {simulated: 1}}]}\n")  # fmt: skip
    shell.atoll("up", str(file))
    return Shell(shell.env, "atoll-hub")


def kubeconfig(path: Path, server: str, **cluster: Any) -> Path:
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "x", "user": {"token": "wrong"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return path


def join(hub: Shell, config: Path) -> str:
    done = hub.atoll("join", "faulty", "--kubeconfig", str(config), check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "faulty" not in hub.kubectl("get", "clusters", "-o", "name").stdout, "nothing half done"
    return done.stderr


def test_wrong_kubeconfigs_are_told(hub: Shell, server: Server, home: Path, tmp_path: Path) -> None:
    url = f"https://127.0.0.1:{server.port}"
    right = yaml.safe_load((home / "bare.kubeconfig").read_text())["clusters"][0]["cluster"]
    token = kubeconfig(tmp_path / "token", url, **{key: value for key, value in right.items() if key != "server"})
    assert "Unauthorized" in join(hub, token)
    assert "certificate" in join(hub, kubeconfig(tmp_path / "ca", url))
    assert "can't connect" in join(hub, kubeconfig(tmp_path / "nobody", "https://127.0.0.1:1"))
    (tmp_path / "text").write_text("hello")
    assert "kubeconfig" in join(hub, tmp_path / "text")
    (tmp_path / "yaml").write_text("a: [")
    assert "kubeconfig" in join(hub, tmp_path / "yaml")


def test_an_expired_certificate_is_told(hub: Shell, tmp_path: Path) -> None:
    certificate, key = expired_certificate()
    (tmp_path / "tls").write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls")
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as expired:
        expired.socket = context.wrap_socket(expired.socket, server_side=True)
        threading.Thread(target=expired.serve_forever, daemon=True).start()
        ca = base64.b64encode(certificate).decode()
        config = kubeconfig(
            tmp_path / "expired", f"https://127.0.0.1:{expired.server_port}", **{"certificate-authority-data": ca}
        )
        assert "certificate has expired" in join(hub, config)
        expired.shutdown()


def expired_certificate() -> tuple[bytes, bytes]:
    """A server's own, for 127.0.0.1, that ended a day ago: (certificate, key)."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "expired")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def test_a_member_that_answers_500_or_nothing(hub: Shell, tmp_path: Path) -> None:
    """Joining says so; as members they are not ready, with the reason, and the others go on."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as broken, socket.socket() as silent:
        threading.Thread(target=broken.serve_forever, daemon=True).start()
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ports = {"broken": broken.server_port, "silent": silent.getsockname()[1]}
        assert "500" in join(hub, kubeconfig(tmp_path / "500", f"http://127.0.0.1:{ports['broken']}"))
        members = [
            {"apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name},
             "spec": {"syncMode": "Push", "apiEndpoint": f"http://127.0.0.1:{port}"}}
            for name, port in ports.items()
        ]  # fmt: skip
        hub.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": members}))
        for name in ports:
            until(lambda name=name: _ready(hub, name)["status"] == "False", f"{name} not ready", 20)
        assert "500" in _ready(hub, "broken")["message"]
        assert _ready(hub, "fine")["status"] == "True"
        broken.shutdown()
    for name in ports:
        assert "left" in hub.atoll("unjoin", name, "--force").stdout


def _ready(hub: Shell, name: str) -> Any:
    found = hub.get("cluster", name).get("status", {}).get("conditions") or []
    return next((item for item in found if item["type"] == "Ready"), {"status": "Unknown"})
