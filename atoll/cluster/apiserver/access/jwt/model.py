"""AuthenticationConfiguration (apiserver.config.k8s.io): read and checked as kube-apiserver does.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from atoll.base.errors import UserError
from atoll.cluster.apiserver.access import documents
from atoll.cluster.apiserver.access.jwt import reading
from atoll.cluster.apiserver.access.jwt.rules import Rules
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, duplicate, required

Object = dict[str, Any]
KIND = "AuthenticationConfiguration"
_CLAIM = {"claim": str, "prefix": str, "expression": str}
_SHAPE: Object = {
    "jwt": [
        {
            "issuer": {
                "url": str, "discoveryURL": str, "certificateAuthority": str, "audiences": [str],
                "audienceMatchPolicy": str, "egressSelectorType": str,
            },
            "claimValidationRules": [{"claim": str, "requiredValue": str, "expression": str, "message": str}],
            "claimMappings": {
                "username": _CLAIM, "groups": _CLAIM, "uid": {"claim": str, "expression": str},
                "extra": [{"key": str, "valueExpression": str}],
            },
            "userValidationRules": [{"expression": str, "message": str}],
        }
    ],
    "anonymous": {"enabled": bool, "conditions": [{"path": str}]},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Issuer:
    url: str
    discovery_url: str
    ca_pem: bytes | None
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JwtConfig:
    issuer: Issuer
    rules: Rules


@dataclass(frozen=True, slots=True)
class AuthenticationConfig:
    """`anonymous`: paths on which anonymous requests are let in; None: all."""

    jwt: tuple[JwtConfig, ...] = ()
    anonymous: tuple[str, ...] | None = None


def parse(text: str, source: str, own_issuers: Sequence[str] = ()) -> AuthenticationConfig:
    """`own_issuers`: of service accounts, which no provider may be. Raises UserError with all that is wrong."""
    document = documents.read(text, source, KIND, _SHAPE)
    errors: list[Cause] = []
    items = document.get("jwt") or []
    if len(items) > 64:
        errors.append(Cause("FieldValueTooMany", f"Too many: {len(items)}: must have at most 64 items", "jwt"))
    found = []
    urls: set[str] = set()
    discoveries: set[str] = set()
    for index, item in enumerate(items):
        path = f"jwt[{index}]"
        config = _jwt(errors, path, item or {}, own_issuers)
        found.append(config)
        if config.issuer.url in urls:
            errors.append(duplicate(f"{path}.issuer.url", config.issuer.url))
        urls.add(config.issuer.url)
        given = ((item or {}).get("issuer") or {}).get("discoveryURL") or ""
        if given:
            if given in discoveries:
                errors.append(duplicate(f"{path}.issuer.discoveryURL", given))
            discoveries.add(given)
    anonymous = _anonymous(errors, document.get("anonymous"))
    documents.refuse(source, errors)
    return AuthenticationConfig(tuple(found), anonymous)


def _anonymous(errors: list[Cause], given: Object | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    enabled = bool(given.get("enabled"))
    conditions = given.get("conditions") or []
    if not enabled and conditions:
        why = "enabled should be set to true when conditions are defined"
        errors.append(bad_value("anonymous.conditions", conditions, why))
    if not enabled:
        return ()
    return tuple(str(item.get("path") or "") for item in conditions) if conditions else None


def _jwt(errors: list[Cause], path: str, item: Object, own_issuers: Sequence[str]) -> JwtConfig:
    issuer = _issuer(errors, f"{path}.issuer", item.get("issuer") or {}, own_issuers)
    return JwtConfig(issuer, reading.read(errors, path, item))


def _issuer(errors: list[Cause], path: str, given: Object, own_issuers: Sequence[str]) -> Issuer:
    url, discovery = given.get("url") or "", given.get("discoveryURL") or ""
    if not url:
        errors.append(required(f"{path}.url"))
    else:
        _url(errors, f"{path}.url", url, own_issuers)
    if discovery:
        if url and url.rstrip("/") == discovery.rstrip("/"):
            errors.append(bad_value(f"{path}.discoveryURL", discovery, "discoveryURL must be different from URL"))
        _url(errors, f"{path}.discoveryURL", discovery, ())
    audiences = given.get("audiences") or []
    _audiences(errors, path, audiences, given.get("audienceMatchPolicy") or "")
    authority = given.get("certificateAuthority") or ""
    if authority and not _is_pem(authority):
        why = "data does not contain any valid RSA or ECDSA certificates"
        errors.append(bad_value(f"{path}.certificateAuthority", "<omitted>", why))
    egress = given.get("egressSelectorType") or ""
    if egress and egress not in ("controlplane", "cluster"):
        why = "egress selector must be either controlplane or cluster"
        errors.append(bad_value(f"{path}.egressSelectorType", egress, why))
    known = discovery or url.removesuffix("/") + "/.well-known/openid-configuration"
    return Issuer(url, known, authority.encode() or None, tuple(audiences))


def _url(errors: list[Cause], path: str, url: str, own_issuers: Sequence[str]) -> None:
    if url in own_issuers:
        why = f"URL must not overlap with disallowed issuers: [{' '.join(sorted(own_issuers))}]"
        errors.append(bad_value(path, url, why))
    try:
        parts: SplitResult = urlsplit(url)
    except ValueError as error:
        errors.append(bad_value(path, url, str(error)))
        return
    for wrong, why in (
        (parts.scheme != "https", "URL scheme must be https"),
        ("@" in parts.netloc, "URL must not contain a username or password"),
        (parts.query, "URL must not contain a query"),
        (parts.fragment, "URL must not contain a fragment"),
    ):
        if wrong:
            errors.append(bad_value(path, url, why))


def _audiences(errors: list[Cause], path: str, audiences: list[str], policy: str) -> None:
    at = f"{path}.audiences"
    if not audiences:
        errors.append(required(at, f"at least one {at} is required"))
        return
    seen: set[str] = set()
    for index, audience in enumerate(audiences):
        if not audience:
            errors.append(required(f"{at}[{index}]"))
        if audience in seen:
            errors.append(duplicate(f"{at}[{index}]", audience))
        seen.add(audience)
    if len(audiences) > 1 and policy != "MatchAny":
        why = "audienceMatchPolicy must be MatchAny for multiple audiences"
        errors.append(bad_value(f"{path}.audienceMatchPolicy", policy, why))
    if len(audiences) == 1 and policy not in ("", "MatchAny"):
        why = "audienceMatchPolicy must be empty or MatchAny for single audience"
        errors.append(bad_value(f"{path}.audienceMatchPolicy", policy, why))


def _is_pem(text: str) -> bool:
    from atoll.wire.tls import client_context

    try:
        client_context(ca_pem=text.encode())
    except UserError:
        return False
    return True
