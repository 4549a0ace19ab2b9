"""Dashboards are what Grafana 11.6's own model of them takes: its SDK reads each, and nothing of ours is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from atoll.app.monitoring.dashboards import DASHBOARDS, grafana


def lost(ours: Any, theirs: Any, path: str = "$") -> Iterator[str]:
    """What is not there any more, or is another value."""
    if isinstance(ours, dict):
        for key, value in ours.items():
            if isinstance(theirs, dict) and key in theirs:
                yield from lost(value, theirs[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield path


def read(found: dict[str, Any]) -> Any:
    plugins.register_default_plugins()
    return json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(found)))


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda it: it.uid)
def test_grafanas_model_has_all_that_a_dashboard_says(dashboard: Any) -> None:
    found = grafana(dashboard)
    assert list(lost(found, read(found))) == []
    panels = found["panels"]
    places = [tuple(panel["gridPos"][side] for side in "xy") for panel in panels]
    assert len(set(places)) == len(panels) and all(panel["targets"] for panel in panels)


def test_what_grafana_does_not_know_is_found() -> None:
    found = grafana(DASHBOARDS[0])
    found["panels"][0]["gridPos"]["depth"] = 3
    found["panels"][1]["targets"][0]["expression"] = "up"
    assert list(lost(found, read(found))) == ["$.panels[0].gridPos.depth", "$.panels[1].targets[0].expression"]
