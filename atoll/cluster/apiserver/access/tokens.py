"""Bearer tokens: each kind of token is an authenticator, asked in turn; the first that knows the token says who it is.

An authenticator that holds the answer gives it at once; one that must ask another program (a key set not fetched yet, a
webhook) raises `ports.MustWait`, and the chain goes on from there in a task. A token is a secret: it is in no error,
no log and no repr.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from atoll.cluster.apiserver.access.service_accounts import ServiceAccountTokens
from atoll.cluster.apiserver.ports import ANONYMOUS, MustWait, User

AUTHENTICATED = "system:authenticated"


class TokenRefused(Exception):
    """The token is of a known kind and does not hold. The text says why, without the token."""


@dataclass(frozen=True, slots=True)
class Known:
    """Whose token it is, and for which of the audiences asked for; none: it was issued for any."""

    user: User
    audiences: tuple[str, ...] = ()


class TokenAuthenticator(Protocol):
    def authenticate(self, token: str, audiences: Sequence[str]) -> Known | None:
        """None: not a token of this kind. Raises TokenRefused, MustWait. No audiences: the API server's own."""


class StaticTokens:
    """Tokens that are known as they are, e.g. the administrator's."""

    def __init__(self, tokens: Mapping[str, User]) -> None:
        self._users = [(token.encode(), user) for token, user in tokens.items()]

    def authenticate(self, token: str, audiences: Sequence[str]) -> Known | None:
        given = token.encode()
        for known, user in self._users:
            if hmac.compare_digest(known, given):
                return Known(user)
        return None


class AccountTokens:
    """Service accounts' tokens."""

    def __init__(self, tokens: ServiceAccountTokens) -> None:
        self._tokens = tokens

    def authenticate(self, token: str, audiences: Sequence[str]) -> Known | None:
        found = self._tokens.verify(token, list(audiences) or None)
        return None if found is None else Known(found[0], tuple(found[1]))


class TokenChain:
    """All of them in upstream's order. Raises TokenRefused with every reason where none lets the token in."""

    def __init__(self, authenticators: Sequence[TokenAuthenticator]) -> None:
        self.authenticators = list(authenticators)

    def authenticate(self, token: str, audiences: Sequence[str] = ()) -> Known:
        """Raises TokenRefused, MustWait."""
        why: list[str] = []
        for index, authenticator in enumerate(self.authenticators):
            try:
                known = authenticator.authenticate(token, audiences)
            except TokenRefused as refused:
                why.append(str(refused))
                continue
            except MustWait as waiting:
                raise self._waiting(waiting, index, token, audiences, why) from None
            if known is not None:
                return _in_group(known)
        raise TokenRefused(_all(why))

    def _waiting(self, first: MustWait, index: int, token: str, audiences: Sequence[str], why: list[str]) -> MustWait:
        async def finish() -> Known:
            waiting: MustWait | None = first
            for authenticator in self.authenticators[index:]:
                try:
                    if waiting is None:
                        known = authenticator.authenticate(token, audiences)
                    else:
                        known = await waiting.finish()
                except TokenRefused as refused:
                    why.append(str(refused))
                    known = None
                except MustWait as another:
                    known = await _finished(another, why)
                waiting = None
                if known is not None:
                    return _in_group(known)
            raise TokenRefused(_all(why))

        return MustWait(finish)


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


def _in_group(known: Known) -> Known:
    """Whoever is known is in the group of the authenticated."""
    user = known.user
    if AUTHENTICATED in user.groups or user.name == ANONYMOUS.name:
        return known
    return Known(User(user.name, (*user.groups, AUTHENTICATED), user.uid, user.extra), known.audiences)
