"""The CustomResourceDefinition of KWOK's Stage: by it users say how the simulated nodes' pods and others go on.

Only what one needs to write a stage is described; what lies deeper is kept as it is, and judged when it is compiled.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def _any(description: str) -> Object:
    return {"type": "object", "description": description, "x-kubernetes-preserve-unknown-fields": True}


def _text(description: str, **more: Any) -> Object:
    return {"type": "string", "description": description, **more}


def _spec() -> Object:
    reference = {
        "apiGroup": _text("The kind's apiVersion: v1, or group/version.", default="v1"),
        "kind": _text("The kind."),
    }
    return {
        "type": "object",
        "description": "Which objects the stage is for, when it comes, and what it does to them.",
        "required": ["resourceRef"],
        "properties": {
            "resourceRef": {
                "type": "object",
                "description": "The kind of object.",
                "required": ["kind"],
                "properties": reference,
            },
            "selector": _any("matchLabels, matchAnnotations and matchExpressions: jq or CEL. All must hold."),
            "weight": {
                "type": "integer",
                "minimum": 0,
                "default": 0,
                "description": "Of several stages that fit one is drawn by weight.",
            },
            "weightFrom": _any("An expression that gives the weight."),
            "delay": _any("How long it takes: durationMilliseconds, jitterDurationMilliseconds, or from expressions."),
            "next": _any("event, finalizers, delete, patches, or statusTemplate (a Go template)."),
            "steps": {
                "type": "array",
                "description": "What is done one after the other, in place of next: event, patch, apply, delete.",
                "items": _any("One of them."),
            },
            "immediateNextStage": {
                "type": "boolean",
                "description": "The next stage follows at once, without a watch event between.",
            },
        },
    }


def stage_definition() -> Object:
    """The manifest."""
    described = "A step in the life of a simulated object."
    schema = {
        "type": "object",
        "description": described,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _spec(),
            "status": _any("What a controller says of the stage."),
        },
    }
    names = {"kind": "Stage", "listKind": "StageList", "plural": "stages", "singular": "stage"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "stages.kwok.x-k8s.io"},
        "spec": {
            "group": "kwok.x-k8s.io",
            "scope": "Cluster",
            "names": names,
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
            ],
        },
    }
