"""The hello application's backend: says in JSON who it is. Standard library only; runs in a container."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """GET / and /healthz."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            body, kind = b"ok\n", "text/plain"
        else:
            answer = {
                "message": os.environ.get("MESSAGE", "hello"),
                "pod": os.environ.get("POD_NAME") or os.uname().nodename,
                "cluster": os.environ.get("CLUSTER", ""),
                "node": os.environ.get("NODE_NAME", ""),
            }
            body, kind = json.dumps(answer).encode() + b"\n", "application/json"
        self.send_response(200)
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
    sys.stdout.write(f"backend listens on port {server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
