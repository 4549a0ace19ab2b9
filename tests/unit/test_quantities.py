"""Quantities as apimachinery reads them: rounding, caps, and exponents that nobody could write out."""

from __future__ import annotations

import pytest

from atoll.base import quantity

MOST = str((1 << 63) - 1)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1.5Gi", "1536Mi"), ("0.0000000001", "1n"), ("5e3", "5e3"), ("0.5Ki", "512"), ("0e999999999", "0"),
        ("100000Ei", MOST), ("1e999999999", MOST), ("-1e999999999", f"-{MOST}"), ("1e-999999999", "1e-9"),
    ],
)  # fmt: skip
def test_canonical_form(text, canonical):
    assert quantity.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", "e3", "1e", "1.2.3", "1Ki5", "1e1234567890123456789012", "0x10"])
def test_what_is_none(text):
    with pytest.raises(ValueError, match="quantities must match"):
        quantity.parse(text)
