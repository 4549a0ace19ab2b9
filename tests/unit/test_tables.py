"""kubectl's tables against rows of a real kube-apiserver (goldens/tables.json), and custom columns."""

import json
from pathlib import Path

import pytest

from atoll.cluster.apiserver.tables.cells import duration
from atoll.cluster.apiserver.tables.custom import custom_printer
from atoll.cluster.apiserver.tables.jsonpath import PathError, find, parse
from atoll.cluster.apiserver.tables.table import printer_for, table

ROWS = json.loads((Path(__file__).parent / "goldens" / "tables.json").read_text())


def printer_of(row):
    return custom_printer(row["printerColumns"]) if "printerColumns" in row else printer_for(row["resource"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['resource']}-{row['object']['metadata']['name']}")
def test_row(row):
    printer = printer_of(row)
    # the server looked at its clock within a second of ours
    choices = [printer.cells(row["object"], row["now"] + shift) for shift in (0, -1, 1)]
    assert row["cells"] in choices
    if printer.conditions is not None:
        assert printer.conditions(row["object"]) == row.get("conditions", [])
    if "columns" in row:
        shown = [[item["name"], item["type"], item["format"], item["priority"]] for item in printer.columns]
        assert shown == row["columns"]


def test_enough_kinds_were_recorded():
    assert len({row["resource"] for row in ROWS}) >= 40


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s"), (600, "10m"),
     (10799, "179m"), (10800, "3h"), (10860, "3h1m"), (28800, "8h"), (172799, "47h"), (172800, "2d"), (176400, "2d1h"),
     (691200, "8d"), (63072000, "2y"), (63158400, "2y1d"), (252288000, "8y")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_table_document():
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}}
    made = table(printer_for("configmaps"), [obj], now=0, metadata={"resourceVersion": "7"})
    assert made["rows"] == [
        {
            "cells": ["a", 1, "<unknown>"],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}},
        }
    ]
    assert [item["name"] for item in made["columnDefinitions"]] == ["Name", "Data", "Age"]
    bare = table(printer_for("configmaps"), [obj], now=0, include="None", headers=False)
    assert bare["columnDefinitions"] is None
    assert bare["rows"][0]["object"] is None
    assert table(printer_for("configmaps"), [obj], now=0, include="Object")["rows"][0]["object"] is obj


OBJECT = {
    "spec": {"a.b": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "map": {"k": True}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec['a.b']", [1]),
        (".spec.a\\.b", [1]),
        (".spec.list[1].n", ["y"]),
        (".spec.list[-1].n", ["y"]),
        (".spec.list[*].v", [1, 2]),
        (".spec.list[0:1].v", [1]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Other')].status", ["False"]),
        (".spec.list[?(@.v>1)].n", ["y"]),
        ("{.spec.map.k}", [True]),
        (".spec.none.deeper", []),
        ("..status", [OBJECT["status"], "True", "False"]),
    ],
)
def test_json_paths(path, found):
    assert find(path, OBJECT) == found


def test_bad_json_path():
    with pytest.raises(PathError):
        parse(".spec[?(")
