"""Who asks: client certificate, bearer token, or nobody.

A credential that is given but wrong is refused (401), never taken for anonymous. One that holds is enough where several
are given, as upstream. Anonymous requests are let in everywhere, nowhere, or to some paths only.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import partial

from atoll.base.clock import Clock
from atoll.base.errors import Unauthorized
from atoll.base.recent import Recent
from atoll.cluster.apiserver.access.client_certificates import is_trusted, user_of_certificate, validity
from atoll.cluster.apiserver.access.tokens import Known, TokenAuthenticator, TokenChain, TokenRefused
from atoll.cluster.apiserver.ports import ANONYMOUS, MustWait, User
from atoll.wire.messages import HttpRequest

_WEBSOCKET = "base64url.bearer.authorization.k8s.io."
_KEPT = 1024
_Remembered = tuple[User, Callable[[], bool], tuple[TokenAuthenticator, ...]]


class Authenticator:
    """`client_ca_pem`: who may sign client certificates; None: the TLS layer has looked at that.

    `anonymous`: the paths on which nobody is let in as somebody; None: all.
    """

    def __init__(
        self,
        tokens: TokenChain,
        clock: Clock,
        *,
        client_ca_pem: bytes | None = None,
        anonymous: Sequence[str] | None = None,
    ) -> None:
        self.tokens = tokens
        self.anonymous = anonymous
        self._known: Recent[str, _Remembered] = Recent(_KEPT)
        self._clock = clock
        self._client_ca_pem = client_ca_pem

    def authenticate(self, request: HttpRequest) -> User:
        """Raises Unauthorized for a credential that does not hold, MustWait where another program knows the token."""
        if request.peer_certificate is not None:
            user = self._certified(request.peer_certificate)
            if user is not None:
                return user
        header = request.headers.get("authorization")
        if header is not None:
            remembered = self._known.get(header)
            if remembered is not None:
                known, holds, authenticators = remembered
                if authenticators is self.tokens.authenticators and holds():
                    return known
        token, given = _token(request)
        if token:
            try:
                return self._bearer(token, header)
            except TokenRefused:
                raise Unauthorized("Unauthorized") from None
            except MustWait as waiting:
                raise MustWait(partial(_waited, waiting)) from None
        if given or request.peer_certificate is not None:
            raise Unauthorized("Unauthorized")
        if self.anonymous is not None and request.path not in self.anonymous:
            raise Unauthorized("Unauthorized")
        return ANONYMOUS

    def _bearer(self, token: str, header: str | None) -> User:
        """Remembered where the token can tell by itself whether it still holds. Raises TokenRefused, MustWait.

        That passes by the authenticators before the one that knew it: those that others configure come after all whose
        tokens can be remembered.
        """
        known = self.tokens.authenticate(token)
        if header is not None and known.holds is not None:
            self._known.put(header, (known.user, known.holds, self.tokens.authenticators))
        return known.user

    def _certified(self, der: bytes) -> User | None:
        """None for one that does not hold."""
        if self._client_ca_pem is not None and not is_trusted(der, self._client_ca_pem):
            return None
        begins, ends = validity(der)
        return user_of_certificate(der) if begins <= self._clock.wall() <= ends else None


async def _waited(waiting: MustWait) -> User:
    try:
        known: Known = await waiting.finish()
    except TokenRefused:
        raise Unauthorized("Unauthorized") from None
    return known.user


def _token(request: HttpRequest) -> tuple[str, bool]:
    """(the bearer token, whether any credential was given)."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        return (token.strip() if scheme.lower() == "bearer" else ""), True
    protocols = request.headers.get("sec-websocket-protocol", "")
    if _WEBSOCKET not in protocols:
        return "", False
    for protocol in protocols.split(","):  # a browser's WebSocket can't set headers
        encoded = protocol.strip().removeprefix(_WEBSOCKET)
        if encoded != protocol.strip():
            try:
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode(), True
            except ValueError:
                break
    return "", True
