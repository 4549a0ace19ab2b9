"""Container logs: format, rotation, reading, following."""

import asyncio

from atoll.base.clock import ManualClock
from atoll.cluster.nodes.process.logs import LogOptions, LogWriter, parse_nano, read_logs, rfc3339_nano


def read(path, writer=None, **options):
    async def collect():
        return b"".join([chunk async for chunk in read_logs(path, LogOptions(**options), writer)])

    return asyncio.run(collect())


def write(tmp_path, *pieces, **limits):
    clock = ManualClock()
    writer = LogWriter(tmp_path / "0.log", clock, **limits)
    for stream, data in pieces:
        writer.write(stream, data)
        clock.advance(1)
    writer.close()
    return writer.path


def test_lines_are_stamped_and_parts_marked(tmp_path):
    path = write(tmp_path, ("stdout", b"one\ntw"), ("stderr", b"err\n"), ("stdout", b"o\nrest"))
    stamp = "2023-11-14T22:13:2{}.000000000Z"
    assert path.read_text().splitlines() == [
        f"{stamp.format(0)} stdout F one",
        f"{stamp.format(1)} stderr F err",
        f"{stamp.format(2)} stdout F two",
        f"{stamp.format(3)} stdout P rest",
    ]
    assert read(path) == b"one\nerr\ntwo\nrest"


def test_long_lines_are_kept_in_parts_and_read_whole(tmp_path):
    line = b"x" * 40_000
    path = write(tmp_path, ("stdout", line + b"\nend\n"))
    assert len(path.read_bytes().splitlines()) == 4
    assert read(path) == line + b"\nend\n"


def test_options(tmp_path):
    path = write(tmp_path, *[("stdout", f"{number}\n".encode()) for number in range(5)], ("stderr", b"e\n"))
    assert read(path, tail_lines=2) == b"4\ne\n"
    assert read(path, tail_lines=0) == b""
    assert read(path, limit_bytes=3) == b"0\n1"
    assert read(path, since=1_700_000_003.0) == b"3\n4\ne\n"
    assert read(path, stream="Stderr") == b"e\n"
    assert read(path, tail_lines=1, timestamps=True) == b"2023-11-14T22:13:25.000000000Z e\n"


def test_rotation_keeps_a_bounded_number_of_files_and_reads_across(tmp_path):
    lines = [("stdout", f"line {number:04}\n".encode()) for number in range(100)]
    path = write(tmp_path, *lines, most_bytes=1000, most_files=3)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["0.log", "0.log.1", "0.log.2"]
    kept = read(path).decode().splitlines()
    assert kept[-1] == "line 0099"
    assert kept == [f"line {number:04}" for number in range(100 - len(kept), 100)]


def test_following_sees_all_across_rotations_and_ends_with_the_container(tmp_path):
    async def scenario():
        writer = LogWriter(tmp_path / "0.log", ManualClock(), most_bytes=400, most_files=3)
        writer.write("stdout", b"before\n")
        seen = []

        async def follow():
            async for chunk in read_logs(writer.path, LogOptions(follow=True), writer):
                seen.append(chunk)

        task = asyncio.create_task(follow())
        for number in range(20):
            await asyncio.sleep(0)
            writer.write("stdout", f"{number}\n".encode())
            await asyncio.sleep(0)
        writer.write("stdout", b"no line end")
        writer.close()
        await task
        return b"".join(seen)

    wanted = b"before\n" + b"".join(f"{number}\n".encode() for number in range(20)) + b"no line end"
    assert asyncio.run(scenario()) == wanted


def test_times_have_nine_decimals():
    assert rfc3339_nano(1_700_000_000.25) == "2023-11-14T22:13:20.250000000Z"
    assert parse_nano("2023-11-14T22:13:20.250000000Z") == 1_700_000_000.25
    assert parse_nano("2023-11-14T23:13:20.25+01:00") == 1_700_000_000.25
    assert parse_nano("2023-11-14T22:13:20Z") == 1_700_000_000.0
