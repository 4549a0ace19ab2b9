"""OpenAPI v2 as gnostic's protobuf, read back by the field numbers of its .proto."""

from __future__ import annotations

import orjson

from atoll.cluster.apiserver.protobuf import openapi_v2_protobuf
from atoll.cluster.apiserver.protobuf.decoder import _walk

SPEC = {
    "swagger": "2.0",
    "info": {"title": "Kubernetes", "version": "v1.36.3"},
    "paths": {
        "/api/v1/pods": {
            "get": {
                "operationId": "listPod",
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/PodList"}}},
                "x-kubernetes-action": "list",
            },
            "parameters": [
                {"name": "pretty", "in": "query", "type": "string", "uniqueItems": True},
                {"$ref": "#/parameters/limit"},
                {"name": "body", "in": "body", "required": True, "schema": {"type": "object"}},
            ],
        }
    },
    "definitions": {
        "Pod": {
            "type": "object",
            "required": ["spec"],
            "properties": {
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "list": {"type": "array", "items": {"type": "integer", "format": "int32"}, "default": [1]},
            },
            "x-kubernetes-group-version-kind": [{"group": "", "kind": "Pod", "version": "v1"}],
        }
    },
    "security": [{"BearerToken": []}],
    "securityDefinitions": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization"}},
}


def at(data: bytes, *numbers: int) -> list[bytes]:
    """The values found by following field numbers."""
    found = [data]
    for number in numbers:
        found = [value for item in found for seen, _, value in _walk(item, 0, len(item)) if seen == number]
    return found


def test_a_document() -> None:
    document = openapi_v2_protobuf(SPEC)
    assert at(document, 1) == [b"2.0"] and at(document, 2, 1) == [b"Kubernetes"]
    path_item = at(document, 8, 2)[0]
    assert at(path_item, 1) == [b"/api/v1/pods"]
    operation = at(path_item, 2, 2)[0]
    assert at(operation, 5) == [b"listPod"]
    assert at(operation, 9, 1, 1) == [b"200"]
    assert at(operation, 9, 1, 2, 1, 2, 1, 1) == [b"#/definitions/PodList"]
    assert at(operation, 13, 1) == [b"x-kubernetes-action"] and at(operation, 13, 2, 2) == [b'"list"\n']
    parameters = at(path_item, 2, 9)
    assert at(parameters[0], 1, 2, 3, 4) == [b"pretty"] and at(parameters[0], 1, 2, 3, 20) == [1]
    assert at(parameters[1], 2, 1) == [b"#/parameters/limit"]
    assert at(parameters[2], 1, 1, 2) == [b"body"] and at(parameters[2], 1, 1, 5, 22, 1) == [b"object"]
    assert at(document, 12, 1, 1) == [b"BearerToken"]
    assert at(document, 13, 1, 2, 2, 1) == [b"apiKey"]


def test_schemas() -> None:
    schema = at(openapi_v2_protobuf(SPEC), 9, 1, 2)[0]
    assert at(schema, 22, 1) == [b"object"] and at(schema, 19) == [b"spec"]
    labels, listed = at(schema, 25, 1, 2)
    assert at(labels, 21, 1, 22, 1) == [b"string"]
    assert at(listed, 23, 1, 2) == [b"int32"] and at(listed, 5, 2) == [b"[1]\n"]
    extension = at(schema, 31)[0]
    assert at(extension, 1) == [b"x-kubernetes-group-version-kind"]
    assert orjson.loads(at(extension, 2, 2)[0]) == [{"group": "", "kind": "Pod", "version": "v1"}]


def test_schema_of_any_type() -> None:
    document = openapi_v2_protobuf(
        {"definitions": {"A": {"additionalProperties": True, "minimum": 0.5, "maxLength": 3}}}
    )
    schema = at(document, 9, 1, 2)[0]
    assert at(schema, 21, 2) == [1] and at(schema, 11) == [3] and len(at(schema, 9)[0]) == 8
