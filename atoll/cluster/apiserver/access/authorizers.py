"""The chain of authorizers: the first that allows or denies decides; none means no.

system:masters may do anything, before anyone is asked, as upstream. An authorizer that must ask a webhook raises
MustWait; whoever waits gets the decision of the whole chain.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.cluster.apiserver.ports import NO_OPINION, Attributes, Authorizer, Decision, MustWait, decide

_MASTER = Decision(True, "")


class AuthorizerChain:
    """`authorizers` may be exchanged while it runs (a file that was changed)."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self.authorizers = tuple(authorizers)

    def authorize(self, attributes: Attributes) -> Decision:
        if "system:masters" in attributes.user.groups:
            return _MASTER
        why = ""
        for authorizer in self.authorizers:
            try:
                decision = authorizer.authorize(attributes)
            except MustWait as waiting:
                rest = self.authorizers[self.authorizers.index(authorizer) + 1 :]
                raise MustWait(_Rest(waiting, rest, attributes, why)) from None
            if decision.allowed or decision.denied:
                return decision
            if decision.reason:
                why = f"{why}\n{decision.reason}" if why else decision.reason
        return Decision(False, why) if why else NO_OPINION


class _Rest:
    """What is left to ask, once the first answer has come."""

    def __init__(self, waiting: MustWait, rest: Sequence[Authorizer], attributes: Attributes, why: str) -> None:
        self._waiting = waiting
        self._rest = rest
        self._attributes = attributes
        self._why = why

    async def __call__(self) -> Decision:
        decision: Decision = await self._waiting.finish()
        for authorizer in (*self._rest, None):
            if decision.allowed or decision.denied:
                return decision
            if decision.reason:
                self._why = f"{self._why}\n{decision.reason}" if self._why else decision.reason
            if authorizer is not None:
                decision = await decide(authorizer, self._attributes)
        return Decision(False, self._why)


class AlwaysAllow:
    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(True)


class AlwaysDeny:
    """Has no opinion, so that nobody but system:masters is let in (upstream's AlwaysDeny)."""

    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(False, "Everything is forbidden.")
