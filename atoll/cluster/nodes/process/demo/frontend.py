"""The hello application's frontend: asks the backend by its Service's name and shows both. Standard library only."""

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BACKEND = os.environ.get("BACKEND_URL", "http://backend")


class Handler(BaseHTTPRequestHandler):
    """GET / (a page), /api (JSON), /healthz."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, "text/plain", b"ok\n")
            return
        frontend = {
            "pod": os.environ.get("POD_NAME") or os.uname().nodename,
            "cluster": os.environ.get("CLUSTER", ""),
            "node": os.environ.get("NODE_NAME", ""),
        }
        try:
            with urllib.request.urlopen(BACKEND, timeout=3) as response:
                backend = json.load(response)
        except (OSError, ValueError) as error:
            body = json.dumps({"frontend": frontend, "error": f"{BACKEND}: {error}"}).encode() + b"\n"
            self._answer(502, "application/json", body)
            return
        if self.path.startswith("/api") or "text/html" not in self.headers.get("Accept", ""):
            body = json.dumps({"frontend": frontend, "backend": backend}).encode() + b"\n"
            self._answer(200, "application/json", body)
            return
        page = (
            f"<!doctype html><title>hello</title><h1>{backend['message']}</h1>"
            f"<p>frontend {frontend['pod']} in {frontend['cluster']}</p>"
            f"<p>backend {backend['pod']} in {backend['cluster']}</p>\n"
        )
        self._answer(200, "text/html; charset=utf-8", page.encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        sys.stdout.write(f"{self.address_string()} {format % args}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.stdout.write(f"frontend listens on port {server.server_port}, backend is {BACKEND}\n")
    sys.stdout.flush()
    server.serve_forever()
