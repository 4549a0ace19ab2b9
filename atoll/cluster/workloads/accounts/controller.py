"""Three small loops: default service accounts, kube-root-ca.crt, and Secrets of type service-account-token."""

from __future__ import annotations

import base64
from collections.abc import Callable

from atoll.base.errors import AlreadyExists, Forbidden, NotFound
from atoll.client.port import Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.replicaset.controller import namespace_terminates
from atoll.kinds.builtin import CONFIGMAPS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS
from atoll.objects.meta import annotations as annotations_of
from atoll.objects.meta import is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

ROOT_CA_CONFIGMAP = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)
TOKEN_TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"

TokenMaker = Callable[[Object, Object], str]
"""(service account, secret) → a signed token bound to nothing but the account."""


class DefaultAccounts:
    """Each active namespace has a ServiceAccount `default`."""

    def __init__(self, context: Context) -> None:
        self.name = "service-account-controller"
        self._client = context.client(self.name)
        self._namespaces = context.informers.of(NAMESPACES)
        self._accounts = context.informers.of(SERVICE_ACCOUNTS)
        self.loop: Controller[str] = Controller(self.name, self._reconcile, wait_for=(self._namespaces, self._accounts))
        self._namespaces.add_handler(lambda old, new: self._wake(new))
        self._accounts.add_handler(self._account_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _wake(self, namespace: Object | None) -> None:
        if namespace is not None and not is_deleting(namespace):
            self.loop.queue.add(namespace["metadata"]["name"])

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None and old["metadata"]["name"] == "default":
            self.loop.queue.add(old["metadata"]["namespace"])

    async def _reconcile(self, namespace: str) -> float | None:
        found = self._namespaces.get(namespace)
        if found is None or is_deleting(found) or self._accounts.get("default", namespace) is not None:
            return None
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await create_if_absent(self._client.create(SERVICE_ACCOUNTS, account, namespace))
        return None


class RootCaPublisher:
    """Each active namespace has the ConfigMap kube-root-ca.crt, as it should be."""

    def __init__(self, context: Context) -> None:
        self.name = "root-ca-cert-publisher"
        self._client = context.client(self.name)
        self._data = {"ca.crt": context.options.root_ca}
        self._namespaces = context.informers.of(NAMESPACES)
        self._maps = context.informers.of(CONFIGMAPS)
        self.loop: Controller[str] = Controller(self.name, self._reconcile, wait_for=(self._namespaces, self._maps))
        self._namespaces.add_handler(self._namespace_changed)
        self._maps.add_handler(self._map_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and not is_deleting(new):
            self.loop.queue.add(new["metadata"]["name"])

    def _map_changed(self, old: Object | None, new: Object | None) -> None:
        changed = new or old or {}
        if changed["metadata"]["name"] == ROOT_CA_CONFIGMAP and old is not None:
            self.loop.queue.add(changed["metadata"]["namespace"])

    async def _reconcile(self, namespace: str) -> float | None:
        found = self._namespaces.get(namespace)
        if found is None or is_deleting(found):
            return None
        present = self._maps.get(ROOT_CA_CONFIGMAP, namespace)
        described = {"kubernetes.io/description": _DESCRIPTION}
        if present is None:
            made = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": ROOT_CA_CONFIGMAP, "annotations": described},
                "data": self._data,
            }
            await create_if_absent(self._client.create(CONFIGMAPS, made, namespace))
        elif present.get("data") != self._data:
            metadata = {**present["metadata"], "annotations": {**annotations_of(present), **described}}
            await self._client.update(CONFIGMAPS, {**present, "metadata": metadata, "data": self._data})
        return None


class AccountTokens:
    """Fills Secrets of type kubernetes.io/service-account-token, and removes those whose account is gone."""

    def __init__(self, context: Context, make_token: TokenMaker) -> None:
        self.name = "tokens-controller"
        self._client = context.client(self.name)
        self._make_token = make_token
        self._root_ca = context.options.root_ca
        self._accounts = context.informers.of(SERVICE_ACCOUNTS)
        self._secrets = context.informers.of(SECRETS, field_selector=f"type={TOKEN_TYPE}")
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, wait_for=(self._accounts, self._secrets))
        self._secrets.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._accounts.add_handler(self._account_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        account = new or old or {}
        for secret in self._secrets:
            if secret["metadata"].get("namespace") == account["metadata"].get("namespace") and (
                annotations_of(secret).get(ACCOUNT_NAME) == account["metadata"]["name"]
            ):
                self.loop.queue.add(key(secret))

    async def _reconcile(self, name: Key) -> float | None:
        secret = self._secrets.by_key(name)
        if secret is None or secret.get("type") != TOKEN_TYPE:
            return None
        present = annotations_of(secret)
        account = self._accounts.get(present.get(ACCOUNT_NAME, ""), name[0])
        told_uid = present.get(ACCOUNT_UID)
        if account is None or (told_uid and told_uid != account["metadata"]["uid"]):
            await self._remove_if_gone(secret, present.get(ACCOUNT_NAME, ""))
            return None
        data = secret.get("data") or {}
        wanted = {"namespace": base64.b64encode((name[0] or "").encode()).decode()}
        if self._root_ca:
            wanted["ca.crt"] = base64.b64encode(self._root_ca.encode()).decode()
        if data.get("token") and told_uid and all(data.get(part) == text for part, text in wanted.items()):
            return None
        token = data.get("token") or base64.b64encode(self._make_token(account, secret).encode()).decode()
        metadata = {
            **secret["metadata"],
            "annotations": {**present, ACCOUNT_UID: account["metadata"]["uid"]},
        }
        await self._client.update(SECRETS, {**secret, "metadata": metadata, "data": {**data, **wanted, "token": token}})
        return None

    async def _remove_if_gone(self, secret: Object, account: str) -> None:
        """The cache may be behind: ask the server before the secret goes."""
        metadata = secret["metadata"]
        told_uid = annotations_of(secret).get(ACCOUNT_UID)
        try:
            fresh = await self._client.get(SERVICE_ACCOUNTS, account, metadata["namespace"])
        except NotFound:
            fresh = None
        if fresh is not None and told_uid in (None, "", fresh["metadata"]["uid"]):
            return
        try:
            await self._client.delete(SECRETS, metadata["name"], metadata["namespace"])
        except NotFound:
            return


async def create_if_absent(creation: object) -> None:
    """Await a create; there already, or its namespace being deleted, is fine too."""
    try:
        await creation  # type: ignore[misc]
    except AlreadyExists:
        return
    except Forbidden as error:
        if not namespace_terminates(error):
            raise
    except NotFound:
        return
