"""Records what the real kube-apiserver says in the dialogues of tests/differential/webhook_dialogues.py.

.venv/bin/python tests/real/record_webhooks.py [NAME …]
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "differential")]
from control_plane import ControlPlane, control_plane  # noqa: E402
from webhook_dialogues import DIALOGUES, NAMESPACE, hold  # noqa: E402
from webhook_server import webhook_server  # noqa: E402

TARGET = HERE.parent / "differential" / "webhook_dialogues.json"
_SETTLE_SECONDS = 0.4  # the real one reads configurations through an informer


async def record(plane: ControlPlane, names: list[str]) -> dict[str, Any]:
    async def ask(method: str, path: str, body: Any, content_type: str) -> tuple[int, Any, list[str]]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        answer = await asyncio.to_thread(plane.request, method, path, data, headers)
        kind = answer.headers.get("content-type", "")
        shown = answer.json() if kind.startswith("application/json") else answer.body.decode()
        return answer.status, shown, answer.warnings

    async def settled() -> None:
        await asyncio.sleep(_SETTLE_SECONDS)

    for obj, path in (
        ({"metadata": {"name": NAMESPACE}}, "/api/v1/namespaces"),
        ({"metadata": {"name": "default"}}, f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"),
    ):
        await ask("POST", path, obj, "application/json")
    told = {}
    async with webhook_server() as server:
        for name in names:
            told[name] = await hold(name, server, ask, settled)
    return told


def main() -> None:
    names = sys.argv[1:] or list(DIALOGUES)
    with control_plane() as plane:
        told = asyncio.run(record(plane, names))
    known = json.loads(TARGET.read_text()) if TARGET.exists() and sys.argv[1:] else {}
    TARGET.write_text(json.dumps({**known, **told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
