"""What players ask for: a range of bytes, or the whole."""

import pytest

from call_tracker.recording.ranges import UnsatisfiableError, parse_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-999", (90, 100)),
        ("bytes=-30", (70, 100)),
        ("bytes=-999", (0, 100)),
        ("bytes=99-99", (99, 100)),
    ],
)
def test_a_range_is_cut_to_what_there_is(header: str, expected: tuple[int, int]) -> None:
    found = parse_range(header, 100)
    assert found is not None
    assert (found.start, found.end) == expected


@pytest.mark.parametrize(
    "header", [None, "", "bytes=-", "bytes=20-10", "bytes=0-1,5-9", "items=0-9", "bytes=x-1"]
)
def test_what_is_no_single_range_of_bytes_is_answered_with_the_whole(header: str | None) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0)])
def test_a_range_behind_the_end_is_refused(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(header, size)
