"""/metrics: the text format, and names, types, labels and buckets as the real kube-apiserver's."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_gate import CONFIG_MAPS, Server, config_map, serving

from atoll.app.api_metrics import observe_api, page
from atoll.base.errors import Unauthorized
from atoll.base.metrics import Metrics, number
from atoll.cluster.apiserver.ports import User
from atoll.runtime.controller import Controller
from atoll.runtime.queue_metrics import QueueMetrics
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.wire.messages import HttpRequest

REAL = json.loads((Path(__file__).parent / "data" / "metrics_of_real.json").read_text())


def parsed(text: str) -> dict[str, dict[str, Any]]:
    """By family: kind, label names, buckets and samples; the text must be well-formed."""
    found: dict[str, dict[str, Any]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in found
            found[name] = {"kind": kind, "labels": set(), "buckets": [], "samples": {}}
            continue
        match = re.fullmatch(r'([a-z_]+)((?:\{(?:[a-z_]+="(?:[^"\\]|\\.)*",?)+\})?) (\S+)', line)
        assert match is not None, line
        assert match[1].startswith(name)
        family = found[name]
        labels = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2]))
        bound = labels.pop("le", None)
        if bound is not None and bound not in family["buckets"]:
            family["buckets"].append(bound)
        family["labels"] |= set(labels)
        family["samples"][line.rpartition(" ")[0]] = float(match[3])
    return found


async def scraped(server: Server) -> dict[str, dict[str, Any]]:
    response = page(server.assembly.metrics)(HttpRequest("GET", "/metrics", "", {}, b""))
    assert dict(response.headers)["Content-Type"].startswith("text/plain; version=0.0.4")
    return parsed(response.body.decode())


def test_names_types_labels_and_buckets_are_those_of_the_real_server() -> None:
    async def scenario(server: Server) -> None:
        observe_api(server.assembly, server.assembly.metrics)
        controller: Controller[str] = Controller("namespace", _nothing)
        QueueMetrics(server.assembly.metrics, "namespace", controller.queue, server.assembly.clock)
        await server.ask("POST", CONFIG_MAPS, config_map("a"))
        await server.ask("GET", CONFIG_MAPS)
        response = await server.ask("GET", f"{CONFIG_MAPS}?watch=1")
        assert response.stream is not None
        await anext(response.stream)
        found = await scraped(server)
        await response.stream.aclose()  # type: ignore[attr-defined]
        missing = []
        for name, family in found.items():
            real = REAL.get(name)
            if real is None:
                missing.append(name)
                continue
            assert family["kind"] == real["kind"], name
            assert sorted(family["labels"]) == real["labels"], name
            assert family["buckets"] == real.get("buckets", []), name
        assert missing == ["kubernetes_build_info"]
        assert len(found) > 30

    serving(scenario)


async def _nothing(_: str) -> None:
    return None


def test_requests_are_counted_by_what_they_were() -> None:
    async def scenario(server: Server) -> None:
        await server.ask("POST", CONFIG_MAPS, config_map("a"))
        for _ in range(3):
            server.handler.immediate(HttpRequest("GET", f"{CONFIG_MAPS}/a", "", {}, b""))
        await server.ask("GET", f"{CONFIG_MAPS}/none")
        await server.ask("GET", "/api/v1/configmaps")
        await server.ask("GET", "/some/path/of/a/scanner")
        await server.ask("PATCH", f"{CONFIG_MAPS}/a?dryRun=All", {}, content_type="application/merge-patch+json")
        samples = (await scraped(server))["apiserver_request_total"]["samples"]
        assert samples == {
            _total("POST", "resource", "201"): 1,
            _total("GET", "resource", "200"): 3,
            _total("GET", "resource", "404"): 1,
            _total("LIST", "cluster", "200"): 1,
            _total("PATCH", "resource", "200", dry_run="All"): 1,
            'apiserver_request_total{code="404",component="",dry_run="",group="",resource="",scope="",'
            'subresource="other",verb="GET",version=""}': 1,
        }

    serving(scenario)


def test_what_clients_think_of_makes_no_series() -> None:
    async def scenario(server: Server) -> None:
        for index in range(50):
            await server.ask("GET", f"/apis/g{index}.example.com/v{index}/things{index}/x")
            await server.ask("GET", f"{CONFIG_MAPS}/a/part{index}")
            await server.ask("GET", f"/openapi/v3/x{index}")
            thing = HttpRequest("GET", f"/api/v1/namespaces/n/things{index}/x", "", {"x-user": "admin"}, b"")
            assert server.handler.immediate(thing) is None
            await server.ask(f"METHOD{index}", f"/path{index}")
        found = await scraped(server)
        assert sum(found["apiserver_request_total"]["samples"].values()) == 200
        assert len(found["apiserver_request_total"]["samples"]) < 6

    serving(scenario)


def _total(verb: str, scope: str, code: str, dry_run: str = "") -> str:
    return (
        f'apiserver_request_total{{code="{code}",component="apiserver",dry_run="{dry_run}",group="",'
        f'resource="configmaps",scope="{scope}",subresource="",verb="{verb}",version="v1"}}'
    )


def test_watches_are_open_until_they_end() -> None:
    async def scenario(server: Server) -> None:
        await server.ask("POST", CONFIG_MAPS, config_map("a"))
        response = await server.ask("GET", f"{CONFIG_MAPS}?watch=1")
        assert response.stream is not None
        await anext(response.stream)
        await server.ask("POST", CONFIG_MAPS, config_map("b"))
        await anext(response.stream)
        found = await scraped(server)
        assert list(found["apiserver_longrunning_requests"]["samples"].values()) == [1]
        assert list(found["apiserver_watch_events_total"]["samples"].values()) == [2]
        await response.stream.aclose()  # type: ignore[attr-defined]
        found = await scraped(server)
        assert list(found["apiserver_longrunning_requests"]["samples"].values()) == [0]
        assert _total("WATCH", "namespace", "200") in found["apiserver_request_total"]["samples"]

    serving(scenario)


def test_refusals_and_seats_are_counted() -> None:
    async def scenario(server: Server) -> None:
        server.slow_writes(1.0)
        tasks = [server.ask("POST", CONFIG_MAPS, config_map(f"a-{index}")) for index in range(500)]
        statuses = [response.status for response in await asyncio.gather(*tasks)]
        found = await scraped(server)
        rejected = found["apiserver_flowcontrol_rejected_requests_total"]["samples"]
        assert sum(rejected.values()) == statuses.count(429) > 0
        dispatched = found["apiserver_flowcontrol_dispatched_requests_total"]["samples"]
        key = '{flow_schema="global-default",priority_level="global-default"}'
        assert dispatched[f"apiserver_flowcontrol_dispatched_requests_total{key}"] == statuses.count(201)
        assert (
            found["apiserver_flowcontrol_current_inqueue_requests"]["samples"][
                f"apiserver_flowcontrol_current_inqueue_requests{key}"
            ]
            == 0
        )
        assert sum(found["apiserver_request_terminations_total"]["samples"].values()) == statuses.count(429)

    serving(scenario, server_limit=20)


def test_a_queue_is_measured() -> None:
    async def main() -> None:
        metrics = Metrics()
        failures = iter([True, False])

        async def reconcile(_: str) -> None:
            await asyncio.sleep(2)
            if next(failures):
                raise RuntimeError("as it happens")

        controller: Controller[str] = Controller("c", reconcile)
        QueueMetrics(metrics, "c", controller.queue, LoopClock(asyncio.get_running_loop()))
        running = asyncio.create_task(controller.run())
        controller.queue.add("key")
        await asyncio.sleep(1)
        assert 'workqueue_unfinished_work_seconds{name="c"} 1\n' in metrics.text()
        await asyncio.sleep(60)
        text = metrics.text()
        assert 'workqueue_adds_total{name="c"} 2\n' in text
        assert 'workqueue_retries_total{name="c"} 1\n' in text
        assert 'workqueue_work_duration_seconds_sum{name="c"} 4\n' in text
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtual(main())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (46, "46"), (1e6, "1e+06"), (4143027715, "4.143027715e+09"), (0.005, "0.005"), (1e-5, "1e-05"),
     (9.999999999999999e-06, "9.999999999999999e-06"), (1234567.5, "1.2345675e+06"), (-2.5, "-2.5"),
     (float("inf"), "+Inf")],
)  # fmt: skip
def test_numbers_are_written_as_go_writes_them(value: float, text: str) -> None:
    assert number(value) == text


def test_labels_are_escaped_and_a_family_is_one() -> None:
    metrics = Metrics()
    metrics.counter("things_total", "Things\nof all kinds.", ("kind",)).of('a "b"\\\n').value += 1
    assert metrics.text() == (
        "# HELP things_total Things\\nof all kinds.\n# TYPE things_total counter\n"
        'things_total{kind="a \\"b\\"\\\\\\n"} 1\n'
    )
    assert metrics.counter("things_total", "", ("kind",)) is metrics.counter("things_total", "", ("kind",))
    with pytest.raises(ValueError, match="another family"):
        metrics.gauge("things_total", "", ("kind",))
    with pytest.raises(ValueError, match="labels"):
        metrics.counter("things_total", "", ("kind",)).of()


def test_who_is_known_and_who_is_not_is_counted() -> None:
    async def scenario(server: Server) -> None:
        await server.ask("GET", CONFIG_MAPS)
        server.handler.immediate(HttpRequest("GET", f"{CONFIG_MAPS}/x", "", {}, b""))

        def identify(_: HttpRequest) -> User:
            raise Unauthorized("Unauthorized")

        server.handler.identify = identify
        assert (await server.ask("GET", CONFIG_MAPS)).status == 401
        assert (await scraped(server))["authentication_attempts"]["samples"] == {
            'authentication_attempts{result="success"}': 2,
            'authentication_attempts{result="failure"}': 1,
        }

    serving(scenario)
