"""Discovery and OpenAPI documents, built-in and custom."""

import json

import pytest

from atoll.cluster.apiserver.discovery import (
    AGGREGATED,
    Discovery,
    custom_groups,
    custom_resource,
    storage_version_hash,
    version_order,
)
from atoll.cluster.apiserver.openapi import CustomSchema, OpenApi
from atoll.kinds.catalog import catalog, resource, storage_version
from atoll.kinds.resource import Resource

SCHEMA = {
    "type": "object",
    "description": "A widget is a thing.",
    "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}}},
}


def widget(version, **more):
    return custom_resource(
        Resource("example.com", version, "widgets", "Widget"), singular="widget", storage_version="v1", **more
    )


def served():
    discovery = Discovery(server_address="10.0.0.1:6443")
    openapi = OpenApi(discovery)
    items = [widget("v1beta1"), widget("v1", status=True, scale=True, short_names=["wd"])]
    discovery.set_custom(custom_groups(items))
    openapi.set_custom(CustomSchema(item, SCHEMA) for item in items)
    return discovery, openapi


def body(document):
    assert document is not None
    return json.loads(document.body)


def test_api_versions_and_groups():
    discovery, _ = served()
    assert body(discovery.get("/api"))["serverAddressByClientCIDRs"][0]["serverAddress"] == "10.0.0.1:6443"
    groups = body(discovery.get("/apis"))["groups"]
    assert groups[0]["name"] == "apiregistration.k8s.io"
    assert groups[-1] == {
        "name": "example.com",
        "versions": [
            {"groupVersion": "example.com/v1", "version": "v1"},
            {"groupVersion": "example.com/v1beta1", "version": "v1beta1"},
        ],
        "preferredVersion": {"groupVersion": "example.com/v1", "version": "v1"},
    }
    autoscaling = next(group for group in groups if group["name"] == "autoscaling")
    assert autoscaling["preferredVersion"]["version"] == "v2"
    assert discovery.get("/apis/nope") is None
    assert discovery.get("/apis/apps/v2") is None


def test_resources_of_a_group_version():
    discovery, _ = served()
    listed = body(discovery.get("/apis/example.com/v1"))
    assert [item["name"] for item in listed["resources"]] == ["widgets", "widgets/status", "widgets/scale"]
    assert listed["resources"][0]["storageVersionHash"] == "gIwvi5rymmg="  # as a real server gives it
    assert listed["resources"][2]["group"] == "autoscaling"
    apps = body(discovery.get("/apis/apps/v1"))
    deployments = next(item for item in apps["resources"] if item["name"] == "deployments")
    assert deployments["storageVersionHash"] == storage_version_hash("apps", "v1", "Deployment")
    assert deployments["shortNames"] == ["deploy"]


def test_aggregated_discovery_by_accept():
    discovery, _ = served()
    document = discovery.get("/apis", f"{AGGREGATED},application/json")
    assert document is not None
    assert document.content_type == AGGREGATED
    assert document.etag
    custom = body(document)["items"][-1]
    assert custom["versions"][0]["resources"][0]["responseKind"]["group"] == "example.com"
    assert custom["versions"][0]["freshness"] == "Current"
    plain = discovery.get("/apis", "application/json")
    assert plain is not None
    assert plain.content_type == "application/json"
    old = "application/json;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery.k8s.io,application/json"
    assert body(discovery.get("/apis", old))["kind"] == "APIGroupList"


def test_changes_show_at_once():
    discovery, openapi = served()
    before = discovery.get("/apis")
    etag = discovery.get("/apis", AGGREGATED).etag
    discovery.set_custom([])
    openapi.set_custom([])
    assert discovery.get("/apis") != before
    assert discovery.get("/apis", AGGREGATED).etag != etag
    assert discovery.get("/apis/example.com/v1") is None
    assert openapi.v3("apis/example.com/v1") is None


def test_version_priority():
    versions = ["v1beta1", "foo10", "v2", "v10", "v1alpha2", "v3beta1", "v1", "foo1", "v11alpha2"]
    assert sorted(versions, key=version_order) == [
        "v10", "v2", "v1", "v3beta1", "v1beta1", "v11alpha2", "v1alpha2", "foo1", "foo10",
    ]  # fmt: skip


def test_version_document():
    discovery, _ = served()
    version = body(discovery.get("/version"))
    assert version["gitVersion"].startswith("v1.36.")
    assert (version["major"], version["minor"]) == ("1", "36")


def dangling(document, prefix):
    """References to definitions that are not there."""
    known = document["components"]["schemas"] if "components" in document else document["definitions"]
    found = set()

    def walk(value):
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str):
                assert reference.startswith(prefix)
                found.add(reference.removeprefix(prefix))
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)
    return found - set(known)


def test_every_openapi_document_is_whole():
    _, openapi = served()
    index = body(openapi.v3_index())["paths"]
    assert "api/v1" in index
    assert "apis/example.com/v1" in index
    for path, entry in index.items():
        document = openapi.v3(path)
        assert dangling(body(document), "#/components/schemas/") == set()
        assert document.etag.strip('"') in entry["serverRelativeURL"]
    assert dangling(body(openapi.v2()), "#/definitions/") == set()


def test_what_kubectl_looks_up():
    _, openapi = served()
    apps = body(openapi.v3("apis/apps/v1"))
    patch = apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    assert {"dryRun", "fieldValidation", "force"} <= {item["name"] for item in patch["parameters"]}
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    pod_spec = apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
    containers = pod_spec["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["description"]
    assert pod_spec["properties"]["restartPolicy"]["enum"] == ["Always", "Never", "OnFailure"]
    custom = body(openapi.v3("apis/example.com/v1"))
    patch = custom["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
    assert custom["components"]["schemas"]["com.example.v1.Widget"]["description"] == "A widget is a thing."


def test_openapi_hash_follows_the_schema():
    discovery, openapi = served()
    before = body(openapi.v3_index())["paths"]
    item = widget("v1")
    discovery.set_custom(custom_groups([item]))
    openapi.set_custom([CustomSchema(item, {**SCHEMA, "description": "other"})])
    after = body(openapi.v3_index())["paths"]
    assert after["apis/example.com/v1"] != before["apis/example.com/v1"]
    assert after["apis/apps/v1"] == before["apis/apps/v1"]


def test_catalog():
    found = resource("apps", "v1", "deployments")
    assert found is not None
    assert found.subresource("scale").api_version == "autoscaling/v1"
    assert catalog().by_kind("", "v1", "Pod").resource.plural == "pods"
    assert storage_version(Resource("autoscaling", "v1", "horizontalpodautoscalers", "X")) == ("autoscaling", "v2")
    assert storage_version(Resource("events.k8s.io", "v1", "events", "Event")) == ("", "v1")


@pytest.mark.parametrize("item", list(catalog()), ids=lambda item: item.resource.group_resource)
def test_every_served_kind_has_a_schema(item):
    from atoll.kinds.schemas import schema_for

    assert schema_for(item.resource.group, item.resource.version, item.resource.kind) is not None
