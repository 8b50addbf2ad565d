"""The spool on disk."""

import os
import resource
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offhook.bus.spool import Spool, SpoolFull, SpoolInUse

MEGABYTE = 1024 * 1024


def opened(directory: Path, *, max_bytes: int = MEGABYTE, segment_bytes: int = 4 * MEGABYTE) -> Spool:
    spool = Spool(directory, max_bytes=max_bytes, segment_bytes=segment_bytes)
    spool.open()
    return spool


def drain(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while chunk := spool.peek(7):
        found.extend(chunk)
        spool.advance(len(chunk))
    return found


def newest_segment(directory: Path) -> Path:
    return sorted(directory.glob("*.spool"))[-1]


def test_what_was_appended_comes_out_in_order(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([b"a", b"", b"c"])
    spool.append([b"d"])
    assert spool.count == 4
    assert drain(spool) == [b"a", b"", b"c", b"d"]
    assert spool.count == 0


def test_an_empty_spool_takes_no_space(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([b"x" * 1000])
    assert spool.size > 1000
    drain(spool)
    assert spool.size == 0
    assert list(tmp_path.glob("*.spool")) == []


def test_records_stay_until_they_are_advanced_over_also_over_a_restart(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([b"a", b"b", b"c"])
    spool.advance(1)
    assert spool.peek(10) == [b"b", b"c"]
    spool.close()
    spool = opened(tmp_path)
    assert spool.count == 2
    assert drain(spool) == [b"b", b"c"]


def test_without_its_cursor_the_oldest_segment_is_read_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([b"a", b"b"])
    spool.advance(1)
    spool.close()
    (tmp_path / "cursor").write_text("nonsense")
    assert drain(opened(tmp_path)) == [b"a", b"b"]


def test_what_is_appended_after_a_restart_with_an_empty_spool_survives_the_next_one(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=30)
    for payload in (b"a" * 30, b"b" * 30):
        spool.append([payload])
    drain(spool)
    spool.close()
    spool = opened(tmp_path)
    spool.append([b"acknowledged"])
    spool.close()
    assert drain(opened(tmp_path)) == [b"acknowledged"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    appends=st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), min_size=1, max_size=8),
    advanced=st.integers(0, 40),
    torn=st.binary(min_size=1, max_size=60),
)
def test_a_torn_last_record_loses_nothing_that_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, appends: list[list[bytes]], advanced: int, torn: bytes
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool = opened(directory, segment_bytes=100)
    for payloads in appends:
        spool.append(payloads)
    everything = [payload for payloads in appends for payload in payloads]
    for _ in range(min(advanced, len(everything) - 1)):
        assert spool.peek(1) == [everything.pop(0)]
        spool.advance(1)
    spool.close()
    with newest_segment(directory).open("ab") as file:
        file.write(struct.pack("<I", 1000) + torn)
    spool = opened(directory, segment_bytes=100)
    assert spool.count == len(everything)
    spool.append([b"later"])
    assert drain(spool) == [*everything, b"later"]
    spool.close()


@pytest.mark.parametrize("kept", range(30))
def test_a_write_that_was_cut_at_any_byte_leaves_what_came_before(tmp_path: Path, kept: int) -> None:
    spool = opened(tmp_path)
    spool.append([b"before"])
    whole = newest_segment(tmp_path).stat().st_size
    spool.append([b"one half of it", b"second"])
    spool.close()
    os.truncate(newest_segment(tmp_path), whole + kept)
    found = drain(opened(tmp_path))
    assert found[0] == b"before"
    assert found[1:] == [b"one half of it"][: len(found) - 1]


def test_a_segment_cut_before_its_magic_word_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "0000000001.spool").write_bytes(b"off")
    spool = opened(tmp_path)
    assert spool.count == 0
    spool.append([b"a"])
    assert drain(spool) == [b"a"]


def test_damage_in_an_older_segment_is_kept_aside_and_the_newer_ones_are_read(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=30)
    for number in range(4):
        spool.append([b"record %d with some length" % number])
    spool.close()
    oldest, *_ = sorted(tmp_path.glob("*.spool"))
    content = bytearray(oldest.read_bytes())
    content[-1] ^= 1
    oldest.write_bytes(content)
    assert drain(opened(tmp_path, segment_bytes=30)) == [b"record %d with some length" % n for n in (1, 2, 3)]
    assert oldest.with_suffix(".damaged").read_bytes() == content


def test_damage_while_it_is_read_is_kept_aside_and_what_follows_is_read(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(3):
        spool.append([b"record %d" % number])
    damaged = newest_segment(tmp_path)
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert drain(spool) == [b"record 0", b"record 1"]
    assert spool.count == 0
    assert damaged.with_suffix(".damaged").read_bytes() == content
    assert spool.size == 0
    spool.close()
    spool = opened(tmp_path)
    later = [b"again  0", b"again  1", b"again  2"]
    spool.append(later)
    spool.close()
    assert drain(opened(tmp_path)) == later


def test_a_full_spool_takes_nothing_until_it_is_drained(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=4000)
    taken = 35
    for _ in range(taken):
        spool.append([b"x" * 100])
    with pytest.raises(SpoolFull):
        spool.append([b"x" * 300])
    assert spool.size <= 4000
    spool.append([b"small"])
    assert len(drain(spool)) == taken + 1
    spool.append([b"x" * 100])
    assert spool.count == 1


def test_a_disk_that_refuses_a_write_damages_nothing(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([b"a"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            spool.append([b"x" * 500])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    spool.append([b"b"])
    assert spool.count == 2
    assert drain(spool) == [b"a", b"b"]
    spool.close()


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(SpoolInUse):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()
