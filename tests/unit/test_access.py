"""RBAC, escalation, tokens and impersonation over a memory store."""

from __future__ import annotations

import asyncio

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.base.errors import Forbidden, Unauthorized
from atoll.cluster.apiserver.access import escalation
from atoll.cluster.apiserver.access.authentication import Authenticator
from atoll.cluster.apiserver.access.authorizers import AuthorizerChain
from atoll.cluster.apiserver.access.bootstrap import default_rbac
from atoll.cluster.apiserver.access.impersonation import impersonate
from atoll.cluster.apiserver.access.nodes import NodeAuthorizer
from atoll.cluster.apiserver.access.rbac import RbacAuthorizer
from atoll.cluster.apiserver.access.service_accounts import ServiceAccountTokens
from atoll.cluster.apiserver.access.tokens import AccountTokens, StaticTokens, TokenChain
from atoll.cluster.apiserver.ports import ANONYMOUS, AdmissionRequest, Attributes, User
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import ABSENT, Key
from atoll.kinds.builtin import CLUSTER_ROLES
from atoll.wire.ca import CertificateAuthority
from atoll.wire.messages import HttpRequest

ALICE = User("alice", ("devs", "system:authenticated"))
PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Role": "roles",
    "RoleBinding": "rolebindings",
}


async def put(store: MemoryStore, obj: dict) -> None:
    plural = PLURALS.get(obj["kind"])
    resource = f"{plural}.rbac.authorization.k8s.io" if plural else obj["kind"].lower() + "s"
    metadata = obj["metadata"]
    metadata.setdefault("uid", f"uid-{metadata['name']}")
    await store.write(Key(resource, metadata.get("namespace", ""), metadata["name"]), ABSENT, obj)


def new_store() -> MemoryStore:
    return MemoryStore(ManualClock())


async def with_defaults() -> tuple[MemoryStore, RbacAuthorizer]:
    store = new_store()
    for obj in default_rbac():
        await put(store, obj)
    return store, RbacAuthorizer(store)


def binding(name: str, role: str, subject: dict, namespace: str = "", kind: str = "ClusterRole") -> dict:
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [subject],
    }


def test_default_roles_deny_a_plain_user_and_anonymous_sees_health_only():
    async def check() -> None:
        _, authorizer = await with_defaults()
        assert not authorizer.authorize(Attributes(ALICE, "get", "", "v1", "pods", namespace="a")).allowed
        assert authorizer.authorize(Attributes(ANONYMOUS, "get", path="/healthz")).allowed
        assert authorizer.authorize(Attributes(ANONYMOUS, "get", path="/version")).allowed
        assert not authorizer.authorize(Attributes(ANONYMOUS, "get", path="/api")).allowed
        assert authorizer.authorize(Attributes(ALICE, "get", path="/api")).allowed

    asyncio.run(check())


def test_a_binding_holds_once_written_and_only_in_its_namespace():
    async def check() -> None:
        store, authorizer = await with_defaults()
        asked = Attributes(ALICE, "create", "apps", "v1", "deployments", namespace="a", name="x")
        assert not authorizer.authorize(asked).allowed
        await put(store, binding("edit", "edit", {"kind": "Group", "name": "devs"}, "a"))
        decision = authorizer.authorize(asked)
        assert decision.allowed
        assert decision.reason == 'RBAC: allowed by RoleBinding "edit/a" of ClusterRole "edit" to Group "devs"'
        assert not authorizer.authorize(Attributes(ALICE, "create", "apps", "v1", "deployments", namespace="b")).allowed
        assert authorizer.authorize(
            Attributes(ALICE, "update", "apps", "v1", "deployments", "scale", namespace="a", name="x")
        ).allowed
        nodes = Attributes(ALICE, "get", "", "v1", "nodes", namespace="a")
        assert not authorizer.authorize(nodes).allowed

    asyncio.run(check())


def test_resource_names_limit_a_rule():
    async def check() -> None:
        store, authorizer = await with_defaults()
        rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"]}
        await put(store, {"kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [rule]})
        await put(store, binding("b", "r", {"kind": "User", "name": "alice"}))
        ask = lambda name: authorizer.authorize(Attributes(ALICE, "get", "", "v1", "secrets", namespace="n", name=name))
        assert ask("one").allowed
        assert not ask("two").allowed

    asyncio.run(check())


def role_write(rules: list[dict], user: User = ALICE) -> AdmissionRequest:
    obj = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "new"},
        "rules": rules,
    }
    return AdmissionRequest("CREATE", CLUSTER_ROLES, "", "", "new", obj, None, user, False, {}, [])


def test_nobody_grants_what_he_does_not_hold():
    async def check() -> None:
        store, authorizer = await with_defaults()
        own = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
        await put(store, {"kind": "ClusterRole", "metadata": {"name": "mine"}, "rules": [own]})
        await put(store, binding("mine", "mine", {"kind": "User", "name": "alice"}))
        await escalation.check(authorizer, authorizer, role_write([{**own, "verbs": ["get"]}]))
        with pytest.raises(Forbidden) as caught:
            await escalation.check(authorizer, authorizer, role_write([{**own, "verbs": ["get", "delete", "watch"]}]))
        assert caught.value.message == (
            'clusterroles.rbac.authorization.k8s.io "new" is forbidden: user "alice" '
            '(groups=["devs" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n'
            '{APIGroups:[""], Resources:["pods"], Verbs:["delete" "watch"]}'
        )
        await escalation.check(
            authorizer, authorizer, role_write([{**own, "verbs": ["*"]}], User("root", ("system:masters",)))
        )

    asyncio.run(check())


def new_tokens(store: MemoryStore, clock: ManualClock) -> ServiceAccountTokens:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ServiceAccountTokens(key, store, clock, Chance(1))


def test_a_token_dies_with_time_and_with_what_it_is_bound_to():
    async def check() -> None:
        store, clock = new_store(), ManualClock()
        tokens = new_tokens(store, clock)
        account = {"kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "n"}}
        await put(store, account)
        pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": {}}
        await put(store, pod)
        token, _ = tokens.issue(account, [], 600, {"kind": "Pod", "name": "p", "uid": "uid-p"})
        verified, audiences = tokens.verify(token)
        user = verified.user
        assert verified.holds() and user.name == "system:serviceaccount:n:bot"
        assert "system:serviceaccounts:n" in user.groups
        assert audiences == [tokens.issuer]
        assert tokens.verify(token, ["else"]) is None
        assert tokens.verify(token[:-4] + "AAAA") is None
        clock.advance(601)
        assert tokens.verify(token) is None and not verified.holds()
        fresh, _ = tokens.issue(account, [], 600, {"kind": "Pod", "name": "p", "uid": "uid-p"})
        record = store.get(Key("pods", "n", "p"))
        await store.write(record.key, record.version, None)
        assert tokens.verify(fresh) is None

    asyncio.run(check())


def test_a_remembered_token_is_looked_at_each_time():
    async def check() -> None:
        store, clock = new_store(), ManualClock()
        tokens = new_tokens(store, clock)
        account = {"kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "n"}}
        pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": {}}
        await put(store, account)
        await put(store, pod)
        chain = TokenChain([StaticTokens({"secret": ALICE}), AccountTokens(tokens)])
        authenticator = Authenticator(chain, clock)

        def known(token: str) -> str:
            return authenticator.authenticate(request(authorization=f"Bearer {token}")).name

        free, _ = tokens.issue(account, [], 600, None)
        bound, _ = tokens.issue(account, [], 6000, {"kind": "Pod", "name": "p", "uid": "uid-p"})
        for token in (free, bound, free, bound):
            assert known(token) == "system:serviceaccount:n:bot"
        clock.advance(599)
        assert known(free) == "system:serviceaccount:n:bot"
        clock.advance(1)
        with pytest.raises(Unauthorized):
            known(free)
        assert known(bound) == "system:serviceaccount:n:bot"
        record = store.get(Key("pods", "n", "p"))
        await store.write(record.key, record.version, None)
        with pytest.raises(Unauthorized):
            known(bound)
        lasting, _ = tokens.issue(account, [], 6000, None)
        assert known(lasting) == "system:serviceaccount:n:bot"
        record = store.get(Key("serviceaccounts", "n", "bot"))
        await store.write(record.key, record.version, None)
        await put(store, {**account, "metadata": {**account["metadata"], "uid": "another"}})
        with pytest.raises(Unauthorized):
            known(lasting)
        assert known("secret") == "alice"
        chain.authenticators = chain.authenticators[1:]
        with pytest.raises(Unauthorized):
            known("secret")

    asyncio.run(check())


def request(**headers: str) -> HttpRequest:
    return HttpRequest("GET", "/", "", {key.replace("_", "-"): value for key, value in headers.items()}, b"")


def test_a_wrong_credential_is_refused_not_taken_for_anonymous():
    authenticator = Authenticator(TokenChain([StaticTokens({"secret": ALICE})]), ManualClock())
    assert authenticator.authenticate(request()) == ANONYMOUS
    assert authenticator.authenticate(request(authorization="Bearer secret")) == ALICE
    for header in ("Bearer wrong", "Basic c2VjcmV0", "Bearer "):
        with pytest.raises(Unauthorized):
            authenticator.authenticate(request(authorization=header))


def test_impersonation_needs_the_right_for_user_and_each_group():
    async def check() -> None:
        store, authorizer = await with_defaults()
        asked = request(impersonate_user="bob", impersonate_group="ops")
        with pytest.raises(Forbidden) as caught:
            impersonate(asked, ALICE, authorizer)
        assert caught.value.message == (
            'users "bob" is forbidden: User "alice" cannot impersonate resource "users" in API group "" '
            "at the cluster scope"
        )
        rule = {"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]}
        await put(store, {"kind": "ClusterRole", "metadata": {"name": "imp"}, "rules": [rule]})
        await put(store, binding("imp", "imp", {"kind": "User", "name": "alice"}))
        assert impersonate(asked, ALICE, authorizer) == User("bob", ("ops", "system:authenticated"))

    asyncio.run(check())


def test_a_certificate_counts_only_in_its_time():
    clock = ManualClock()
    certified = CertificateAuthority.create("ca", clock).client("alice", organizations=["devs"], days=1)
    der = x509.load_pem_x509_certificate(certified.certificate_pem).public_bytes(serialization.Encoding.DER)
    asked = HttpRequest("GET", "/", "", {}, b"", peer_certificate=der)
    authenticator = Authenticator(TokenChain([]), clock)
    assert (authenticator.authenticate(asked).name, authenticator.authenticate(asked).groups[0]) == ("alice", "devs")
    clock.advance(86401)
    with pytest.raises(Unauthorized):
        authenticator.authenticate(asked)


def test_a_group_with_a_comma_is_one_group():
    """Else a client certificate's group could smuggle another one in."""

    async def check() -> None:
        _, authorizer = await with_defaults()
        admin = User("admin", ("system:masters", "system:authenticated"))
        headers = {"impersonate-user": "jane", "impersonate-group": "x, system:masters"}
        one = HttpRequest("GET", "/", "", headers, b"")
        assert "system:masters" not in impersonate(one, admin, authorizer).groups
        both = HttpRequest("GET", "/", "", headers, b"", repeated={"impersonate-group": ["x", "system:masters"]})
        assert impersonate(both, admin, authorizer).groups[:2] == ("x", "system:masters")

    asyncio.run(check())


def test_a_node_sees_only_what_its_pods_name():
    async def check() -> None:
        store, rbac = await with_defaults()
        authorizer = AuthorizerChain([NodeAuthorizer(store), rbac])
        volumes = [{"name": "v", "projected": {"sources": [{"secret": {"name": "mine"}}]}}]
        spec = {"nodeName": "one", "serviceAccountName": "robot", "containers": [], "volumes": volumes}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec}
        await store.write(Key("pods", "d", "p"), ABSENT, pod)

        def may(node: str, verb: str, resource: str, name: str, sub: str = "") -> tuple[bool, str]:
            user = User(f"system:node:{node}", ("system:nodes", "system:authenticated"))
            decision = authorizer.authorize(Attributes(user, verb, "", "v1", resource, sub, "d", name))
            return decision.allowed, decision.reason

        stranger = "no relationship found between node '{}' and this object"
        assert may("one", "get", "secrets", "mine") == (True, "")
        assert may("two", "get", "secrets", "mine") == (False, stranger.format("two"))
        assert may("one", "get", "secrets", "other") == (False, stranger.format("one"))
        assert may("one", "list", "secrets", "") == (False, "No Object name found")
        assert may("one", "create", "serviceaccounts", "robot", "token")[0]
        assert not may("two", "create", "serviceaccounts", "robot", "token")[0]
        assert may("one", "get", "pods", "p")[0]
        assert may("two", "get", "pods", "p") == (False, stranger.format("two"))
        assert may("two", "get", "services", "s")[0]

    asyncio.run(check())
