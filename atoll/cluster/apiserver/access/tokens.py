"""Bearer tokens: each kind of token is an authenticator, asked in turn; the first that knows the token says who it is.

An authenticator that holds the answer gives it at once; one that must ask another program (a key set not fetched yet, a
webhook) raises `ports.MustWait`, and the chain goes on from there in a task. A token is a secret: it is in no error,
no log and no repr.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct

from atoll.cluster.apiserver.access.service_accounts import ServiceAccountTokens
from atoll.cluster.apiserver.ports import ANONYMOUS, MustWait, User

AUTHENTICATED = "system:authenticated"


class TokenRefused(Exception):
    """The token is of a known kind and does not hold. The text says why, without the token."""


class Known(Struct, frozen=True):
    """Whose token it is, and for which of the audiences asked for; none: it was issued for any.

    `holds`: whether it still is so, where that can be told of a token without looking at it again.
    """

    user: User
    audiences: tuple[str, ...] = ()
    holds: Callable[[], bool] | None = None


def authenticated(user: User) -> User:
    """Whoever is known is in that group."""
    if AUTHENTICATED in user.groups or user.name == ANONYMOUS.name:
        return user
    return User(user.name, (*user.groups, AUTHENTICATED), user.uid, user.extra)


def _always() -> bool:
    return True


class TokenAuthenticator(Protocol):
    @property
    def agnostic(self) -> bool:
        """It knows nothing of audiences: its tokens are for the API server itself."""

    def authenticate(self, token: str, audiences: Sequence[str]) -> Known | None:
        """None: not a token of this kind. Raises TokenRefused, MustWait. No audiences: the API server's own."""


class StaticTokens:
    """Tokens that are known as they are, e.g. the administrator's."""

    agnostic = True

    def __init__(self, tokens: Mapping[str, User]) -> None:
        self._users = [(token.encode(), authenticated(user)) for token, user in tokens.items()]

    def authenticate(self, token: str, audiences: Sequence[str]) -> Known | None:
        given = token.encode()
        for known, user in self._users:
            if hmac.compare_digest(known, given):
                return Known(user, holds=_always)
        return None


class AccountTokens:
    """Service accounts' tokens."""

    agnostic = False

    def __init__(self, tokens: ServiceAccountTokens) -> None:
        self._tokens = tokens

    def authenticate(self, token: str, audiences: Sequence[str]) -> Known | None:
        found = self._tokens.verify(token, audiences)
        if found is None:
            return None
        verified, matching = found
        return Known(verified.user, tuple(matching), verified.holds)


class TokenChain:
    """All of them in upstream's order; `authenticators` may be exchanged while it runs (a file that was changed)."""

    def __init__(self, authenticators: Sequence[TokenAuthenticator], own_audiences: Sequence[str] = ()) -> None:
        self.authenticators = tuple(authenticators)
        self._own_audiences = tuple(own_audiences)

    def authenticate(self, token: str, audiences: Sequence[str] = ()) -> Known:
        """No audiences: any of the API server's own. Raises TokenRefused with every reason, MustWait."""
        why: list[str] = []
        authenticators = self._asked(audiences) if audiences else self.authenticators
        for authenticator in authenticators:
            try:
                known = authenticator.authenticate(token, audiences)
            except TokenRefused as refused:
                why.append(str(refused))
                continue
            except MustWait as waiting:
                rest = authenticators[authenticators.index(authenticator) :]
                raise MustWait(partial(self._finish, waiting, rest, token, audiences, why)) from None
            if known is not None:
                return self._settled(authenticator, known, audiences)
        raise TokenRefused(_all(why))

    def _asked(self, audiences: Sequence[str]) -> tuple[TokenAuthenticator, ...]:
        if not set(audiences).isdisjoint(self._own_audiences):
            return self.authenticators
        return tuple(item for item in self.authenticators if not item.agnostic)

    def _settled(self, authenticator: TokenAuthenticator, known: Known, audiences: Sequence[str]) -> Known:
        user, matching = authenticated(known.user), known.audiences
        if audiences and authenticator.agnostic:
            matching = tuple(item for item in audiences if item in self._own_audiences)
        return known if user is known.user and matching == known.audiences else Known(user, matching, known.holds)

    async def _finish(
        self,
        waiting: MustWait,
        rest: Sequence[TokenAuthenticator],
        token: str,
        audiences: Sequence[str],
        why: list[str],
    ) -> Known:
        known = await _finished(waiting, why)
        for index, authenticator in enumerate(rest):
            if index:
                try:
                    known = authenticator.authenticate(token, audiences)
                except TokenRefused as refused:
                    why.append(str(refused))
                    known = None
                except MustWait as another:
                    known = await _finished(another, why)
            if known is not None:
                return self._settled(authenticator, known, audiences)
        raise TokenRefused(_all(why))


async def _finished(waiting: MustWait, why: list[str]) -> Known | None:
    try:
        known: Known | None = await waiting.finish()
    except TokenRefused as refused:
        why.append(str(refused))
        return None
    return known


def _all(why: Sequence[str]) -> str:
    """Every reason, as upstream joins them."""
    texts = list(dict.fromkeys(("invalid bearer token", *why)))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
