"""What a dead letter says, and when the fuse blows."""

from datetime import UTC, datetime

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from offhook.bus.dead_letters import DeadLetter, Fuse, original_headers

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
headers_of_any_kind = st.lists(
    st.tuples(st.text(max_size=10).filter(lambda name: not name.startswith("dl_")), st.binary(max_size=10))
)


def letter(reason: str) -> DeadLetter:
    record = ConsumerRecord("telephony.call-events.v1", 3, 17, 1000, 0, b"k", b"v", None, 1, 1, ())
    return DeadLetter.of(record, group="g", service="call-tracker", reason=reason, now=NOW)


@given(headers_of_any_kind, st.text(max_size=200))
def test_a_letter_keeps_the_original_headers_and_reads_back(
    headers: list[tuple[str, bytes]], reason: str
) -> None:
    written = letter(reason).headers(headers)
    assert original_headers(written) == headers
    assert DeadLetter.read(written) == letter(reason)


def test_a_record_that_is_buried_again_has_only_the_newest_reason() -> None:
    first = letter("first").headers([("ce_id", b"1")])
    again = letter("second").headers(first)
    assert DeadLetter.read(again).reason == "second"
    assert original_headers(again) == [("ce_id", b"1")]
    assert len(again) == len(first)


def test_a_long_reason_is_cut() -> None:
    assert len(letter("x" * 100_000).reason) == 1000


def test_a_record_that_is_no_letter_is_refused() -> None:
    with pytest.raises(ValueError, match="dl_topic is missing"):
        DeadLetter.read([("ce_id", b"1")])


@given(st.integers(1, 5), st.lists(st.lists(st.booleans(), max_size=6), max_size=6))
def test_the_fuse_blows_at_its_limit_of_poison_in_a_row_over_batches(
    limit: int, batches: list[list[bool]]
) -> None:
    fuse, so_far = Fuse(limit), ""
    for batch in batches:
        so_far += "".join("." if good else "x" for good in batch)
        assert fuse.would_blow(batch) == ("x" * limit in so_far)
        if fuse.would_blow(batch):
            return
        fuse.count(batch)
