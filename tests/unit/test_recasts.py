"""Bindings and status patches that are only stamped leave the very bytes that the whole way leaves."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import ManualClock, rfc3339
from atoll.base.errors import ApiError
from atoll.client.port import MERGE_PATCH, STRATEGIC_PATCH, Client, DeleteOptions
from atoll.cluster.apiserver.verbs.forms import VERSION, Form
from atoll.cluster.apiserver.verbs.recasts import Recast, Recasts
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import ABSENT, Key
from atoll.kinds.builtin import EVENTS, NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS

Object = dict[str, Any]
POLICY = "validatingadmissionpolicybindings.admissionregistration.k8s.io"


@pytest.fixture
def stamped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry a change that was filled from a recast."""
    found: list[int] = []
    whole = Recast.fill

    def fill(self: Recast, values: Any) -> Any:
        found.append(len(values))
        return whole(self, values)

    monkeypatch.setattr(Recast, "fill", fill)
    return found


def pod() -> Object:
    containers = [{"name": "c", "image": "100%/x:1"}, {"name": "d", "image": "y"}]
    metadata = {"generateName": "web-", "labels": {"app": "a"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


async def begun(clock: ManualClock) -> Assembly:
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
    await bootstrap(assembly)
    client = assembly.client()
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "default")
    for number in range(3):
        labels = {"topology.kubernetes.io/zone": "z1"} if number == 2 else {}
        await client.create(NODES, {"metadata": {"name": f"node-{number}", "labels": labels}})
    return assembly


async def bind(client: Client, made: Object, node: str, **metadata: Any) -> None:
    own = {"name": made["metadata"]["name"], "uid": made["metadata"]["uid"], **metadata}
    body = {"metadata": own, "target": {"kind": "Node", "name": node}}
    await client.create(PODS, body, "default", name=made["metadata"]["name"], subresource="binding")


async def say(client: Client, made: Object, status: Object, **more: Any) -> Object:
    body = {"status": status, **more}
    name = made["metadata"]["name"]
    return await client.patch(PODS, name, body, "default", content_type=STRATEGIC_PATCH, subresource="status")


async def remove(client: Client, made: Object, grace: int | None) -> None:
    options = DeleteOptions(uid=made["metadata"]["uid"], grace_period_seconds=grace)
    await client.delete(PODS, made["metadata"]["name"], "default", options=options)


def for_the(draw: random.Random, made: Object) -> Object:
    """A patch that is for a uid: mostly the right one."""
    uid = draw.choice([made["metadata"]["uid"], made["metadata"]["uid"], "other"])
    return draw.choice([{}, {}, {"metadata": {"uid": uid}}, {"metadata": {"uid": uid, "labels": {"a": "b"}}}])


def running(at: str, *addresses: str, host: str = "172.30.0.1") -> Object:
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("Ready", "Initialized")]
    state = {"running": {"startedAt": at}}
    statuses = [{"name": name, "image": name, "imageID": "", "ready": True, "state": state} for name in "cd"]
    return {
        "phase": "Running", "startTime": at, "conditions": conditions, "containerStatuses": statuses,
        "hostIP": host, "podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses],
    }  # fmt: skip


def a_status(draw: random.Random, kind: int, at: str) -> Object:
    """One of a kind, with addresses of its own; some are refused."""
    address = f"10.{draw.randint(1, 99)}.{draw.randint(0, 9)}.{draw.randint(1, 300)}"
    if kind < 5:
        host = ["172.30.0.1", "172.30.0.2", address, "10.9.0.1", "node"][kind]
        return running(at, address, host=host)
    if kind < 8:
        return running(at, address, ["fd00::1", address, "10.0.0.1"][kind - 5])
    if kind == 8:
        return {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": at, "message": address}]}
    if kind == 9:
        return {"startTime": draw.choice([at, "2026-02-31T00:00:00Z", "10.0.0.1", None])}
    return {"phase": "Succeeded", "podIPs": [{"$patch": "replace"}, {"ip": address}]}


def an_event(draw: random.Random, about: Object, number: int, at: str) -> Object:
    metadata = about["metadata"]
    message = draw.choice(["Assigned {}", "Assigned {}", "Assigned {}", 'a "{}"', "ä {}", "", "x" * 1025])
    reference = {"kind": "Pod", "apiVersion": "v1", "namespace": "default", "name": metadata["name"]}
    if draw.random() < 0.9:
        reference |= {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    return {
        "metadata": {"name": f"{metadata['name']}.{number:x}{draw.choice(['', '', '', '', '_'])}"},
        "involvedObject": reference, "reason": "Scheduled", "message": message.format(metadata["name"]),
        "source": {"component": "c"}, "type": "Normal", "count": draw.choice([1, 1, 1, 2]),
        "firstTimestamp": draw.choice([at, at, at, "2026-13-01T00:00:00Z", None]), "lastTimestamp": at,
    }  # fmt: skip


async def lived(seed: int) -> list[tuple[str, bytes]]:
    """Pods made, bound and told of by the handful, in any order; what the store then holds, and what was refused."""
    draw, clock = random.Random(seed), ManualClock()
    assembly = await begun(clock)
    clients = [assembly.client(), assembly.client(field_manager="other")]
    made: list[Object] = []
    told: list[tuple[str, bytes]] = []

    async def step(calls: list[Any]) -> None:
        for call in calls:
            try:
                made_now = await call
            except ApiError as error:
                told.append(("refused", str(error).encode()))
            else:
                names = [item["metadata"]["name"] for item in made]
                if made_now is not None and made_now["kind"] == "Pod" and made_now["metadata"]["name"] not in names:
                    made.append(made_now)

    for number in range(80):
        if draw.random() < 0.4:
            clock.advance(draw.choice([0.4, 1, 30]))
        action, client = draw.random(), clients[draw.random() < 0.1]
        some = draw.sample(made, min(len(made), 6))
        if action < 0.3 or not made:
            await step([client.create(PODS, pod(), "default") for _ in range(6)])
        elif action < 0.5:
            await step([bind(client, item, f"node-{draw.randint(0, 2)}") for item in made[-6:]])
        elif action < 0.7:
            at = rfc3339(clock.wall() - draw.choice([0, 0, 1]))
            await step([client.create(EVENTS, an_event(draw, item, number, at), "default") for item in some])
        elif action < 0.93:
            at, kind = (
                rfc3339(clock.wall() - draw.choice([0, 0, 0, 1, 40])),
                draw.choice([0, 0, 0, draw.randint(0, 10)]),
            )
            told_of = draw.choice([made[-6:], some])
            await step([say(client, item, a_status(draw, kind, at), **for_the(draw, item)) for item in told_of])
        elif action < 0.97:
            grace = draw.choice([None, None, None, 5, 0])
            await step([remove(client, item, grace) for item in draw.choice([made[-6:], some])])
        else:
            name, labels = draw.choice(made)["metadata"]["name"], {"metadata": {"labels": {"n": "1"}}}
            await step([client.patch(PODS, name, labels, "default", content_type=MERGE_PATCH)])
    return told + [
        (record.key.name, record.data) for kind in ("pods", "events") for record in assembly.store.scan(kind)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_the_bytes_are_those_of_the_whole_way(seed: int, stamped: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    short = asyncio.run(lived(seed))
    assert len(stamped) > 10
    monkeypatch.setattr(Recasts, "_change", lambda *_: None)
    count = len(stamped)
    assert asyncio.run(lived(seed)) == short
    assert len(stamped) == count


def test_a_second_of_its_kind_is_stamped(stamped: list[int]) -> None:
    async def story() -> None:
        clock = ManualClock()
        assembly = await begun(clock)
        client = assembly.client()
        pods = [await client.create(PODS, pod(), "default") for _ in range(8)][2:]  # these came from a mold
        for made in pods:
            await bind(client, made, "node-1")
        assert len(stamped) == 4
        now = rfc3339(clock.wall())
        answers = [await say(client, made, running(now, f"10.0.0.{n}")) for n, made in enumerate(pods[2:])]
        assert len(stamped) == 4 + 2
        for number, answer in enumerate(answers):
            assert answer["status"]["podIPs"] == [{"ip": f"10.0.0.{number}"}]
            assert answer == await client.get(PODS, answer["metadata"]["name"], "default")
        await client.create(NAMESPACES, {"metadata": {"name": "another"}})  # admission reads namespaces
        await bind(client, await client.create(PODS, pod(), "default"), "node-1")
        assert len(stamped) == 6

    asyncio.run(story())


def test_what_is_said_of_pods_that_are_preempted_is_stamped(stamped: list[int]) -> None:
    """The mark, for this pod's uid alone; and, once three have been deleted, what their kubelets say of them."""

    async def story() -> None:
        clock = ManualClock()
        client = (await begun(clock)).client()
        at = rfc3339(clock.wall())
        mark = {"type": "DisruptionTarget", "status": "True", "reason": "Preempted", "lastTransitionTime": at}
        counted = []
        for number in range(14):
            made = await client.create(PODS, pod(), "default")
            await bind(client, made, "node-0")
            await say(client, made, running(at, f"10.0.0.{number + 1}"))
            before = len(stamped)
            own = {"metadata": {"uid": made["metadata"]["uid"]}}
            await say(client, made, {"conditions": [mark]}, **own)
            await remove(client, made, None)
            found = await say(client, made, {"phase": "Failed"})
            assert found["metadata"]["deletionGracePeriodSeconds"] == 30 and found["status"]["phase"] == "Failed"
            counted.append(len(stamped) - before)
            with pytest.raises(ApiError, match="uid"):
                await say(client, made, {"conditions": [mark]}, metadata={"uid": "other"})
        assert counted[-1] == 3, counted

    asyncio.run(story())


def test_pods_that_ask_for_a_node_by_name_are_stamped(stamped: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a DaemonSet's do: that name then is no value that differs, but part of the text."""

    async def story() -> list[bytes]:
        clock = ManualClock()
        assembly = await begun(clock)
        client = assembly.client()
        field = {"key": "metadata.name", "operator": "In", "values": ["node-1"]}
        terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        wanted = pod()
        wanted["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        pods = [await client.create(PODS, wanted, "default") for _ in range(10)][2:]
        for number, made in enumerate(pods):
            await bind(client, made, "node-2" if number == 5 else "node-1")  # the scheduler alone heeds the affinity
        for number, made in enumerate(pods):
            await say(client, made, running(rfc3339(clock.wall()), f"10.0.0.{number}"))
        return [record.data for record in assembly.store.scan("pods")]

    short = asyncio.run(story())
    assert len(stamped) == 5 + 3  # the second of each kind leaves what the next are filled from
    monkeypatch.setattr(Recasts, "_change", lambda *_: None)
    assert asyncio.run(story()) == short
    assert len(stamped) == 8


def test_events_of_a_kind_are_stamped(stamped: list[int]) -> None:
    async def story() -> None:
        assembly = await begun(ManualClock())
        client, draw = assembly.client(), random.Random(1)
        about = await client.create(PODS, pod(), "default")
        event = an_event(draw, about, 1, "2026-01-01T00:00:00Z") | {"message": "it is so", "count": 1}
        event |= {"firstTimestamp": event["lastTimestamp"]}
        made = [
            await client.create(EVENTS, {**event, "message": f"it is {n}", "metadata": {"name": f"e.{n}"}}, "default")
            for n in range(5)
        ]
        assert len(stamped) == 3
        assert [item["message"] for item in made] == [f"it is {n}" for n in range(5)]
        assert len({item["metadata"]["uid"] for item in made}) == 5
        with pytest.raises(ApiError, match="already exists"):
            await client.create(EVENTS, {**event, "message": "it is 9", "metadata": {"name": "e.3"}}, "default")

    asyncio.run(story())


def test_what_the_node_says_of_its_place_is_admitted_each_time(stamped: list[int]) -> None:
    async def story() -> None:
        assembly = await begun(ManualClock())
        client = assembly.client()
        pods = [await client.create(PODS, pod(), "default") for _ in range(10)][2:]
        for number, made in enumerate(pods):
            await bind(client, made, "node-2" if number % 2 else "node-1")
        assert len(stamped) == 4
        zones = [
            (await client.get(PODS, made["metadata"]["name"], "default"))["metadata"]["labels"].get(
                "topology.kubernetes.io/zone"
            )
            for made in pods
        ]
        assert zones == [None, "z1"] * 4

    asyncio.run(story())


def test_preconditions_of_a_binding_hold(stamped: list[int]) -> None:
    async def story() -> None:
        client = (await begun(ManualClock())).client()
        pods = [await client.create(PODS, pod(), "default") for _ in range(8)][2:]
        for made in pods[:4]:
            await bind(client, made, "node-0")
        assert len(stamped) == 2
        with pytest.raises(ApiError, match="Precondition failed: UID"):
            await bind(client, pods[4], "node-0", uid="another")
        with pytest.raises(ApiError, match="Precondition failed: ResourceVersion"):
            await bind(client, pods[4], "node-0", resourceVersion="1")
        with pytest.raises(ApiError, match="already assigned"):
            await bind(client, pods[3], "node-0")
        assert len(stamped) == 2

    asyncio.run(story())


def test_a_value_that_could_be_other_text_is_never_stamped(stamped: list[int]) -> None:
    """A pod called as one of its fields, or as who wrote it."""

    async def story() -> None:
        assembly = await begun(ManualClock())
        client = assembly.client()
        plain = pod()
        for name in ("x1", "x2", "spec", "atoll", "c", "default"):
            await client.create(PODS, {**plain, "metadata": {"name": name}}, "default")
        for name in ("spec", "atoll", "c", "default"):
            made = await client.get(PODS, name, "default")
            await bind(client, made, "node-0")
            found = await client.get(PODS, name, "default")
            assert found["metadata"]["name"] == name and found["spec"]["containers"] == made["spec"]["containers"]

    asyncio.run(story())


def test_a_form_reads_and_parses_what_it_was_filled_with() -> None:
    parts = [
        b'{"a":"',
        b'","k":{"{\\"ip\\":\\"',
        b'\\"}":[1,{"x":"y"}]},"m":{"v":"',
        b'","b":["1","',
        b'"]},"c":{"d":["100%"]}}',
    ]
    form = Form(parts, [1, 0, VERSION, 1])
    values = [b"10.0.0.1", b"x"]
    encoded = form.fill(values)
    assert encoded.origin is form
    data = b"7".join((encoded.head, encoded.tail))
    assert form.read(data) == [*values, b"7"]
    for _ in range(40):  # the first are parsed as any text
        assert form.parse(data) == orjson.loads(data)
    again = form.fill([b"::1", b"z"])
    parsed, other = form.parse(data), form.parse(b"8".join((again.head, again.tail)))
    assert orjson.dumps(parsed) == data
    assert parsed["m"] == {"v": "7", "b": ["1", "x"]} and list(parsed["k"]) == ['{"ip":"10.0.0.1"}']
    assert other["m"] == {"v": "8", "b": ["1", "z"]} and other["c"] is parsed["c"]


def test_a_text_with_the_sign_of_holes_is_no_form() -> None:
    with pytest.raises(ValueError):
        Form(['{"a":"\ue0000\ue000","v":"'.encode(), b'"}'], [VERSION])


def test_nothing_is_stamped_while_a_policy_is_bound(stamped: list[int]) -> None:
    async def story() -> None:
        assembly = await begun(ManualClock())
        client = assembly.client()
        pods = [await client.create(PODS, pod(), "default") for _ in range(8)][2:]
        binding = {"metadata": {"name": "b"}, "spec": {"policyName": "none", "validationActions": ["Deny"]}}
        await assembly.store.write(Key(POLICY, "", "b"), 0, binding)
        for number, made in enumerate(pods):
            await say(client, made, running("2026-01-01T00:00:00Z", f"10.0.0.{number}"))
        assert stamped == []

    asyncio.run(story())


def test_what_was_filled_in_is_what_a_form_reads() -> None:
    whole = Form([b'{"a":"', b'","v":"', b'"}'], [0, VERSION])
    gaps = Form([b'{"a":"', b'","v":"', b'"}'], [1, VERSION])  # nothing shows the first value

    async def main() -> None:
        store = MemoryStore(ManualClock())
        for number, (form, values) in enumerate(
            [(whole, [b"x"]), (whole, [b"y", b"of no hole"]), (gaps, [b"z", b"y"])]
        ):
            record = await store.write(Key("things", "", f"t{number}"), ABSENT, form.fill(values))
            assert list(record.values) == form.read(record.data)
            assert record.object == orjson.loads(record.data)

    asyncio.run(main())
