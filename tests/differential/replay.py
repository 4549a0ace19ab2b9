"""Plays recorded scenarios against our API in process, in virtual time, and says what differs."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from exchange import decode_body, differences, encode_body, normalise, normalise_text, resolve  # noqa: E402

from atoll.app.api_health import check_informers  # noqa: E402
from atoll.app.assembly import ApiOptions, assemble, bootstrap  # noqa: E402
from atoll.app.flow_control import flow_control  # noqa: E402
from atoll.app.serving import handler_of  # noqa: E402
from atoll.base.chance import Chance  # noqa: E402
from atoll.cluster.apiserver.aggregation.autoregister import Autoregister  # noqa: E402
from atoll.cluster.apiserver.gate import Gate  # noqa: E402
from atoll.cluster.apiserver.ports import User  # noqa: E402
from atoll.cluster.apiserver.streaming import Streamer  # noqa: E402
from atoll.cluster.store.memory import MemoryStore  # noqa: E402
from atoll.runtime.informer import Informers  # noqa: E402
from atoll.runtime.virtual import LoopClock, run_virtual  # noqa: E402
from atoll.wire.messages import Handler, HttpRequest  # noqa: E402

RECORDINGS = HERE / "recordings"
KNOWN = HERE / "known_differences.json"
_SETTLE_SECONDS = 1.0  # of virtual time: what the server does by itself is done
CREDENTIAL = {"authentication.kubernetes.io/credential-id": ("X509SHA256=" + "0" * 64,)}
ADMIN = User("system:admin", ("system:masters", "system:authenticated"), extra=CREDENTIAL)


def recordings() -> list[str]:
    return sorted(path.stem for path in RECORDINGS.glob("*.json"))


def known_differences() -> dict[str, str]:
    """{step id: why it is not equal yet}."""
    found: dict[str, str] = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    return found


def replay(name: str) -> dict[str, list[str]]:
    """{step id: differences} of all steps of a recording."""
    recording = json.loads((RECORDINGS / f"{name}.json").read_text())
    return run_virtual(_replay(recording))


async def _replay(recording: dict[str, Any]) -> dict[str, list[str]]:
    clock = LoopClock(asyncio.get_running_loop(), 1_800_000_000.0)
    store = MemoryStore(clock)
    previews = recording.get("previews", False)
    options = ApiOptions(static_tokens={"admin": ADMIN}, signing_key=SIGNING_KEY, device_previews=previews)
    assembly = assemble(store, clock, Chance(1), options)
    await bootstrap(assembly)
    handler = handler_of(assembly, Streamer(assembly.api, ssl.create_default_context()))
    check_informers(assembly.health, Informers(assembly.client()))
    handler.gate = Gate(flow_control(assembly).filter, clock, assembly.metrics, assembly.api.registry)
    registering = asyncio.create_task(Autoregister(assembly.api).run())
    known: dict[str, Any] = {}
    found: dict[str, list[str]] = {}
    for step in recording["steps"]:
        if "settle" in step:
            await asyncio.sleep(_SETTLE_SECONDS)
        try:
            found[step["id"]] = await _play(handler, step, known)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            found[step["id"]] = [f"! could not be played: {error!r}"]
    registering.cancel()
    await store.close()
    return found


async def _play(handler: Handler, step: dict[str, Any], known: dict[str, Any]) -> list[str]:
    request = step["request"]
    path, _, query = resolve(request["path"], known).partition("?")
    headers = {key.lower(): value for key, value in resolve(request["headers"], known).items()}
    headers["authorization"] = "Bearer admin"
    body = encode_body(request, known) or b""
    response = await handler(HttpRequest(request["method"], unquote(path), query, headers, body, target=path))
    data = response.body
    if response.stream is not None:
        data = b"".join([chunk async for chunk in response.stream])
    content_type = dict(response.headers).get("Content-Type", "")
    decoded = decode_body(content_type, data)
    if "save" in step and response.status < 300:
        known[step["save"]] = decoded
    expected = step["response"]
    warnings = [value for key, value in response.headers if key.lower() == "warning"]
    warnings = [
        value for value in warnings if not value.endswith('by this server"')
    ]  # what we say that we don't act upon
    return list(_compare(expected, response.status, content_type, decoded, warnings))


def _compare(expected: dict[str, Any], status: int, content_type: str, body: Any, warnings: list[str]) -> Iterator[str]:
    if expected["status"] != status:
        yield f"! status: {expected['status']} → {status}"
    if expected["type"].partition(";")[0] != content_type.partition(";")[0]:
        yield f"! content type: {expected['type']} → {content_type}"
    if [normalise_text(text) for text in expected.get("warnings", [])] != [normalise_text(text) for text in warnings]:
        yield f"! warnings: {expected.get('warnings', [])} → {warnings}"
    yield from differences(normalise(expected["body"]), normalise(body))


def _signing_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


SIGNING_KEY = _signing_key()


def main() -> None:
    """Print what differs: replay.py [SCENARIO | SCENARIO/STEP] …; -q: only how many."""
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    quiet, total, bad = "-q" in sys.argv, 0, 0
    for name in recordings():
        if arguments and not any(argument.partition("/")[0] == name for argument in arguments):
            continue
        found = replay(name)
        wrong = {step: lines for step, lines in found.items() if lines}
        total, bad = total + len(found), bad + len(wrong)
        print(f"== {name}: {len(found) - len(wrong)} of {len(found)} equal")
        for step, lines in wrong.items():
            if quiet or ("/" in "".join(arguments) and step not in arguments):
                continue
            print(f"  {step}")
            for line in lines[:12]:
                print(f"      {line[:600]}")
    print(f"{total - bad} of {total} equal")


if __name__ == "__main__":
    main()
