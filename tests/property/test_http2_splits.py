"""HTTP/2's frames mean the same however the bytes are cut, and no bytes at all raise anything but the faults."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.wire.http2 import frames, hpack
from atoll.wire.http2.frames import ConnectionFault, FrameReader
from atoll.wire.http2.hpack import Decoder, HpackError
from atoll.wire.http2.request import Malformed, parse

sys.path.insert(0, str(Path(__file__).parent.parent))
import itertools

from http2_peer import block, frame
from http2_recorder import Recorder

KINDS = st.integers(0, 10)
FRAMES = st.builds(frame, KINDS, st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60))
ORDERLY = st.one_of(
    st.builds(lambda n, data: frame(frames.HEADERS, 4, n, data), st.integers(1, 9), st.binary(max_size=40)),
    st.builds(
        lambda n, data: frame(frames.HEADERS, 1, n, data) + frame(frames.CONTINUATION, 4, n, data),
        st.integers(1, 9),
        st.binary(max_size=40),
    ),
    st.builds(lambda n, data: frame(frames.DATA, 1, n, data), st.integers(1, 9), st.binary(max_size=400)),
    st.builds(lambda data: frame(frames.PING, 0, 0, data), st.binary(min_size=8, max_size=8)),
    st.builds(lambda value: frames.settings({3: value}), st.integers(0, 1000)),
)
START = frames.PREFACE + frames.settings({4: 70000})


def heard(pieces: list[bytes]) -> tuple[list[object], object]:
    recorder = Recorder()
    reader = FrameReader(recorder, 65536)
    try:
        for piece in pieces:
            reader.feed(piece)
    except ConnectionFault as fault:
        return list(recorder.calls), fault.code
    return list(recorder.calls), None


@given(st.lists(st.one_of(ORDERLY, FRAMES), max_size=12), st.lists(st.integers(0, 3000), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_cut_is_heard_alike(written: list[bytes], cuts: list[int]) -> None:
    data = START + b"".join(written)
    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(at)]
    assert heard(pieces) == heard([data])
    assert heard([data[index : index + 1] for index in range(len(data))]) == heard([data])


@given(st.lists(st.binary(max_size=80), max_size=8))
@settings(max_examples=500, deadline=None)
def test_no_header_block_breaks_the_decoder(blocks: list[bytes]) -> None:
    decoder = Decoder()
    with suppress(HpackError):
        for data in blocks:
            fields = decoder.decode(data, 4096)
            with suppress(Malformed):
                parse(fields or [])


NAMES = st.from_regex(r"[a-z0-9\-]{1,20}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=60)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=10), st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_is_encoded_is_decoded(fields: list[tuple[str, str]], indexed: bool) -> None:
    decoder = Decoder()
    for _ in range(3):
        found = decoder.decode(block(fields, indexed), 1 << 20)
        assert [(name, value, problem) for name, value, problem in found or []] == [(*field, "") for field in fields]
    kept = [field for field in fields if field[0] not in hpack.CONNECTION_HEADERS]
    answer = Decoder().decode(hpack.encode(200, tuple(kept))[0], 1 << 20) or []
    assert [(name, value) for name, value, _ in answer][1:] == [(name, value.strip()) for name, value in kept]
