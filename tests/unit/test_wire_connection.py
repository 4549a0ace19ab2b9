"""A raw connection's buffer."""

from atoll.wire.connection import RawConnection


def test_asyncios_tls_may_fill_the_buffer_in_slices():
    connection = RawConnection()
    buffer = connection.get_buffer(-1)
    buffer[:2][:] = b"ab"
    buffer[2:][:2] = b"cd"
    connection.buffer_updated(4)
    assert b"".join(connection._chunks) == b"abcd"
