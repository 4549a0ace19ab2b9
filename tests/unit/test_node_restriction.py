"""What a kubelet may write, with the API's own admission and authorizers in front."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.errors import Forbidden
from atoll.client.port import Object
from atoll.cluster.apiserver.ports import Attributes, User
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import LEASES, NODES, PODS, SERVICE_ACCOUNTS
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.wire.ca import new_key_pem

ONE = User("system:node:one", ("system:nodes", "system:authenticated"))


async def cluster() -> Assembly:
    clock = LoopClock(asyncio.get_running_loop())
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions(signing_key=new_key_pem()))
    await bootstrap(assembly)
    admin = assembly.client()
    await admin.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
    for name in ("one", "two"):
        await admin.create(NODES, {"metadata": {"name": name}})
    for name, node in (("mine", "one"), ("theirs", "two")):
        await admin.create(PODS, pod(name, node), "default")
    return assembly


def pod(name: str, node: str, **metadata: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
    }


async def refused(work: Any) -> str:
    with pytest.raises(Forbidden) as caught:
        await work
    return str(caught.value.message)


def test_a_node_changes_only_itself() -> None:
    async def main() -> None:
        kubelet = (await cluster()).client(ONE, "kubelet")

        async def patch(name: str, body: Object) -> Object:
            return await kubelet.patch(NODES, name, body)

        await patch("one", {"metadata": {"labels": {"topology.kubernetes.io/zone": "a", "mine": "b"}}})
        assert 'node "one" is not allowed to modify node "two"' in await refused(patch("two", {"metadata": {}}))
        label = {"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}
        expected = "is not allowed to modify labels: node-restriction.kubernetes.io/x"
        assert expected in await refused(patch("one", label))
        taints = {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}
        assert 'node "one" is not allowed to modify taints' in await refused(patch("one", taints))
        lease = {"metadata": {"name": "two", "namespace": "kube-node-lease"}, "spec": {}}
        assert "node lease with the same name" in await refused(kubelet.create(LEASES, lease))
        await kubelet.create(LEASES, {**lease, "metadata": {**lease["metadata"], "name": "one"}})

    run_virtual(main())


def test_pods_of_a_node() -> None:
    async def main() -> None:
        assembly = await cluster()
        kubelet = assembly.client(ONE, "kubelet")
        status = {"status": {"phase": "Running"}}
        await kubelet.patch(PODS, "mine", status, "default", subresource="status")
        text = await refused(kubelet.patch(PODS, "theirs", status, "default", subresource="status"))
        assert text.endswith('node "one" can only update pod status for pods with spec.nodeName set to itself')
        assert "can only delete pods" in await refused(kubelet.delete(PODS, "theirs", "default"))
        assert "can only create mirror pods" in await refused(kubelet.create(PODS, pod("new", "one")))
        uid = (await assembly.client().get(NODES, "one"))["metadata"]["uid"]
        owner = {"apiVersion": "v1", "kind": "Node", "name": "one", "uid": uid, "controller": True}
        mirror = {"annotations": {"kubernetes.io/config.mirror": "x"}}
        assert "with an owner reference set to itself" in await refused(kubelet.create(PODS, pod("m", "one", **mirror)))
        await kubelet.create(PODS, pod("m", "one", **mirror, ownerReferences=[owner]))
        volume = [{"name": "v", "secret": {"secretName": "s"}}]
        spying = pod("spy", "one", **mirror, ownerReferences=[owner])
        spying["spec"]["volumes"] = volume
        assert "can not create pods that reference secrets" in await refused(kubelet.create(PODS, spying))

    run_virtual(main())


def test_tokens_for_pods_of_a_node() -> None:
    async def main() -> None:
        assembly = await cluster()
        kubelet = assembly.client(ONE, "kubelet")

        def ask(pod: Object | None, audiences: list[str]) -> Any:
            spec: Object = {"audiences": audiences}
            if pod is not None:
                metadata = pod["metadata"]
                spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod"}
                spec["boundObjectRef"] |= {"name": metadata["name"], "uid": metadata["uid"]}
            body = {"spec": spec, "metadata": {}}
            return kubelet.create(SERVICE_ACCOUNTS, body, "default", name="default", subresource="token")

        mine, theirs = [await assembly.client().get(PODS, name, "default") for name in ("mine", "theirs")]
        assert "not bound to a pod" in await refused(ask(None, []))
        assert "scheduled on a different node" in await refused(ask(theirs, []))
        assert 'audience "vault" not found in pod spec volume' in await refused(ask(mine, ["vault"]))
        token = (await ask(mine, []))["status"]["token"]
        user = assembly.authenticator.tokens.authenticate(token).user
        assert user.extra["authentication.kubernetes.io/pod-name"] == ("mine",)
        assert user.extra["authentication.kubernetes.io/node-name"] == ("one",)

    run_virtual(main())


def test_what_the_node_authorizer_lets_through() -> None:
    async def main() -> None:
        assembly = await cluster()

        def may(
            verb: str, group: str, resource: str, name: str = "", *, space: str = "default", field: str = ""
        ) -> Any:
            asked = Attributes(ONE, verb, group, "v1", resource, "", space, name, "", field)
            decision = assembly.authorizer.authorize(asked)
            return decision.allowed or decision.reason

        assert may("get", "", "nodes", "one", space="") is True
        assert may("get", "", "nodes", "two", space="") == "node 'one' cannot read 'two', only its own Node object"
        assert may("list", "", "nodes", space="") == "node 'one' cannot read all nodes, only its own Node object"
        assert may("list", "", "pods", space="") == "can only list/watch pods with spec.nodeName field selector"
        assert may("list", "", "pods", space="", field="spec.nodeName=one") is True
        assert may("get", "", "pods", "theirs") == "no relationship found between node 'one' and this object"
        assert may("get", "coordination.k8s.io", "leases", "one", space="kube-node-lease") is True
        assert "same name" in may("update", "coordination.k8s.io", "leases", "two", space="kube-node-lease")
        assert "cannot" not in str(may("get", "storage.k8s.io", "csinodes", "one", space=""))
        assert may("delete", "apps", "deployments", "x") == ""

    run_virtual(main())
