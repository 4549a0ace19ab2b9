"""Clusters as they are stored on a real hub and as they are shown: only group and version differ."""

import copy

import orjson

from atoll.fleet.registry import shown

STORED = {
    "apiVersion": "fleet.atoll.dev/v1alpha1",
    "kind": "Cluster",
    "metadata": {
        "name": "a",
        "annotations": {"note": "fleet.atoll.dev/v1alpha1"},
        "managedFields": [{"apiVersion": "fleet.atoll.dev/v1alpha1"}, {"apiVersion": "v1"}],
    },
    "spec": {"apiVersion": "fleet.atoll.dev/v1alpha1"},
}


def test_an_object_there_and_back() -> None:
    made = shown.to_shown(copy.deepcopy(STORED))
    assert made["apiVersion"] == "cluster.karmada.io/v1alpha1"
    assert [entry["apiVersion"] for entry in made["metadata"]["managedFields"]] == ["cluster.karmada.io/v1alpha1", "v1"]
    assert made["spec"] == STORED["spec"]
    assert made["metadata"]["annotations"] == STORED["metadata"]["annotations"]
    assert shown.to_stored(made) == STORED


def test_lists_tables_and_events() -> None:
    listed = shown.to_shown({"apiVersion": "fleet.atoll.dev/v1alpha1", "kind": "ClusterList",
                             "items": [copy.deepcopy(STORED)]})  # fmt: skip
    assert listed["apiVersion"] == listed["items"][0]["apiVersion"] == "cluster.karmada.io/v1alpha1"
    table = {
        "apiVersion": "meta.k8s.io/v1",
        "kind": "Table",
        "rows": [{"cells": ["a"], "object": copy.deepcopy(STORED)}],
    }
    made = shown.to_shown(table)
    assert made["apiVersion"] == "meta.k8s.io/v1"
    assert made["rows"][0]["object"]["apiVersion"] == "cluster.karmada.io/v1alpha1"
    event = orjson.loads(shown.shown_event(orjson.dumps({"type": "ADDED", "object": STORED})))
    assert (event["type"], event["object"]["apiVersion"]) == ("ADDED", "cluster.karmada.io/v1alpha1")


def test_refusals_name_the_shown_kind() -> None:
    refused = {"kind": "Status", "message": 'clusters.fleet.atoll.dev "x" not found',
               "details": {"name": "x", "group": "fleet.atoll.dev", "kind": "clusters"}}  # fmt: skip
    made = shown.to_shown(refused)
    assert made["message"] == 'clusters.cluster.karmada.io "x" not found'
    assert made["details"]["group"] == "cluster.karmada.io"


def test_a_patch_that_is_no_object_is_left_alone() -> None:
    patch = [{"op": "add", "path": "/metadata/labels/a", "value": "b"}]
    assert shown.to_stored(copy.deepcopy(patch)) == patch


def test_paths() -> None:
    assert shown.stored_path("/apis/cluster.karmada.io/v1alpha1/clusters/a/status") == (
        "/apis/fleet.atoll.dev/v1alpha1/clusters/a/status"
    )
