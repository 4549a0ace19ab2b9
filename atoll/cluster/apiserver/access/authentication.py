"""Who asks: client certificate, bearer token, or nobody; and impersonation on top.

A credential that is given but wrong is refused (401), never taken for anonymous.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote

from atoll.base.clock import Clock
from atoll.base.errors import BadRequest, Forbidden, Unauthorized
from atoll.cluster.apiserver.access.rbac import SERVICE_ACCOUNT_PREFIX
from atoll.cluster.apiserver.access.service_accounts import ServiceAccountTokens
from atoll.cluster.apiserver.ports import ANONYMOUS, Attributes, Authorizer, User
from atoll.wire.messages import HttpRequest

_EXTRA = "impersonate-extra-"


@lru_cache(maxsize=1024)
def user_of_certificate(der: bytes) -> User:
    """CN is the name, each O a group (the TLS layer has verified the chain against the cluster's CA)."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.load_der_x509_certificate(der).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = [str(item.value) for item in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    credential = {"authentication.kubernetes.io/credential-id": (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)}
    return User(str(names[0].value) if names else "", (*groups, "system:authenticated"), extra=credential)


@lru_cache(maxsize=1024)
def _validity(der: bytes) -> tuple[float, float]:
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


class Authenticator:
    """`static_tokens`: token → user, e.g. the administrator's."""

    def __init__(
        self, service_accounts: ServiceAccountTokens | None, static_tokens: Mapping[str, User] | None, clock: Clock
    ) -> None:
        self._service_accounts = service_accounts
        self._static = dict(static_tokens or {})
        self._clock = clock

    def authenticate(self, request: HttpRequest) -> User:
        """Raises Unauthorized for a credential that does not hold."""
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, token = header.partition(" ")
            if scheme.lower() == "bearer":
                user = self.authenticate_token(token.strip())
                if user is not None:
                    return user
                if request.peer_certificate is None:
                    raise Unauthorized("Unauthorized")
            elif request.peer_certificate is None:
                raise Unauthorized("Unauthorized")
        protocols = request.headers.get("sec-websocket-protocol", "")
        if "base64url.bearer.authorization.k8s.io." in protocols and request.peer_certificate is None:
            return self._websocket_user(protocols)
        if request.peer_certificate is not None:
            return self._certified(request.peer_certificate)
        return ANONYMOUS

    def _certified(self, der: bytes) -> User:
        """The TLS layer has verified who signed it, not whether its time is over."""
        begins, ends = _validity(der)
        if not begins <= self._clock.wall() <= ends:
            raise Unauthorized("Unauthorized")
        return user_of_certificate(der)

    def authenticate_token(self, token: str) -> User | None:
        for known, user in self._static.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                return user
        if self._service_accounts is not None:
            found = self._service_accounts.verify(token)
            if found is not None:
                return found[0]
        return None

    def _websocket_user(self, protocols: str) -> User:
        """A browser's WebSocket can't set headers: the token comes as a subprotocol, base64url."""

        for protocol in protocols.split(","):
            encoded = protocol.strip().removeprefix("base64url.bearer.authorization.k8s.io.")
            if encoded != protocol.strip():
                try:
                    token = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
                except ValueError:
                    break
                user = self.authenticate_token(token)
                if user is not None:
                    return user
        raise Unauthorized("Unauthorized")


def impersonate(request: HttpRequest, user: User, authorizer: Authorizer) -> User:
    """The user that the Impersonate-* headers ask for, if `user` may. Raises Forbidden, BadRequest."""
    headers = request.headers
    name = headers.get("impersonate-user", "")
    groups = [group for group in request.values("impersonate-group") if group]
    uid = headers.get("impersonate-uid", "")
    extra = {unquote(key[len(_EXTRA) :]): tuple(request.values(key)) for key in headers if key.startswith(_EXTRA)}
    if not name:
        if groups or uid or extra:
            listed = ", ".join(f'"{group}"' for group in groups)
            shown = f'Name:"", UID:"{uid}", Groups:[]string{{{listed}}}, Extra:map[string][]string(nil)'
            asked = f"&user.DefaultInfo{{{shown}}}"
            raise BadRequest(f"requested {asked} without impersonating a user name")
        return user
    _check(authorizer, user, name, groups, uid, extra)
    return _become(name, groups, uid, extra)


def _check(
    authorizer: Authorizer, user: User, name: str, groups: list[str], uid: str, extra: dict[str, tuple[str, ...]]
) -> None:
    if name.startswith(SERVICE_ACCOUNT_PREFIX) and name.count(":") == 3:
        namespace, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).split(":")
        _may(authorizer, user, "", "serviceaccounts", "", namespace, account)
    else:
        _may(authorizer, user, "", "users", "", "", name)
    for group in groups:
        _may(authorizer, user, "", "groups", "", "", group)
    if uid:
        _may(authorizer, user, "authentication.k8s.io", "uids", "", "", uid)
    for key, values in extra.items():
        for value in values:
            _may(authorizer, user, "authentication.k8s.io", "userextras", key, "", value)


def _may(
    authorizer: Authorizer, user: User, group: str, resource: str, subresource: str, namespace: str, name: str
) -> None:
    asked = Attributes(user, "impersonate", group, "v1", resource, subresource, namespace, name)
    decision = authorizer.authorize(asked)
    if decision.allowed:
        return
    full = f"{resource}/{subresource}" if subresource else resource
    target = f"{full}.{group}" if group else full
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    raise Forbidden(
        f'{target} "{name}" is forbidden: User "{user.name}" cannot impersonate resource "{full}" '
        f'in API group "{group}"{where}',
        details={"name": name, "group": group, "kind": full} if group else {"name": name, "kind": full},
    )


def _become(name: str, groups: list[str], uid: str, extra: dict[str, tuple[str, ...]]) -> User:
    if not groups and name.startswith(SERVICE_ACCOUNT_PREFIX) and name.count(":") == 3:
        namespace = name.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    if name != ANONYMOUS.name and not {"system:authenticated", "system:unauthenticated"} & set(groups):
        groups = [*groups, "system:authenticated"]
    if name == ANONYMOUS.name and "system:unauthenticated" not in groups:
        groups = [*groups, "system:unauthenticated"]
    return User(name, tuple(groups), uid, extra)
