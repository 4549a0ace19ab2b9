"""Kubernetes protobuf bodies to the JSON objects that they stand for; OpenAPI v2 to gnostic's protobuf."""

from atoll.cluster.apiserver.protobuf.decoder import CONTENT_TYPE, decode
from atoll.cluster.apiserver.protobuf.openapi_v2 import openapi_v2_protobuf

__all__ = ["CONTENT_TYPE", "decode", "openapi_v2_protobuf"]
