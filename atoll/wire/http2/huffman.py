"""HPACK's Huffman code (RFC 7541, appendix B), decoded four bits a step.

The code is canonical: the codes of one length follow each other in the order of their symbols, so that the lengths
alone say all of it. Nothing here encodes: our own headers go out as they are.
"""

from __future__ import annotations

import functools

_EOS = 256
# Bits of each symbol's code, 0 to 255 and the end of string: runs of (length, count).
_RUNS = (
    "13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 10 13 6 7*22 8 7 8"
    " 13 19 13 14 6 15 5 6 5 6 5 6*3 5 7*2 6*3 5 6 7 6 5*2 6 7*5 15 11 14 13 28 20 22 20*2 22*3 23 22 23*5 24 23 24*2"
    " 22 23 24 23*4 21 22 23 22 23*2 24 22 21 20 22*2 23*2 21 23 22*2 24 21 22 23*2 21*2 22 21 23 22 23*2 20 22*3 23"
    " 22*2 23 26*2 20 19 22 23 22 25 26*3 27*2 26 24 25 19 21 26 27*2 26 27 24 21*2 26*2 28 27*3 20 24 20 21 22 21*2"
    " 23 22*2 25*2 24*2 26 23 26 27 26*2 27*5 28 27*5 26 30"
)
_NONE = -1
_INVALID = -2  # the end of string may not be coded within one


class HuffmanError(ValueError):
    """Not a Huffman-coded string."""


def code_lengths() -> list[int]:
    """Bits of the codes of 0 … 255 and of the end of string."""
    lengths: list[int] = []
    for run in _RUNS.split():
        length, _, count = run.partition("*")
        lengths += [int(length)] * int(count or 1)
    return lengths


@functools.cache
def _machine() -> tuple[bytes, list[int], frozenset[int]]:
    """For state * 16 + four bits: the next state and the symbol that ends within them; and the states that may be last.

    A state is an inner node of the code's tree, of which there are 256. A string is filled up with ones, up to seven.
    """
    nodes: list[list[int]] = [[_NONE, _NONE]]  # a child: a node's number, or 1000 + a symbol
    code = previous = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(code_lengths())):
        code <<= length - previous
        previous = length
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if nodes[node][bit] == _NONE:
                nodes[node][bit] = len(nodes)
                nodes.append([_NONE, _NONE])
            node = nodes[node][bit]
        nodes[node][code & 1] = 1000 + symbol
        code += 1
    following = bytearray(len(nodes) * 16)
    emitted = [_NONE] * (len(nodes) * 16)
    for state in range(len(nodes)):
        for bits in range(16):
            node = state
            for shift in (3, 2, 1, 0):
                node = nodes[node][bits >> shift & 1]
                if node >= 1000:
                    emitted[state * 16 + bits] = _INVALID if node == 1000 + _EOS else node - 1000
                    node = 0
            following[state * 16 + bits] = node
    last, node = [0], 0
    for _ in range(7):
        node = nodes[node][1]
        last.append(node)
    return bytes(following), emitted, frozenset(last)


def decode(data: bytes) -> str:
    """The text (Latin-1) of a coded string. Raises HuffmanError."""
    following, emitted, last = _machine()
    out = bytearray()
    state = 0
    for byte in data:
        at = state << 4 | byte >> 4
        first = emitted[at]
        at = following[at] << 4 | byte & 15
        second = emitted[at]
        state = following[at]
        if first >= 0:
            out.append(first)
        if second >= 0:
            out.append(second)
        if first == _INVALID or second == _INVALID:
            raise HuffmanError("the end of string is coded within it")
    if state not in last:
        raise HuffmanError("the string ends within a code")
    return out.decode("latin-1")
