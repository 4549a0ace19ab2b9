"""Service-account tokens: signed JWTs, bound to an object, verified and reviewed (KEP-1205, KEP-2799).

Tokens are ES256 over the cluster's own key. A token is good while it is unexpired, its service account has the
same uid, and the object it is bound to (pod, secret, node) is there with the same uid. Legacy tokens in Secrets
of type kubernetes.io/service-account-token carry no expiry and die with their Secret.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.cluster.apiserver.access.rbac import SERVICE_ACCOUNT_PREFIX
from atoll.cluster.apiserver.ports import User
from atoll.cluster.store.port import Key, Store

Object = dict[str, Any]
ISSUER = "https://kubernetes.default.svc.cluster.local"
ALGORITHMS = ["ES256"]
_CLAIM = "kubernetes.io"


class _Held(Struct, frozen=True):
    """The outcome for a token that is bound to no other object; good while no service account has changed since."""

    user: User
    begins: float
    ends: float
    accounts: int  # the last change of service accounts


class ServiceAccountTokens:
    """Issues and verifies the tokens of one cluster. `key_pem`: an EC P-256 private key."""

    def __init__(self, key_pem: bytes, store: Store, clock: Clock, chance: Chance, issuer: str = ISSUER) -> None:
        self._key_pem = key_pem
        self._made_key: Any = None
        self._store = store
        self._clock = clock
        self._chance = chance
        self.issuer = issuer
        self._verified: dict[str, tuple[float, Object]] = {}
        self._held: dict[str, _Held] = {}

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

    def verify(self, token: str, audiences: list[str] | None = None) -> tuple[User, list[str]] | None:
        """(user, matching audiences) of a good token, else None."""
        if audiences is None:
            held = self._held.get(token)
            if held is not None and held.accounts == self._store.last_change("serviceaccounts"):
                if held.begins <= self._clock.wall() < held.ends:
                    return held.user, [self.issuer]
                del self._held[token]
        claims = self._claims(token)
        if claims is None:
            return None
        if claims.get("iss") == "kubernetes/serviceaccount":
            return self._legacy_user(claims, audiences)
        if claims.get("iss") != self.issuer:
            return None
        wall = self._clock.wall()
        if wall >= float(claims.get("exp") or 0) or wall + 10 < float(claims.get("nbf") or 0):
            return None
        asked = audiences or [self.issuer]
        given = claims.get("aud") or []
        matching = [audience for audience in asked if audience in given]
        private = claims.get(_CLAIM) or {}
        if not matching or not self._holds(private):
            return None
        user = self._user(private, str(claims.get("jti") or ""))
        if audiences is None and private.keys().isdisjoint(("pod", "secret", "node")):
            if len(self._held) >= 4096:
                self._held.clear()
            begins, ends = float(claims.get("nbf") or 0) - 10, float(claims.get("exp") or 0)
            self._held[token] = _Held(user, begins, ends, self._store.last_change("serviceaccounts"))
        return user, matching

    def _sign(self, claims: Object) -> str:
        from joserfc import jwt

        return jwt.encode({"alg": ALGORITHMS[0], "kid": self._key.kid}, claims, self._key)

    def _claims(self, token: str) -> Object | None:
        """Signature checked once per token; expiry and bindings each time."""
        known = self._verified.get(token)
        if known is not None:
            return known[1]
        from joserfc import jwt
        from joserfc.errors import JoseError

        try:
            claims = jwt.decode(token, self._key, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError):
            return None
        if len(self._verified) >= 4096:
            self._verified.clear()
        self._verified[token] = (self._clock.monotonic(), claims)
        return claims

    def _same(self, resource: str, namespace: str, reference: Object) -> bool:
        record = self._store.get(Key(resource, namespace, str(reference.get("name"))))
        return record is not None and record.uid == reference.get("uid")

    def _holds(self, private: Object) -> bool:
        namespace = str(private.get("namespace") or "")
        if not self._same("serviceaccounts", namespace, private.get("serviceaccount") or {}):
            return False
        for kind in ("pod", "secret"):
            if kind in private and not self._same(f"{kind}s", namespace, private[kind]):
                return False
        return "node" not in private or "pod" in private or self._same("nodes", "", private["node"])

    def _user(self, private: Object, token_id: str) -> User:
        namespace, account = private["namespace"], private["serviceaccount"]
        extra: dict[str, tuple[str, ...]] = {}
        if token_id:
            extra["authentication.kubernetes.io/credential-id"] = (f"JTI={token_id}",)
        for kind in ("pod", "node"):
            if kind in private:
                extra[f"authentication.kubernetes.io/{kind}-name"] = (private[kind]["name"],)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (private[kind]["uid"],)
        return service_account_user(namespace, account["name"], account["uid"], extra)

    def _legacy_user(self, claims: Object, audiences: list[str] | None) -> tuple[User, list[str]] | None:
        if audiences and self.issuer not in audiences:
            return None
        prefix = "kubernetes.io/serviceaccount"
        namespace = str(claims.get(f"{prefix}/namespace"))
        account = {
            "name": claims.get(f"{prefix}/service-account.name"),
            "uid": claims.get(f"{prefix}/service-account.uid"),
        }
        secret = self._store.get(Key("secrets", namespace, str(claims.get(f"{prefix}/secret.name"))))
        if secret is None or not self._same("serviceaccounts", namespace, account):
            return None
        return service_account_user(namespace, str(account["name"]), str(account["uid"]), {}), [self.issuer]


def service_account_user(namespace: str, name: str, uid: str, extra: dict[str, tuple[str, ...]]) -> User:
    """The identity of a service account."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups, uid, extra)
