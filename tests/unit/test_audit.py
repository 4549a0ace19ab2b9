"""The audit log: events as the real server's for the same requests and policy; policies; rotation."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace
from test_gate import CONFIG_MAPS, Server, config_map, serving

from atoll.app.audit_log import RotatingFile, audit_policy, open_audit_log
from atoll.app.fleetspec import AuditSpec
from atoll.base.clock import ManualClock
from atoll.base.errors import Unauthorized, UserError
from atoll.cluster.apiserver.access.impersonation import impersonate
from atoll.cluster.apiserver.audit.policy import BadPolicy, read_policy
from atoll.cluster.apiserver.gate import Gate
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, AdmissionRequest, Attributes, User
from atoll.wire.messages import HttpRequest, HttpResponse

REAL = json.loads((Path(__file__).parent / "data" / "audit_of_real.json").read_text())


class AuditedServer:
    """A server behind its gate with a log."""

    def __init__(self, server: Server, stack: AsyncExitStack, folder: Path, policy: Any) -> None:
        (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
        self._path = folder / "audit.log"
        self._server = server
        assembly = server.assembly
        server.assembly.authenticator.authenticate = lambda _: SYSTEM_ADMIN  # type: ignore[method-assign]
        server.handler.identify = self._identify
        server.handler.authorizer = assembly.authorizer
        auditor = open_audit_log(stack, assembly, AuditSpec(str(folder / "policy.yaml")), folder)
        server.handler.gate = Gate(server.flow.filter, assembly.clock, assembly.metrics, assembly.api.registry, auditor)

    def _identify(self, request: HttpRequest) -> User:
        if "impersonate-user" in request.headers:
            return impersonate(request, SYSTEM_ADMIN, self._server.assembly.authorizer)
        return SYSTEM_ADMIN

    async def ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> HttpResponse:
        path, _, query = path.partition("?")
        given = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        data = b"" if body is None else json.dumps(body).encode()
        response = await self._server.handler(HttpRequest(method, path, query, given, data, remote="127.0.0.1:4711"))
        if response.stream is not None:
            async for _ in response.stream:
                pass
            await response.stream.aclose()  # type: ignore[attr-defined]
        return response

    async def events(self) -> list[Any]:
        """What was written since the last look."""
        await asyncio.sleep(0)
        lines = self._path.read_text().splitlines()
        self._path.write_text("")
        return [json.loads(line) for line in lines]


def auditing(scenario: Any, folder: Path, policy: Any) -> None:
    async def wrapped(server: Server) -> None:
        async with AsyncExitStack() as stack:
            await scenario(AuditedServer(server, stack, folder, policy), server)

    serving(wrapped)


def plain(event: Any) -> Any:
    """Without what differs from run to run, and what the real server knows of its client certificates."""
    found = json.loads(json.dumps(event))
    for key in ("auditID", "requestReceivedTimestamp", "stageTimestamp", "authenticationMetadata"):
        found.pop(key, None)
    found["user"].pop("extra", None)
    if found["objectRef" if "objectRef" in found else "user"]:
        _scrub(found)
    return found


def _scrub(value: Any) -> None:
    if isinstance(value, dict):
        for key in ("uid", "resourceVersion", "creationTimestamp"):
            if key in value:
                value[key] = "?"
        for item in value.values():
            _scrub(item)
    elif isinstance(value, list):
        for item in value:
            _scrub(item)


def test_events_are_those_of_the_real_server(tmp_path: Path) -> None:
    async def scenario(audited: AuditedServer, server: Server) -> None:
        for exchange in REAL["exchanges"]:
            await audited.ask(*exchange["request"])
            assert [plain(event) for event in await audited.events()] == [plain(item) for item in exchange["events"]]

    auditing(scenario, tmp_path, REAL["policy"])


def test_a_request_keeps_its_id_and_the_client_is_told_it(tmp_path: Path) -> None:
    async def scenario(audited: AuditedServer, _: Server) -> None:
        response = await audited.ask("GET", CONFIG_MAPS, None, {"audit_id": "mine", "user_agent": "k/1"})
        assert ("Audit-Id", "mine") in response.headers
        first, last = await audited.events()
        assert first["auditID"] == last["auditID"] == "mine"
        assert (first["stage"], last["stage"]) == ("RequestReceived", "ResponseComplete")
        assert first["userAgent"] == "k/1"

    auditing(scenario, tmp_path, policy({"level": "Metadata"}))


def test_what_admission_says_is_in_the_event(tmp_path: Path) -> None:
    async def scenario(audited: AuditedServer, server: Server) -> None:
        inner = server.assembly.api.hooks.admission.validate

        async def validate(request: AdmissionRequest) -> None:
            request.annotate("plugin.example.com/why", "because")
            request.annotate("plugin.example.com/why", "too late")
            await inner(request)

        server.assembly.api.hooks.admission.validate = validate  # type: ignore[method-assign]
        await audited.ask("POST", CONFIG_MAPS, config_map("a"), {})
        _, last = await audited.events()
        assert last["annotations"] == {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": "",
            "plugin.example.com/why": "because",
        }

    auditing(scenario, tmp_path, policy({"level": "Metadata"}))


def test_a_fault_of_the_server_is_a_panic(tmp_path: Path) -> None:
    async def scenario(audited: AuditedServer, server: Server) -> None:
        async def validate(_: AdmissionRequest) -> None:
            raise RuntimeError("as it happens")

        server.assembly.api.hooks.admission.validate = validate  # type: ignore[method-assign]
        assert (await audited.ask("POST", CONFIG_MAPS, config_map("a"), {})).status == 500
        _, last = await audited.events()
        assert (last["stage"], last["responseStatus"]["code"]) == ("Panic", 500)

    auditing(scenario, tmp_path, policy({"level": "Metadata"}))


def test_what_is_answered_at_once_is_audited_alike(tmp_path: Path) -> None:
    async def scenario(audited: AuditedServer, server: Server) -> None:
        await audited.ask("POST", CONFIG_MAPS, config_map("a"), {})
        await audited.events()
        for path in (f"{CONFIG_MAPS}/a", f"{CONFIG_MAPS}/none"):
            whole = await audited.ask("GET", path, None, {"audit_id": "mine"})
            told = await audited.events()
            request = HttpRequest("GET", path, "", {"audit-id": "mine", "content-type": "application/json"}, b"",
                                  remote="127.0.0.1:4711")  # fmt: skip
            at_once = server.handler.immediate(request)
            assert at_once is not None and (at_once.status, at_once.headers) == (whole.status, whole.headers)
            assert [plain(event) for event in await audited.events()] == [plain(event) for event in told]
            assert len(told) == 2
        assert server.handler.immediate(HttpRequest("GET", "/api/v1/namespaces/default", "", {}, b"")) is not None
        assert await audited.events() == []

    metadata = {"level": "RequestResponse", "resources": [{"group": "", "resources": ["configmaps"]}]}
    auditing(scenario, tmp_path, policy(metadata))


def test_who_is_not_known_is_audited_once(tmp_path: Path) -> None:
    async def scenario(audited: AuditedServer, server: Server) -> None:
        def identify(_: HttpRequest) -> User:
            raise Unauthorized("Unauthorized")

        server.handler.identify = identify
        assert (await audited.ask("GET", CONFIG_MAPS, None, {})).status == 401
        (event,) = await audited.events()
        assert event["stage"] == "ResponseStarted"
        assert event["user"] == {}
        assert event["responseStatus"]["code"] == 401

    auditing(scenario, tmp_path, policy({"level": "Metadata"}))


def test_a_client_that_goes_is_told_of(tmp_path: Path) -> None:
    async def scenario(audited: AuditedServer, server: Server) -> None:
        server.slow_writes(50.0)
        going = asyncio.create_task(audited.ask("POST", CONFIG_MAPS, config_map("a"), {}))
        await asyncio.sleep(1)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        *_, last = await audited.events()
        assert last["responseStatus"]["message"] == "Connection closed early"

    auditing(scenario, tmp_path, policy({"level": "Metadata"}))


def test_stages_and_managed_fields_can_be_left_out(tmp_path: Path) -> None:
    async def scenario(audited: AuditedServer, _: Server) -> None:
        await audited.ask("POST", CONFIG_MAPS, config_map("a"), {})
        (event,) = await audited.events()
        assert event["stage"] == "ResponseComplete"
        assert "managedFields" not in event["responseObject"]["metadata"]
        await audited.ask("GET", "/api/v1/namespaces/default/secrets", None, {})
        assert await audited.events() == []

    first = {"level": "RequestResponse", "resources": [{"resources": ["configmaps"]}]}
    auditing(scenario, tmp_path, {**policy(first), "omitStages": ["RequestReceived"], "omitManagedFields": True})


def test_without_a_policy_nothing_is_written() -> None:
    async def scenario(server: Server) -> None:
        response = await server.ask("GET", CONFIG_MAPS)
        assert not any(name == "Audit-Id" for name, _ in response.headers)

    serving(scenario)


def policy(*rules: Any) -> dict[str, Any]:
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules)}


JANE = User("jane", ("team", "system:authenticated"))
SECRET = Attributes(JANE, "get", "", "v1", "secrets", "", "prod", "token", "/api/v1/namespaces/prod/secrets/token")
LOG = replace(SECRET, resource="pods", subresource="log", name="p")
PAGE = Attributes(JANE, "get", path="/healthz/etcd")


@pytest.mark.parametrize(
    ("rule", "asked", "matches"),
    [
        ({}, SECRET, True),
        ({"users": ["jane"]}, SECRET, True),
        ({"users": ["joe"]}, SECRET, False),
        ({"userGroups": ["team"]}, SECRET, True),
        ({"userGroups": ["others"]}, SECRET, False),
        ({"verbs": ["list", "watch"]}, SECRET, False),
        ({"namespaces": ["prod"]}, SECRET, True),
        ({"namespaces": [""]}, SECRET, False),
        ({"namespaces": ["prod"]}, PAGE, False),
        ({"resources": [{"group": ""}]}, SECRET, True),
        ({"resources": [{"group": "apps"}]}, SECRET, False),
        ({"resources": [{"group": "*", "resources": ["secrets"]}]}, SECRET, True),
        ({"resources": [{"resources": ["secrets"], "resourceNames": ["token"]}]}, SECRET, True),
        ({"resources": [{"resources": ["secrets"], "resourceNames": ["other"]}]}, SECRET, False),
        ({"resources": [{"resources": ["pods"]}]}, LOG, False),
        ({"resources": [{"resources": ["pods/log"]}]}, LOG, True),
        ({"resources": [{"resources": ["pods/*"]}]}, LOG, True),
        ({"resources": [{"resources": ["*/log"]}]}, LOG, True),
        ({"nonResourceURLs": ["/healthz*"]}, PAGE, True),
        ({"nonResourceURLs": ["/livez"]}, PAGE, False),
        ({"nonResourceURLs": ["*"]}, SECRET, False),
    ],
)
def test_which_rule_is_for_a_request(rule: Any, asked: Attributes, matches: bool) -> None:
    assert (read_policy(policy({"level": "Request", **rule})).rule(asked).level == 2) is matches


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "must be a Policy"),
        (policy(), "0 rules"),
        (policy({}), "rules[0].level: Required value"),
        (policy({"level": "Everything"}), 'Unsupported value: "Everything"'),
        (policy({"level": "None", "nonResourceURLs": ["healthz"]}), "must begin with a '/'"),
        (policy({"level": "None", "nonResourceURLs": ["/a*b"]}), "must be the final character"),
        (policy({"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["b"]}), "cannot apply to both"),
        (policy({"level": "None", "resources": [{"group": "apps/v1"}]}), "lowercase RFC 1123 subdomain"),
        (policy({"level": "None", "resources": [{"resourceNames": ["a"]}]}), "requires at least one resource"),
        (policy({"level": "None", "omitStages": ["Never"]}), "allowed stages are"),
        (policy({"level": "None", "user": ["a"]}), 'unknown field "user"'),
    ],
)
def test_what_is_no_policy(document: Any, why: str) -> None:
    with pytest.raises(BadPolicy, match=r".*") as error:
        read_policy(document)
    assert why in str(error.value)


def test_a_policy_that_is_none_is_told_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    with pytest.raises(UserError, match="can't be read"):
        audit_policy(path)
    path.write_text("kind: Pod\n")
    with pytest.raises(UserError, match="must be a Policy"):
        audit_policy(path)


def test_the_log_is_rotated_and_old_ones_go(tmp_path: Path) -> None:
    async def main() -> None:
        clock = ManualClock()
        file = RotatingFile(tmp_path / "audit.log", clock, 100, 2, 0)
        for index in range(6):
            file.write(b"%059d\n" % index)
            await asyncio.sleep(0)
            clock.advance(1)
        file.close()
        aside = sorted(tmp_path.glob("audit-*.log"))
        assert [int(path.read_text()) for path in (*aside, tmp_path / "audit.log")] == [3, 4, 5]
        assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600
        aged = RotatingFile(tmp_path / "audit.log", clock, 100, 0, 1)
        clock.advance(2 * 86400)
        aged.write(b"x" * 90)
        await asyncio.sleep(0)
        aged.close()
        assert [path.read_text()[:1] for path in tmp_path.glob("audit-*.log")] == ["0"]

    asyncio.run(main())
