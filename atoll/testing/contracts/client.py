"""The contract of `atoll.client.port.Client`: what a Kubernetes API does for any of its clients.

    class TestMine(ClientContract):
        @asynccontextmanager
        async def opened(self):
            yield client, "some-fresh-namespace"

The expectations hold on a real kube-apiserver (tests/real runs them there). Each test gets a namespace of its own
and leaves nothing in others, so one server can serve all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, cast

import pytest

from atoll.base.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Invalid,
    NotFound,
    TooManyRequests,
    UnsupportedMediaType,
)
from atoll.client.port import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Client,
    DeleteOptions,
    Object,
    WatchEvent,
    bind_all,
    create_all,
    patch_all,
)
from atoll.kinds.builtin import (
    CONFIGMAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from atoll.kinds.resource import Resource
from atoll.objects.meta import copy

Scenario = Callable[[Client, str], Awaitable[None]]
_PATIENCE_SECONDS = 30.0


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> Object:
    metadata: Object = {"name": name}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(name: str, **labels: str) -> Object:
    spec = {"containers": [{"name": "main", "image": "example"}], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def deployment(name: str, replicas: int = 2) -> Object:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "example"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


async def taken(events: AsyncIterator[WatchEvent], count: int) -> list[tuple[str, str]]:
    """(type, name) of the next `count` changes, bookmarks left out."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(_PATIENCE_SECONDS), aclosing(cast(Any, events)):
        async for event in events:
            if event.type != "BOOKMARK":
                found.append((event.type, event.object["metadata"]["name"]))
            if len(found) == count:
                break
    return found


class ClientContract:
    """See the module's docstring."""

    def opened(self) -> AbstractAsyncContextManager[tuple[Client, str]]:
        """A client, and a fresh namespace in which a test may do as it likes."""
        raise NotImplementedError

    def run(self, scenario: Scenario) -> None:
        async def main() -> None:
            async with self.opened() as (client, namespace):
                await scenario(client, namespace)

        asyncio.run(main())

    # --- create, get ---

    def test_create_sets_what_the_server_owns(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            sent = config_map("a", x="1")
            sent["metadata"] |= {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z"}
            made = await client.create(CONFIGMAPS, sent, namespace)
            metadata = made["metadata"]
            assert made["kind"] == "ConfigMap" and made["apiVersion"] == "v1"
            assert metadata["namespace"] == namespace and metadata["resourceVersion"]
            assert metadata["uid"] not in ("", "mine")
            assert metadata["creationTimestamp"] > "2020"
            assert await client.get(CONFIGMAPS, "a", namespace) == made

        self.run(scenario)

    def test_generate_name(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            sent = config_map("")
            sent["metadata"] = {"generateName": "gen-"}
            names = {(await client.create(CONFIGMAPS, sent, namespace))["metadata"]["name"] for _ in range(3)}
            assert len(names) == 3
            assert all(name.startswith("gen-") and len(name) == 9 for name in names)

        self.run(scenario)

    def test_many_are_created_each_for_itself(self) -> None:
        """Of one template and of others, some not to be made, over and over."""

        async def scenario(client: Client, namespace: str) -> None:
            await client.create(PODS, pod("taken"), namespace)
            alike, bad = pod("x"), pod("bad")
            alike["metadata"] = {"generateName": "alike-", "labels": {"app": "web"}}
            bad["spec"]["restartPolicy"] = "Sometimes"
            for number in range(3):
                named = [pod(f"p{number}-{place}") for place in range(3)]
                asked = [alike, *named, alike, bad, pod("taken"), alike]
                made = await create_all(client, PODS, asked, namespace)
                kinds = [str if isinstance(one, str) else type(one) for one in made]
                assert kinds == [str, str, str, str, str, Invalid, AlreadyExists, str]
                assert made[1:4] == [f"p{number}-{place}" for place in range(3)]
            found = (await client.list(PODS, namespace)).items
            assert len(found) == len({item["metadata"]["uid"] for item in found}) == 1 + 3 * 6
            assert sum(item["metadata"]["name"].startswith("alike-") for item in found) == 9
            specs = [item["spec"]["restartPolicy"] for item in found]
            assert set(specs) == {"Always"}
            assert await create_all(client, PODS, [], namespace) == []

        self.run(scenario)

    def test_many_are_bound_each_for_itself(self) -> None:
        """Over and over, among some that can't be."""

        async def scenario(client: Client, namespace: str) -> None:
            def binding(name: str, node: str, uid: str = "") -> Object:
                metadata = {"name": name, "namespace": namespace} | ({"uid": uid} if uid else {})
                target = {"kind": "Node", "name": node}
                return {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}

            await client.create(PODS, pod("bound"), namespace)
            assert await bind_all(client, [binding("bound", "n")]) == [None]
            for number in range(3):
                names = [f"p{number}-{place}" for place in range(6)]
                uids = [(await client.create(PODS, pod(name), namespace))["metadata"]["uid"] for name in names]
                asked = [binding(name, f"n-{name}", uid) for name, uid in zip(names, uids, strict=True)]
                asked[2] = binding(names[2], "n", uid=uids[0])
                asked += [binding("missing", "n"), binding("bound", "m")]
                done = await bind_all(client, asked)
                kinds = [type(one) for one in done]
                assert kinds == [*[type(None)] * 2, Conflict, *[type(None)] * 3, NotFound, Conflict]
                for place, name in enumerate(names):
                    found = await client.get(PODS, name, namespace)
                    scheduled = [item["status"] for item in found["status"].get("conditions") or ()]
                    expected = (None, []) if place == 2 else (f"n-{name}", ["True"])
                    assert (found["spec"].get("nodeName"), scheduled) == expected
                    assert found["metadata"]["uid"] == uids[place]
            assert (await client.get(PODS, "bound", namespace))["spec"]["nodeName"] == "n"
            assert await bind_all(client, []) == []

        self.run(scenario)

    def test_many_are_patched_each_for_itself(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            async def patched(patches: list[tuple[str | None, str, Any]]) -> list[type]:
                way = {"content_type": STRATEGIC_PATCH, "subresource": "status"}
                return [type(one) for one in await patch_all(client, PODS, patches, **way)]

            for number in range(3):
                names = [f"p{number}-{place}" for place in range(5)]
                for name in names:
                    await client.create(PODS, pod(name), namespace)
                ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                addresses = [f"10.0.{number}.{place + 1}" for place in range(5)]
                patches: list[tuple[str | None, str, Any]] = [
                    (namespace, name, {"status": {"podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}})
                    for name, ip in zip(names, addresses, strict=True)
                ]
                wrong = {"metadata": {"resourceVersion": "1"}, **patches[0][2]}
                asked = [*patches, (namespace, "missing", patches[0][2]), (namespace, names[0], wrong)]
                assert await patched(asked) == [*[type(None)] * 5, NotFound, Conflict]
                for name, address in zip(names, addresses, strict=True):
                    status = (await client.get(PODS, name, namespace))["status"]
                    assert (status["podIP"], status["podIPs"]) == (address, [{"ip": address}])
                    assert [item["type"] for item in status["conditions"]] == ["Ready"]
            labelled: list[tuple[str | None, str, Any]] = [(namespace, "p0-0", {"metadata": {"labels": {"a": "b"}}})]
            assert await patch_all(client, PODS, labelled) == [None]
            assert (await client.get(PODS, "p0-0", namespace))["metadata"]["labels"]["a"] == "b"
            assert await patch_all(client, PODS, []) == []

        self.run(scenario)

    def test_create_what_exists(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(CONFIGMAPS, config_map("a"), namespace)
            with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
                await client.create(CONFIGMAPS, config_map("a"), namespace)

        self.run(scenario)

    def test_get_what_is_not_there(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            with pytest.raises(NotFound) as caught:
                await client.get(DEPLOYMENTS, "a", namespace)
            assert caught.value.message == 'deployments.apps "a" not found'
            assert caught.value.details == {"name": "a", "group": "apps", "kind": "deployments"}

        self.run(scenario)

    def test_bad_names_are_refused(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            with pytest.raises(Invalid) as caught:
                await client.create(CONFIGMAPS, config_map("A_b"), namespace)
            assert caught.value.message.startswith(
                'ConfigMap "A_b" is invalid: metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must'
            )
            assert caught.value.details is not None
            assert [cause["field"] for cause in caught.value.details["causes"]] == ["metadata.name"]
            with pytest.raises(Invalid, match="name or generateName is required"):
                await client.create(CONFIGMAPS, config_map(""), namespace)

        self.run(scenario)

    def test_bad_labels_are_refused(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            with pytest.raises(Invalid) as caught:
                await client.create(CONFIGMAPS, config_map("a", labels={"x": "no spaces"}), namespace)
            assert 'metadata.labels: Invalid value: "no spaces": a valid label must be' in caught.value.message

        self.run(scenario)

    def test_another_namespace_in_the_body(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            sent = config_map("a")
            sent["metadata"]["namespace"] = "elsewhere"
            with pytest.raises(BadRequest) as caught:
                await client.create(CONFIGMAPS, sent, namespace)
            assert caught.value.message == (
                "the namespace of the provided object does not match the namespace sent on the request"
            )

        self.run(scenario)

    def test_values_of_the_wrong_type_are_refused(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            sent = deployment("a")
            sent["spec"]["replicas"] = "many"
            with pytest.raises(BadRequest) as caught:
                await client.create(DEPLOYMENTS, sent, namespace)
            assert caught.value.message == (
                'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go'
                " struct field DeploymentSpec.spec.replicas of type int32"
            )

        self.run(scenario)

    def test_defaults_are_filled_in(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(DEPLOYMENTS, deployment("a"), namespace)
            assert made["metadata"]["generation"] == 1
            assert made["spec"]["progressDeadlineSeconds"] == 600
            assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
            container = made["spec"]["template"]["spec"]["containers"][0]
            assert container["terminationMessagePath"] == "/dev/termination-log"

        self.run(scenario)

    def test_dry_run_stores_nothing(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(CONFIGMAPS, config_map("a"), namespace, dry_run=True)
            assert made["metadata"]["uid"]
            with pytest.raises(NotFound):
                await client.get(CONFIGMAPS, "a", namespace)
            kept = await client.create(CONFIGMAPS, config_map("b", x="1"), namespace)
            changed = await client.patch(CONFIGMAPS, "b", {"data": {"x": "2"}}, namespace, dry_run=True)
            assert changed["data"] == {"x": "2"}
            await client.delete(CONFIGMAPS, "b", namespace, dry_run=True)
            assert await client.get(CONFIGMAPS, "b", namespace) == kept

        self.run(scenario)

    # --- update ---

    def test_update_with_a_stale_version_conflicts(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            first = await client.create(CONFIGMAPS, config_map("a", x="1"), namespace)
            second = await client.update(CONFIGMAPS, {**first, "data": {"x": "2"}})
            assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
            with pytest.raises(Conflict) as caught:
                await client.update(CONFIGMAPS, {**first, "data": {"x": "3"}})
            assert caught.value.message == (
                'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your'
                " changes to the latest version and try again"
            )

        self.run(scenario)

    def test_update_without_a_version(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = copy(await client.create(CONFIGMAPS, config_map("a", x="1"), namespace))
            del made["metadata"]["resourceVersion"]
            changed = await client.update(CONFIGMAPS, {**made, "data": {"x": "2"}})
            assert changed["data"] == {"x": "2"}
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "a", "namespace": namespace},
                "spec": {"holderIdentity": "me"},
            }
            await client.create(LEASES, lease)
            with pytest.raises(Invalid, match=r"metadata\.resourceVersion: .*must be specified for an update"):
                await client.update(LEASES, lease)

        self.run(scenario)

    def test_an_update_that_changes_nothing_keeps_the_version(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(CONFIGMAPS, config_map("a", x="1"), namespace)
            same = await client.update(CONFIGMAPS, made)
            assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

        self.run(scenario)

    def test_update_of_what_is_not_there(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            sent = config_map("a")
            sent["metadata"]["namespace"] = namespace
            with pytest.raises(NotFound, match='configmaps "a" not found'):
                await client.update(CONFIGMAPS, sent)

        self.run(scenario)

    def test_another_uid_conflicts(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = copy(await client.create(CONFIGMAPS, config_map("a"), namespace))
            made["metadata"]["uid"] = "other"
            with pytest.raises(Conflict, match="Precondition failed: UID in precondition: other"):
                await client.update(CONFIGMAPS, made)

        self.run(scenario)

    def test_generation_counts_the_spec_and_status_is_apart(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(DEPLOYMENTS, deployment("a"), namespace)
            await client.update(DEPLOYMENTS, {**made, "status": {"replicas": 7}})
            assert "replicas" not in (await client.get(DEPLOYMENTS, "a", namespace))["status"]
            changed = await client.patch(DEPLOYMENTS, "a", {"spec": {"replicas": 3}}, namespace)
            assert changed["metadata"]["generation"] == 2
            status = {"status": {"observedGeneration": 2}, "spec": {"replicas": 9}}
            after = await client.patch(DEPLOYMENTS, "a", status, namespace, subresource="status")
            assert after["status"]["observedGeneration"] == 2
            assert after["spec"]["replicas"] == 3 and after["metadata"]["generation"] == 2

        self.run(scenario)

    # --- patch ---

    def test_merge_patch(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(CONFIGMAPS, config_map("a", x="1", y="2"), namespace)
            change = {"data": {"x": None, "z": "3"}}
            changed = await client.patch(CONFIGMAPS, "a", change, namespace, content_type=MERGE_PATCH)
            assert changed["data"] == {"y": "2", "z": "3"}

        self.run(scenario)

    def test_json_patch(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(CONFIGMAPS, config_map("a", x="1"), namespace)
            operations = [
                {"op": "test", "path": "/data/x", "value": "1"},
                {"op": "add", "path": "/data/y", "value": "2"},
            ]
            changed = await client.patch(CONFIGMAPS, "a", operations, namespace, content_type=JSON_PATCH)
            assert changed["data"] == {"x": "1", "y": "2"}
            wrong = [{"op": "test", "path": "/data/x", "value": "0"}]
            with pytest.raises(Invalid):
                await client.patch(CONFIGMAPS, "a", wrong, namespace, content_type=JSON_PATCH)

        self.run(scenario)

    def test_strategic_patch_merges_lists_by_key(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(DEPLOYMENTS, deployment("a"), namespace)
            containers = [{"name": "main", "image": "other"}, {"name": "side", "image": "second"}]
            change = {"spec": {"template": {"spec": {"containers": containers}}}}
            changed = await client.patch(DEPLOYMENTS, "a", change, namespace, content_type=STRATEGIC_PATCH)
            found = changed["spec"]["template"]["spec"]["containers"]
            assert {item["name"]: item["image"] for item in found} == {"main": "other", "side": "second"}

        self.run(scenario)

    def test_a_patch_with_a_version_conflicts_when_stale(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(CONFIGMAPS, config_map("a", x="1"), namespace)
            await client.patch(CONFIGMAPS, "a", {"data": {"x": "2"}}, namespace)
            stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"x": "3"}}
            with pytest.raises(Conflict):
                await client.patch(CONFIGMAPS, "a", stale, namespace)

        self.run(scenario)

    def test_concurrent_patches_all_land(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(CONFIGMAPS, config_map("a"), namespace)
            changes = [{"data": {f"k{number}": "1"}} for number in range(8)]
            await asyncio.gather(*(client.patch(CONFIGMAPS, "a", change, namespace) for change in changes))
            assert len((await client.get(CONFIGMAPS, "a", namespace))["data"]) == 8

        self.run(scenario)

    def test_apply_owns_what_it_names(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            sent = config_map("a", x="1", y="1")
            sent["metadata"]["namespace"] = namespace
            await client.apply(CONFIGMAPS, sent, field_manager="one")
            changed = await client.apply(CONFIGMAPS, {**sent, "data": {"x": "1"}}, field_manager="one")
            assert changed["data"] == {"x": "1"}
            other = {**sent, "data": {"x": "2"}}
            with pytest.raises(Conflict) as caught:
                await client.apply(CONFIGMAPS, other, field_manager="two", force=False)
            assert caught.value.message == 'Apply failed with 1 conflict: conflict with "one": .data.x'
            forced = await client.apply(CONFIGMAPS, other, field_manager="two", force=True)
            owners = {entry["manager"]: entry["operation"] for entry in forced["metadata"]["managedFields"]}
            assert forced["data"] == {"x": "2"} and owners == {"two": "Apply"}

        self.run(scenario)

    # --- list ---

    def test_list_in_pages_from_one_snapshot(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            for name in "abcde":
                await client.create(CONFIGMAPS, config_map(name, {"page": "yes"}), namespace)
            chosen = "page=yes"
            whole = await client.list(CONFIGMAPS, namespace, label_selector=chosen)
            first = await client.list(CONFIGMAPS, namespace, limit=2, label_selector=chosen)
            assert [item["metadata"]["name"] for item in first.items] == ["a", "b"] and first.continue_token
            await client.delete(CONFIGMAPS, "d", namespace)
            rest = await client.list(
                CONFIGMAPS, namespace, limit=10, continue_token=first.continue_token, label_selector=chosen
            )
            assert [item["metadata"]["name"] for item in rest.items] == ["c", "d", "e"]
            assert rest.resource_version == first.resource_version and rest.continue_token is None
            assert int(whole.resource_version) <= int(first.resource_version)

        self.run(scenario)

    def test_remaining_items_are_counted(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            for name in "abc":
                await client.create(SECRETS, {"metadata": {"name": name}}, namespace)
            page = await client.list(SECRETS, namespace, limit=1)
            assert page.remaining == 2

        self.run(scenario)

    def test_bad_continue_tokens_and_versions(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            with pytest.raises(BadRequest, match="continue key is not valid"):
                await client.list(CONFIGMAPS, namespace, limit=1, continue_token="!!")
            with pytest.raises(ApiError) as caught:
                await client.list(CONFIGMAPS, namespace, resource_version="999999999")
            assert caught.value.code == 504

        self.run(scenario)

    def test_label_selectors(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(CONFIGMAPS, config_map("a", {"app": "x", "tier": "1"}), namespace)
            await client.create(CONFIGMAPS, config_map("b", {"app": "y", "tier": "2"}), namespace)

            async def names(selector: str) -> list[str]:
                page = await client.list(CONFIGMAPS, namespace, label_selector=selector)
                return [item["metadata"]["name"] for item in page.items]

            assert await names("app=x") == ["a"]
            assert await names("app in (x,y),tier!=1") == ["b"]
            assert await names("app,!missing,tier notin (2)") == ["a"]
            with pytest.raises(BadRequest):
                await names("app in x")

        self.run(scenario)

    def test_field_selectors(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(CONFIGMAPS, config_map("a"), namespace)
            await client.create(CONFIGMAPS, config_map("b"), namespace)
            page = await client.list(CONFIGMAPS, namespace, field_selector="metadata.name=b")
            assert [item["metadata"]["name"] for item in page.items] == ["b"]
            with pytest.raises(BadRequest) as caught:
                await client.list(CONFIGMAPS, namespace, field_selector="data.x=1")
            assert caught.value.message == (
                '"data.x" is not a known field selector: only "metadata.name", "metadata.namespace"'
            )
            with pytest.raises(BadRequest, match=r"field label not supported: spec\.image"):
                await client.list(PODS, namespace, field_selector="spec.image=x")

        self.run(scenario)

    # --- watch ---

    def test_watch_from_a_version(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            version = (await client.list(CONFIGMAPS, namespace)).resource_version
            await client.create(CONFIGMAPS, config_map("watched"), namespace)
            await client.patch(CONFIGMAPS, "watched", {"data": {"x": "1"}}, namespace)
            await client.delete(CONFIGMAPS, "watched", namespace)
            events = client.watch(
                CONFIGMAPS, namespace, resource_version=version, field_selector="metadata.name=watched"
            )
            assert await taken(events, 3) == [("ADDED", "watched"), ("MODIFIED", "watched"), ("DELETED", "watched")]

        self.run(scenario)

    def test_watch_follows(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            version = (await client.list(SECRETS, namespace)).resource_version
            following = asyncio.ensure_future(taken(client.watch(SECRETS, namespace, resource_version=version), 2))
            for name in "ab":
                await client.create(SECRETS, {"metadata": {"name": name}}, namespace)
            assert await following == [("ADDED", "a"), ("ADDED", "b")]

        self.run(scenario)

    def test_leaving_a_selector_is_a_deletion(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(CONFIGMAPS, config_map("a", {"app": "x"}), namespace)
            version = made["metadata"]["resourceVersion"]
            await client.patch(CONFIGMAPS, "a", {"metadata": {"labels": {"app": "y"}}}, namespace)
            await client.patch(CONFIGMAPS, "a", {"data": {"seen": "no"}}, namespace)
            await client.patch(CONFIGMAPS, "a", {"metadata": {"labels": {"app": "x"}}}, namespace)
            events = client.watch(CONFIGMAPS, namespace, resource_version=version, label_selector="app=x")
            assert await taken(events, 2) == [("DELETED", "a"), ("ADDED", "a")]

        self.run(scenario)

    def test_events_carry_their_version(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(CONFIGMAPS, config_map("a"), namespace)
            await client.delete(CONFIGMAPS, "a", namespace)
            events = client.watch(
                CONFIGMAPS, namespace, resource_version=made["metadata"]["resourceVersion"],
                field_selector="metadata.name=a",
            )  # fmt: skip
            async with asyncio.timeout(_PATIENCE_SECONDS), aclosing(cast(Any, events)):
                async for event in events:
                    if event.type == "DELETED":
                        last = int(event.object["metadata"]["resourceVersion"])
                        assert last > int(made["metadata"]["resourceVersion"])
                        break

        self.run(scenario)

    # --- delete ---

    def test_delete_answers_a_status_and_the_object_is_gone(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(CONFIGMAPS, config_map("a"), namespace)
            status = await client.delete(CONFIGMAPS, "a", namespace)
            assert status["kind"] == "Status" and status["status"] == "Success"
            assert status["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
            with pytest.raises(NotFound):
                await client.delete(CONFIGMAPS, "a", namespace)

        self.run(scenario)

    def test_delete_preconditions(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(CONFIGMAPS, config_map("a"), namespace)
            with pytest.raises(Conflict, match=r"the UID in the precondition \(other\) does not match"):
                await client.delete(CONFIGMAPS, "a", namespace, options=DeleteOptions(uid="other"))
            with pytest.raises(Conflict, match=r"the ResourceVersion in the precondition \(1\) does not match"):
                await client.delete(CONFIGMAPS, "a", namespace, options=DeleteOptions(resource_version="1"))
            options = DeleteOptions(uid=made["metadata"]["uid"], resource_version=made["metadata"]["resourceVersion"])
            await client.delete(CONFIGMAPS, "a", namespace, options=options)

        self.run(scenario)

    def test_finalizers_hold_an_object(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            sent = config_map("a")
            sent["metadata"]["finalizers"] = ["example.com/hold"]
            await client.create(CONFIGMAPS, sent, namespace)
            going = await client.delete(CONFIGMAPS, "a", namespace)
            assert going["metadata"]["deletionTimestamp"] and going["metadata"]["deletionGracePeriodSeconds"] == 0
            with pytest.raises(Invalid, match="no new finalizers can be added if the object is being deleted"):
                change = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
                await client.patch(CONFIGMAPS, "a", change, namespace)
            await client.patch(CONFIGMAPS, "a", {"metadata": {"finalizers": None}}, namespace)
            with pytest.raises(NotFound):
                await client.get(CONFIGMAPS, "a", namespace)

        self.run(scenario)

    def test_propagation_sets_the_collectors_finalizers(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            for name, policy, finalizer in (
                ("a", "Foreground", "foregroundDeletion"),
                ("b", "Orphan", "orphan"),
            ):
                sent = config_map(name)
                sent["metadata"]["finalizers"] = ["example.com/hold"]
                await client.create(CONFIGMAPS, sent, namespace)
                going = await client.delete(CONFIGMAPS, name, namespace, options=DeleteOptions(propagation=policy))
                assert finalizer in going["metadata"]["finalizers"]
                await client.patch(CONFIGMAPS, name, {"metadata": {"finalizers": None}}, namespace)

        self.run(scenario)

    def test_pods_are_deleted_gracefully(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(PODS, pod("a"), namespace)
            binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "nowhere"}}
            await client.create(PODS, binding, namespace, name="a", subresource="binding")
            bound = (await client.get(PODS, "a", namespace))["metadata"]["resourceVersion"]
            # the real server's delete begins from its watch cache, in which the pod may have no node yet
            await client.list(PODS, namespace, resource_version=bound)
            going = await client.delete(PODS, "a", namespace)
            assert going["kind"] == "Pod" and going["metadata"]["deletionGracePeriodSeconds"] == 30
            shorter = await client.delete(PODS, "a", namespace, options=DeleteOptions(grace_period_seconds=5))
            assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
            await client.delete(PODS, "a", namespace, options=DeleteOptions(grace_period_seconds=0))
            with pytest.raises(NotFound):
                await client.get(PODS, "a", namespace)

        self.run(scenario)

    # --- subresources ---

    def test_scale(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(DEPLOYMENTS, deployment("a", 2), namespace)
            scale = await client.get(DEPLOYMENTS, "a", namespace, subresource="scale")
            assert scale["kind"] == "Scale" and scale["spec"] == {"replicas": 2}
            assert scale["status"]["selector"] == "app=a"
            change = {"spec": {"replicas": 5}}
            assert (await client.patch(DEPLOYMENTS, "a", change, namespace, subresource="scale"))["spec"] == change[
                "spec"
            ]
            assert (await client.get(DEPLOYMENTS, "a", namespace))["spec"]["replicas"] == 5

        self.run(scenario)

    def test_a_pod_is_bound_once(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(PODS, pod("a"), namespace)
            binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "one"}}
            await client.create(PODS, binding, namespace, name="a", subresource="binding")
            bound = await client.get(PODS, "a", namespace)
            assert bound["spec"]["nodeName"] == "one"
            assert {item["type"]: item["status"] for item in bound["status"]["conditions"]} == {"PodScheduled": "True"}
            with pytest.raises(Conflict, match='pod a is already assigned to node "one"'):
                await client.create(PODS, binding, namespace, name="a", subresource="binding")

        self.run(scenario)

    def test_eviction_asks_the_budget(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            await client.create(PODS, pod("a", app="guarded"), namespace)
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            await client.patch(PODS, "a", {"status": status}, namespace, subresource="status")
            budget = {
                "metadata": {"name": "b"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}},
            }
            made = await client.create(POD_DISRUPTION_BUDGETS, budget, namespace)
            counted = {
                "observedGeneration": made["metadata"]["generation"],
                "disruptionsAllowed": 0,
                "currentHealthy": 1,
                "desiredHealthy": 1,
                "expectedPods": 1,
            }
            await client.patch(POD_DISRUPTION_BUDGETS, "b", {"status": counted}, namespace, subresource="status")
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
            with pytest.raises(TooManyRequests) as caught:
                await client.create(PODS, eviction, namespace, name="a", subresource="eviction")
            assert caught.value.message == "Cannot evict pod as it would violate the pod's disruption budget."
            assert caught.value.details is not None
            assert caught.value.details["causes"] == [
                {
                    "reason": "DisruptionBudget",
                    "message": "The disruption budget b needs 1 healthy pods and has 1 currently",
                }
            ]
            allowed = {"status": {"disruptionsAllowed": 1}}
            await client.patch(POD_DISRUPTION_BUDGETS, "b", allowed, namespace, subresource="status")
            await client.create(PODS, eviction, namespace, name="a", subresource="eviction")
            after = await client.get(POD_DISRUPTION_BUDGETS, "b", namespace)
            assert after["status"]["disruptionsAllowed"] == 0 and "a" in after["status"]["disruptedPods"]

        self.run(scenario)

    def test_namespaces_are_finalized(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            name = f"{namespace}-x"
            made = await client.create(NAMESPACES, {"metadata": {"name": name}})
            assert made["spec"]["finalizers"] == ["kubernetes"]
            assert made["metadata"]["labels"]["kubernetes.io/metadata.name"] == name
            going = await client.delete(NAMESPACES, name)
            assert going["status"]["phase"] == "Terminating"
            current = copy(await client.get(NAMESPACES, name))
            current["spec"]["finalizers"] = []
            await client.update(NAMESPACES, current, subresource="finalize")
            with pytest.raises(NotFound):
                await client.get(NAMESPACES, name)

        self.run(scenario)

    # --- custom resources ---

    def test_custom_resources(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            group = f"{namespace}.example.com"
            things = Resource(group, "v1", "things", "Thing")
            await client.create(CUSTOM_RESOURCE_DEFINITIONS, _definition(group))
            await _established(client, f"things.{group}")
            thing: Object = {
                "apiVersion": f"{group}/v1",
                "kind": "Thing",
                "metadata": {"name": "a"},
                "spec": {"size": 2},
            }
            made = await _create_when_served(client, things, thing, namespace)
            assert made["spec"] == {"size": 2, "mode": "small"} and made["metadata"]["generation"] == 1
            pruned = await client.patch(things, "a", {"spec": {"unknown": 1}}, namespace)
            assert "unknown" not in pruned["spec"]
            await _check_refusals(client, things, namespace)
            scaled = await client.patch(things, "a", {"spec": {"replicas": 3}}, namespace, subresource="scale")
            assert scaled["spec"] == {"replicas": 3}
            with pytest.raises(UnsupportedMediaType):
                await client.patch(things, "a", {}, namespace, content_type=STRATEGIC_PATCH)
            applied = await client.apply(
                things, {**thing, "metadata": {"name": "a", "namespace": namespace}, "spec": {"mode": "large"}}
            )
            assert applied["spec"]["mode"] == "large"
            await client.delete(CUSTOM_RESOURCE_DEFINITIONS, f"things.{group}")
            await _gone(client, f"things.{group}")

        self.run(scenario)

    # --- anything else ---

    def test_raw_requests(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            answer = await client.raw("GET", "/version")
            assert answer.status == 200 and b'"gitVersion"' in answer.body
            missing = await client.raw("GET", f"/api/v1/namespaces/{namespace}/nothings")
            assert missing.status == 404
            assert (await client.raw("GET", "/readyz")).body == b"ok"

        self.run(scenario)

    def test_service_accounts_need_no_secret(self) -> None:
        async def scenario(client: Client, namespace: str) -> None:
            made = await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "robot"}}, namespace)
            assert "secrets" not in made

        self.run(scenario)


def _definition(group: str) -> Object:
    size = {"type": "integer", "minimum": 1}
    spec = {
        "type": "object",
        "properties": {
            "size": size,
            "mode": {"type": "string", "default": "small", "enum": ["small", "large"]},
            "replicas": {"type": "integer"},
        },
        "required": ["size"],
        "x-kubernetes-validations": [{"rule": "self.size < 10", "message": "too big"}],
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": {
            "type": "object", "properties": {"replicas": {"type": "integer"}}}}}},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
    }  # fmt: skip
    names = {"plural": "things", "kind": "Thing"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


async def _established(client: Client, name: str) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            found = await client.get(CUSTOM_RESOURCE_DEFINITIONS, name)
            conditions = (found.get("status") or {}).get("conditions") or []
            if any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
                return
            await asyncio.sleep(0.05)


async def _create_when_served(client: Client, resource: Resource, obj: Object, namespace: str) -> Object:
    """A real server serves a moment after it says so."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            try:
                return await client.create(resource, obj, namespace)
            except NotFound:
                await asyncio.sleep(0.05)


async def _gone(client: Client, name: str) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            try:
                await client.get(CUSTOM_RESOURCE_DEFINITIONS, name)
            except NotFound:
                return
            await asyncio.sleep(0.05)


async def _check_refusals(client: Client, things: Resource, namespace: str) -> None:
    refused = (
        ({"size": "x"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ({"mode": "odd"}, 'spec.mode: Unsupported value: "odd": supported values: "small", "large"'),
        ({"size": 11}, "spec: Invalid value: too big"),
        ({"size": None}, "spec.size: Required value"),
    )
    for change, message in refused:
        with pytest.raises(Invalid) as caught:
            await client.patch(things, "a", {"spec": change}, namespace)
        assert message in caught.value.message, caught.value.message
