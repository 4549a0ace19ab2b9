"""An API server spoken to without any client library, so that what is sent may be wrong."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Server:
    host: str
    port: int
    token: str
    context: ssl.SSLContext

    def connect(self, timeout: float = 20) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=timeout)

    def raw(self, *, tls: bool = True, timeout: float = 20) -> socket.socket:
        """A connection to write anything to."""
        plain = socket.create_connection((self.host, self.port), timeout=timeout)
        return self.context.wrap_socket(plain, server_hostname=self.host) if tls else plain

    def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json",
        connection: http.client.HTTPSConnection | None = None,
    ) -> tuple[int, dict[str, Any], dict[str, str]]:  # fmt: skip
        """(status, body, headers)."""
        used = connection or self.connect()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        used.request(method, path, body, headers)
        answer = used.getresponse()
        data = answer.read()
        if connection is None:
            used.close()
        try:
            found = json.loads(data)
        except ValueError:
            found = {"text": data.decode(errors="replace")}
        return answer.status, found, dict(answer.getheaders())


def server_of(kubeconfig: Path) -> Server:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    host, _, port = cluster["server"].removeprefix("https://").partition(":")
    return Server(host, int(port), user["token"], ssl.create_default_context(cadata=ca))
