"""The history checker on the real kube-apiserver and etcd, either killed: what proves the checker sound.

    python tests/real/kills.py --kills 50

etcd keeps its whole history here, and is asked for it at the end: the witness. kube-apiserver forgets what it had
cached when it falls, so that a resumed watch may be told 410 (`expired_ok`).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import ControlPlane, control_plane

from atoll.base.chance import Chance
from atoll.client.kubeconfig import Access
from atoll.kinds.builtin import CONFIGMAPS, LEASES
from atoll.testing.robustness.history import seen
from atoll.testing.robustness.kills import Round, parser, play_round, run_rounds
from atoll.testing.robustness.truth import NAMESPACES, Change

_PREFIXES = {f"/registry/configmaps/{n}/": CONFIGMAPS for n in NAMESPACES}
_PREFIXES |= {f"/registry/leases/{n}/": LEASES for n in NAMESPACES}


class RealServer:
    """kube-apiserver, and now and then etcd under it."""

    def __init__(self, plane: ControlPlane, chance: Chance) -> None:
        self._plane = plane
        self._chance = chance
        self._dead: list[str] = []
        self.access = Access(
            plane.server,
            plane.ca_pem.encode(),
            certificate_pem=plane.admin.certificate_pem,
            key_pem=plane.admin.key_pem,
        )

    async def start(self) -> None:
        for name in self._dead:
            old = self._plane.processes[name]
            self._plane.processes[name] = subprocess.Popen(
                old.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self._dead = []
        for _ in range(2400):
            if await asyncio.to_thread(self._ready):
                return
            await asyncio.sleep(0.05)
        raise RuntimeError("kube-apiserver did not become ready again")

    def _ready(self) -> bool:
        try:
            return self._plane.request("GET", "/readyz", timeout=5).status == 200
        except OSError:
            return False

    async def kill(self) -> None:
        both = self._chance.random() < 0.4
        for name in ("kube-apiserver", "etcd") if both else ("kube-apiserver",):
            process = self._plane.processes[name]
            process.kill()
            await asyncio.to_thread(process.wait)
            self._dead.append(name)

    def pause(self) -> None:
        os.kill(self._plane.processes["kube-apiserver"].pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._plane.processes["kube-apiserver"].pid, signal.SIGCONT)

    def fault(self, **message: Any) -> None:
        raise NotImplementedError("its disk is not ours to break")

    def changes(self) -> list[Change]:
        """etcd's history, from the killed pair: etcd is started once more for it."""
        if "etcd" in self._dead:
            self._dead.remove("etcd")
            old = self._plane.processes["etcd"]
            self._plane.processes["etcd"] = subprocess.Popen(
                old.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        address = next(a for a in self._plane.processes["etcd"].args if a.startswith("--advertise-client-urls="))
        return [change for prefix in _PREFIXES for change in _history(address.partition("=")[2], prefix)]


def _history(address: str, prefix: str) -> list[Change]:
    """Every change below a prefix since the beginning, by etcd's watch."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)

    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    watch = {
        "create_request": {
            "key": encoded(prefix), "range_end": encoded(end), "start_revision": 1, "prev_kv": True,
            "progress_notify": True,
        }
    }  # fmt: skip
    newest = int(_ask(address, "/v3/kv/range", {"key": encoded(prefix)})["header"]["revision"])
    last = _ask(address, "/v3/kv/range", {"key": encoded(prefix), "range_end": encoded(end), "sort_target": "MOD",
                                         "sort_order": "DESCEND", "limit": 1}).get("kvs") or []  # fmt: skip
    until = int(last[0]["mod_revision"]) if last else newest
    changes: list[Change] = []
    request = urllib.request.Request(f"{address}/v3/watch", json.dumps(watch).encode())
    with urllib.request.urlopen(request, timeout=30) as lines:
        for line in lines:
            for event in json.loads(line)["result"].get("events") or ():
                changes.append(_change(event, prefix))
            if changes and changes[-1].object.version >= until:  # the settled end is each prefix's newest
                return changes
    return changes


def _ask(address: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(address + path, json.dumps(body).encode())
    for attempt in range(100):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            if attempt == 99:
                raise
            subprocess.run(["sleep", "0.1"], check=False)
    raise AssertionError


def _change(event: dict[str, Any], prefix: str) -> Change:
    deleted = event.get("type") == "DELETE"
    stored = event["prev_kv"] if deleted else event["kv"]
    obj = json.loads(base64.b64decode(stored["value"]))
    version = event["kv"]["mod_revision"]
    obj["metadata"]["resourceVersion"] = version
    created = event["kv"].get("create_revision") == version
    kind = "DELETED" if deleted else "ADDED" if created else "MODIFIED"
    return Change(kind, seen(_PREFIXES[prefix].group_resource, obj), "etcd")


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 if anything was found."""
    options = parser("python tests/real/kills.py", __doc__).parse_args(arguments)

    def play(seed: int, kills: int) -> Round:
        with control_plane("--storage-media-type=application/json", durable=True) as plane:
            for name in NAMESPACES:
                body = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).encode()
                made = plane.request("POST", "/api/v1/namespaces", body, {"Content-Type": "application/json"})
                assert made.status == 201, made.body
            server = RealServer(plane, Chance(seed, "real"))
            return asyncio.run(play_round(server, seed, kills, faults=False, expired_ok=True))

    return run_rounds(options, play, "`tests/real/kills.py`", "real-kills")


if __name__ == "__main__":
    sys.exit(main())
