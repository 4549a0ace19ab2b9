"""A CRD that changes: new defaults for what is stored, a version that is not the stored one; embedded metadata."""

import asyncio
from typing import Any

from atoll.client.port import Object
from atoll.cluster.apiserver.openapi_schemas import custom_v2, custom_v3
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster

GROUP = "versions.example.org"
THINGS = Resource(GROUP, "v1", "things", "Thing", False)
NEWER = Resource(GROUP, "v2", "things", "Thing", False)


def definition(fields: Object) -> Object:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "metadata": {"name": f"things.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
                {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": free}},
            ],
        },
    }


def thing(name: str, version: str = "v1", **spec: Any) -> Object:
    return {"apiVersion": f"{GROUP}/{version}", "kind": "Thing", "metadata": {"name": name}, "spec": spec}


def test_defaults_reach_what_was_stored_before_them() -> None:
    async def main() -> None:
        client = (await new_cluster(clock=LoopClock(asyncio.get_running_loop()))).client
        fields: Object = {
            "a": {"type": "string"},
            "pod": {
                "type": "object",
                "x-kubernetes-embedded-resource": True,
                "x-kubernetes-preserve-unknown-fields": True,
            },
        }
        await client.create(CUSTOM_RESOURCE_DEFINITIONS, definition(fields))
        await asyncio.sleep(1)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "bogus": 1}}
        made = await client.create(THINGS, thing("old", a="x", pod=pod))
        assert made["spec"]["pod"]["metadata"] == {"name": "p"}

        fields["b"] = {"type": "string", "default": "new"}
        crd = await client.get(CUSTOM_RESOURCE_DEFINITIONS, f"things.{GROUP}")
        await client.update(CUSTOM_RESOURCE_DEFINITIONS, {**crd, "spec": definition(fields)["spec"]})
        await asyncio.sleep(1)
        assert (await client.get(THINGS, "old"))["spec"]["b"] == "new"
        assert [item["spec"]["b"] for item in (await client.list(THINGS)).items] == ["new"]
        assert (await client.get(NEWER, "old"))["apiVersion"] == f"{GROUP}/v2"

        made = await client.create(NEWER, thing("other", "v2", a="x", lost=1))
        assert (made["apiVersion"], made["spec"]) == (f"{GROUP}/v2", {"a": "x", "b": "new"})
        assert (await client.get(THINGS, "other"))["spec"] == {"a": "x", "b": "new"}

    run_virtual(main())


def test_a_kind_that_keeps_unknown_fields_is_an_open_object_in_openapi_v2() -> None:
    gvk = {"group": GROUP, "version": "v2", "kind": "Thing"}
    shown = custom_v2(custom_v3({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, gvk))
    assert shown == {"type": "object", "x-kubernetes-group-version-kind": [gvk]}
    typed = custom_v2(custom_v3({"type": "object", "properties": {"spec": {"type": "string"}}}, gvk))
    assert sorted(typed["properties"]) == ["apiVersion", "kind", "metadata", "spec"]
