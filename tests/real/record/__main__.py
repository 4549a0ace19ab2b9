"""Record scenarios against the real kube-apiserver into tests/differential/recordings.

.venv/bin/python tests/real/record [SCENARIO …]
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(TESTS / "differential")]

from control_plane import ControlPlane, control_plane  # noqa: E402
from exchange import decode_body, encode_body, resolve  # noqa: E402

RECORDINGS = TESTS / "differential" / "recordings"
PREVIEWS = (
    "--runtime-config=resource.k8s.io/v1beta1=true,resource.k8s.io/v1beta2=true",
    "--feature-gates=DRADeviceTaintRules=true",
)


def scenarios() -> list[Any]:
    """All Scenario objects of the modules beside this one."""
    found = []
    for path in sorted((HERE / "scenarios").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"scenarios_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise RuntimeError(path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found += module.SCENARIOS
    return found


def record(plane: ControlPlane, scenario: Any) -> dict[str, Any]:
    known: dict[str, Any] = {}
    steps = []
    for step in scenario.steps:
        request = step["request"]
        path = resolve(request["path"], known)
        body, headers = encode_body(request, known), resolve(request["headers"], known)
        answer = plane.request(request["method"], path, body, headers)
        wanted = step.get("settle")
        for _ in range(100 if wanted else 0):  # the real server serves a new CRD or policy a moment later
            if answer.status == 200 if wanted is True else wanted.encode() in answer.body:
                break
            time.sleep(0.1)
            answer = plane.request(request["method"], path, body, headers)
        content_type = answer.headers.get("content-type", "")
        decoded = decode_body(content_type, answer.body)
        response: dict[str, Any] = {"status": answer.status, "type": content_type, "body": decoded}
        if answer.warnings:
            response["warnings"] = answer.warnings
        steps.append({**step, "response": response})
        if "save" in step and answer.status < 300:
            known[step["save"]] = decoded
    return {"scenario": scenario.name, "steps": steps}


def main() -> None:
    wanted = set(sys.argv[1:])
    chosen = [scenario for scenario in scenarios() if not wanted or scenario.name in wanted]
    RECORDINGS.mkdir(exist_ok=True)
    total = 0
    for arguments, some in grouped(chosen):
        total += record_all(arguments, some)
    print(f"{total} requests recorded")


def grouped(chosen: list[Any]) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Scenarios by the API server's arguments."""
    pairs = [((), [it for it in chosen if not it.previews]), (PREVIEWS, [it for it in chosen if it.previews])]
    return [(arguments, some) for arguments, some in pairs if some]


def record_all(arguments: tuple[str, ...], chosen: list[Any]) -> int:
    total = 0
    with control_plane(*arguments) as plane:
        for scenario in chosen:
            try:
                recording = record(plane, scenario)
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                print(f"{scenario.name}: a reference failed: {error!r}", file=sys.stderr)
                continue
            lines = ",\n".join(
                json.dumps(step, separators=(",", ":"), ensure_ascii=False) for step in recording["steps"]
            )
            head = {"scenario": scenario.name, **({"previews": True} if scenario.previews else {})}
            text = f'{json.dumps(head, separators=(",", ":"))[:-1]},"steps":[\n{lines}\n]}}\n'
            (RECORDINGS / f"{scenario.name}.json").write_text(text)
            total += len(recording["steps"])
            codes = "".join("." if step["response"]["status"] < 300 else "x" for step in recording["steps"])
            print(f"{scenario.name:28} {len(recording['steps']):4} {codes}")
    return total


if __name__ == "__main__":
    main()
