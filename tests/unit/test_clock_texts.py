"""Times as texts: of any number, since a grace period may be 2^63 seconds."""

from __future__ import annotations

from atoll.base.clock import parse_rfc3339, rfc3339, rfc3339_micro


def test_there_and_back():
    assert rfc3339(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert parse_rfc3339(rfc3339(1_700_000_000)) == 1_700_000_000
    assert rfc3339_micro(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"


def test_what_no_calendar_has():
    assert rfc3339(2.0**63) == "9999-12-31T23:59:59Z" and rfc3339(-(2.0**63)) == "0001-01-01T00:00:00Z"
    assert rfc3339_micro(2.0**63) == "9999-12-31T23:59:59.000000Z"
