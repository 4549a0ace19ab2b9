"""Default service accounts, the published CA, and Secrets that ask for a token."""

import asyncio
import base64

from atoll.base.chance import Chance
from atoll.client.port import Object
from atoll.cluster.workloads.accounts.controller import AccountTokens, DefaultAccounts, RootCaPublisher
from atoll.cluster.workloads.common.context import Context, Options
from atoll.kinds.builtin import CONFIGMAPS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import namespace_object, new_cluster


def test_accounts_and_their_belongings() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        made = await new_cluster(clock=clock)
        client = made.client
        informers = Informers(client)
        context = Context(lambda _: client, informers, clock, Chance(1), Options(root_ca="PEM"))

        def token(account: Object, secret: Object) -> str:
            return f"for {account['metadata']['name']} in {secret['metadata']['name']}"

        running = [DefaultAccounts(context), RootCaPublisher(context), AccountTokens(context, token)]
        tasks = [loop.create_task(item.run()) for item in running]
        informers.start()
        await client.create(NAMESPACES, namespace_object("late"))
        await asyncio.sleep(1)
        for space in ("default", "late"):
            assert await client.get(SERVICE_ACCOUNTS, "default", space)
            published = await client.get(CONFIGMAPS, "kube-root-ca.crt", space)
            assert published["data"] == {"ca.crt": "PEM"}

        await client.delete(SERVICE_ACCOUNTS, "default", "late")
        await client.update(CONFIGMAPS, {**published, "data": {"ca.crt": "forged"}})
        secret: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}},
        }
        await client.create(SECRETS, secret, "default")
        await asyncio.sleep(1)
        account = await client.get(SERVICE_ACCOUNTS, "default", "late")
        assert account
        assert (await client.get(CONFIGMAPS, "kube-root-ca.crt", "late"))["data"] == {"ca.crt": "PEM"}
        filled = await client.get(SECRETS, "token", "default")
        assert base64.b64decode(filled["data"]["token"]).decode() == "for default in token"
        assert base64.b64decode(filled["data"]["ca.crt"]).decode() == "PEM"
        assert base64.b64decode(filled["data"]["namespace"]).decode() == "default"
        uid = (await client.get(SERVICE_ACCOUNTS, "default", "default"))["metadata"]["uid"]
        assert filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"] == uid

        await client.delete(SERVICE_ACCOUNTS, "default", "default")
        await asyncio.sleep(1)
        assert [item["metadata"]["name"] for item in (await client.list(SECRETS)).items] == []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await informers.stop()

    run_virtual(main())
