"""Service-account tokens: signed JWTs, bound to an object, verified and reviewed (KEP-1205, KEP-2799).

Tokens are ES256 over the cluster's own key. A token is good while it is unexpired, its service account has the
same uid, and the object it is bound to (pod, secret, node) is there with the same uid. Legacy tokens in Secrets
of type kubernetes.io/service-account-token carry no expiry and die with their Secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.cluster.apiserver.access.rbac import SERVICE_ACCOUNT_PREFIX
from atoll.cluster.apiserver.ports import User
from atoll.cluster.store.port import Key, Store

Object = dict[str, Any]
ISSUER = "https://kubernetes.default.svc.cluster.local"
ALGORITHMS = ["ES256"]
_CLAIM = "kubernetes.io"
_LEEWAY_SECONDS = 10.0  # that a token may come before its time


class Verified:
    """A token whose signature is right. It is good in its time, and while what it is bound to is there."""

    __slots__ = ("_begins", "_bound", "_clock", "_ends", "_store", "user")

    def __init__(
        self,
        store: Store,
        clock: Clock,
        user: User,
        bound: Sequence[tuple[Key, str | None]],
        begins: float = 0.0,
        ends: float = inf,
    ) -> None:
        """`bound`: keys and the uids that must be found there; None: any."""
        self._store = store
        self._clock = clock
        self.user = user
        self._bound = tuple(bound)
        self._begins = begins
        self._ends = ends

    def holds(self) -> bool:
        """Now."""
        if not self._begins <= self._clock.wall() < self._ends:
            return False
        for key, uid in self._bound:
            record = self._store.get(key)
            if record is None or (uid is not None and record.uid != uid):
                return False
        return True


class ServiceAccountTokens:
    """Issues and verifies the tokens of one cluster. `key_pem`: an EC P-256 private key."""

    def __init__(self, key_pem: bytes, store: Store, clock: Clock, chance: Chance, issuer: str = ISSUER) -> None:
        self._key_pem = key_pem
        self._made_key: Any = None
        self._store = store
        self._clock = clock
        self._chance = chance
        self.issuer = issuer
        self._signed: dict[str, Object] = {}

    @property
    def _key(self) -> Any:
        """Read when first needed: a cluster starts without the JOSE library."""
        if self._made_key is None:
            from joserfc.jwk import ECKey

            self._made_key = ECKey.import_key(self._key_pem)
            self._made_key.ensure_kid()
        return self._made_key

    def jwks(self) -> Object:
        """The public keys, for /openid/v1/jwks."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**public, "use": "sig", "alg": ALGORITHMS[0]}]}

    def issue(self, account: Object, audiences: list[str], seconds: int, bound: Object | None) -> tuple[str, float]:
        """(token, expiry in wall seconds). `bound`: {"kind", "name", "uid"} of a Pod, Secret or Node, or None."""
        now = int(self._clock.wall())
        metadata = account["metadata"]
        private: Object = {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
        }
        if bound is not None:
            private[bound["kind"].lower()] = {"name": bound["name"], "uid": bound["uid"]}
            if bound.get("node"):
                private["node"] = bound["node"]
        claims: Object = {
            "aud": audiences or [self.issuer],
            "exp": now + seconds,
            "iat": now,
            "nbf": now,
            "iss": self.issuer,
            "jti": self._chance.uuid(),
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{metadata['namespace']}:{metadata['name']}",
            _CLAIM: private,
        }
        return self._sign(claims), float(now + seconds)

    def issue_legacy(self, account: Object, secret_name: str) -> str:
        """The token of a Secret of type kubernetes.io/service-account-token."""
        metadata = account["metadata"]
        prefix = "kubernetes.io/serviceaccount"
        claims = {
            "iss": "kubernetes/serviceaccount",
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{metadata['namespace']}:{metadata['name']}",
            f"{prefix}/namespace": metadata["namespace"],
            f"{prefix}/secret.name": secret_name,
            f"{prefix}/service-account.name": metadata["name"],
            f"{prefix}/service-account.uid": metadata["uid"],
        }
        return self._sign(claims)

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[Verified, list[str]] | None:
        """(whose it is, matching audiences) of a token that holds, else None. No audiences: the API server's own."""
        claims = self._claims(token)
        if claims is None:
            return None
        asked = audiences or [self.issuer]
        if claims.get("iss") == "kubernetes/serviceaccount":
            verified, given = self._legacy(claims), [self.issuer]
        elif claims.get("iss") == self.issuer:
            verified, given = self._bound(claims), claims.get("aud") or []
        else:
            return None
        matching = [audience for audience in asked if audience in given]
        return (verified, matching) if matching and verified.holds() else None

    def _sign(self, claims: Object) -> str:
        from joserfc import jwt

        return jwt.encode({"alg": ALGORITHMS[0], "kid": self._key.kid}, claims, self._key)

    def _claims(self, token: str) -> Object | None:
        """Signature checked once per token; expiry and bindings each time."""
        known = self._signed.get(token)
        if known is not None:
            return known
        from joserfc import jwt
        from joserfc.errors import JoseError

        try:
            claims = jwt.decode(token, self._key, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError):
            return None
        if len(self._signed) >= 4096:
            self._signed.clear()
        self._signed[token] = claims
        return claims

    def _bound(self, claims: Object) -> Verified:
        private = claims.get(_CLAIM) or {}
        namespace = str(private.get("namespace") or "")
        account = private.get("serviceaccount") or {}
        bound = [_reference("serviceaccounts", namespace, account)]
        bound += [_reference(f"{kind}s", namespace, private[kind]) for kind in ("pod", "secret") if kind in private]
        if "node" in private and "pod" not in private:
            bound.append(_reference("nodes", "", private["node"]))
        user = self._user(private, str(claims.get("jti") or ""))
        begins, ends = float(claims.get("nbf") or 0) - _LEEWAY_SECONDS, float(claims.get("exp") or 0)
        return Verified(self._store, self._clock, user, bound, begins, ends)

    def _user(self, private: Object, token_id: str) -> User:
        namespace, account = str(private.get("namespace") or ""), private.get("serviceaccount") or {}
        extra: dict[str, tuple[str, ...]] = {}
        if token_id:
            extra["authentication.kubernetes.io/credential-id"] = (f"JTI={token_id}",)
        for kind in ("pod", "node"):
            if kind in private:
                extra[f"authentication.kubernetes.io/{kind}-name"] = (str(private[kind].get("name")),)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (str(private[kind].get("uid")),)
        return service_account_user(namespace, str(account.get("name")), str(account.get("uid")), extra)

    def _legacy(self, claims: Object) -> Verified:
        prefix = "kubernetes.io/serviceaccount"
        namespace = str(claims.get(f"{prefix}/namespace"))
        account = {
            "name": claims.get(f"{prefix}/service-account.name"),
            "uid": claims.get(f"{prefix}/service-account.uid"),
        }
        secret = Key("secrets", namespace, str(claims.get(f"{prefix}/secret.name")))
        user = service_account_user(namespace, str(account["name"]), str(account["uid"]), {})
        bound = ((secret, None), _reference("serviceaccounts", namespace, account))
        return Verified(self._store, self._clock, user, bound)


def _reference(resource: str, namespace: str, reference: Object) -> tuple[Key, str]:
    return Key(resource, namespace, str(reference.get("name"))), str(reference.get("uid"))


def service_account_user(namespace: str, name: str, uid: str, extra: dict[str, tuple[str, ...]]) -> User:
    """The identity of a service account."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups, uid, extra)
