"""A kopf operator that gives each Boat a ConfigMap and says so in its status."""

from __future__ import annotations

import os
from typing import Any

import kopf
import yaml


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.level = 30


@kopf.on.create("kopf.example.com", "v1", "boats")
@kopf.on.update("kopf.example.com", "v1", "boats")
def sail(spec: dict[str, Any], name: str, **_: Any) -> dict[str, Any]:
    return {"crew": spec["sails"] * 2}


@kopf.on.delete("kopf.example.com", "v1", "boats")
def sink(name: str, **_: Any) -> None:
    with open(os.environ["SUNK"], "a") as file:
        file.write(yaml.safe_dump([name]))
