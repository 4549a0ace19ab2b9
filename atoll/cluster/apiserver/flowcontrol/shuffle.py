"""Shuffle sharding: which few queues of a level a flow may use, so that a greedy flow seldom meets all of another's."""

from __future__ import annotations

import hashlib
import math

MAX_HASH_BITS = 60


def flow_hash(flow_schema: str, distinguisher: str) -> int:
    """64 bits of a flow, the same in every API server (KEP-1040: SHA-256 of name, NUL, distinguisher)."""
    digest = hashlib.sha256(flow_schema.encode() + b"\0" + distinguisher.encode()).digest()
    return int.from_bytes(digest[:8], "little")


def is_dealable(queues: int, hand_size: int) -> bool:
    """Whether 60 bits of hash suffice to deal such a hand."""
    if not 0 < hand_size <= queues <= 1 << 26:
        return False
    return math.ceil(math.log2(queues) * hand_size) <= MAX_HASH_BITS


def deal(hashed: int, queues: int, hand_size: int) -> tuple[int, ...]:
    """A hand of distinct queue indices, by the digits of the hash in a falling-factorial base."""
    digits: list[int] = []
    for taken in range(hand_size):
        hashed, digit = divmod(hashed, queues - taken)
        digits.append(digit)
    hand: list[int] = []
    for place, card in enumerate(digits):
        for before in range(place, 0, -1):
            if card >= digits[before - 1]:
                card += 1
        hand.append(card)
    return tuple(hand)
