"""The issuer of service-account tokens as an OpenID provider: its discovery document and its public keys.

For whoever verifies a service account's token without asking the API server (OpenID Connect Discovery 1.0, RFC 7517,
KEP-1393). Both pages go through authorisation like any other path: the default role
system:service-account-issuer-discovery, bound to every service account, may read them. The keys' address is on the
issuer's own host, which pods resolve and whose certificate they trust.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from atoll.cluster.apiserver.access.service_accounts import ALGORITHMS, ServiceAccountTokens
from atoll.wire.messages import HttpRequest, HttpResponse

CONFIGURATION = "/.well-known/openid-configuration"
KEYS = "/openid/v1/jwks"
_CACHE = ("Cache-Control", "public, max-age=3600")


def issuer_pages(tokens: ServiceAccountTokens) -> dict[str, Callable[[HttpRequest], HttpResponse]]:
    """Both, by path."""

    def configuration(request: HttpRequest) -> HttpResponse:
        document = {
            "issuer": tokens.issuer,
            "jwks_uri": tokens.issuer + KEYS,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ALGORITHMS,
        }
        return HttpResponse(200, [("Content-Type", "application/json"), _CACHE], orjson.dumps(document))

    def keys(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, [("Content-Type", "application/jwk-set+json"), _CACHE], orjson.dumps(tokens.jwks()))

    return {CONFIGURATION: configuration, KEYS: keys}
