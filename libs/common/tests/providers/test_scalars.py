"""Providers' numbers and times, read leniently."""

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.providers.scalars import any_time, bounded, iso_time, rfc_2822_time, whole_number

EARLY, LATE = datetime.fromisoformat("1000-01-02"), datetime.fromisoformat("9998-01-01")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (12, 12),
        ("12", 12),
        (" 12 ", 12),
        ("12.0", 12),
        (12.9, 12),
        ("", None),
        (None, None),
        (True, None),
        (-1, None),
        ("-1", None),
        ("NaN", None),
        (float("inf"), None),
        (10**30, None),
        ("9" * 5000, None),
        ([1], None),
        ("٣", None),
    ],
)
def test_numbers_may_be_strings_and_nonsense_is_none(value, number):
    assert whole_number(value) == number


@given(
    st.datetimes(min_value=EARLY, max_value=LATE),
    st.sampled_from(["+0000", "-0730", "GMT"]),
)
def test_rfc_2822_times_read_as_the_standard_library_reads_them(moment, zone):
    text = format_datetime(moment.replace(microsecond=0)).rsplit(" ", 1)[0] + " " + zone
    reference = parsedate_to_datetime(text)
    assert rfc_2822_time(text) == (reference if reference.tzinfo else reference.replace(tzinfo=UTC))


def test_both_kinds_of_timestamps_are_read_and_are_in_utc():
    expected = datetime(2018, 3, 25, 9, 53, 19, tzinfo=UTC)
    assert any_time("Sun, 25 Mar 2018 09:53:19 +0000") == expected
    assert any_time("2018-03-25T09:53:19Z") == expected
    assert any_time("2018-03-25T11:53:19.000+02:00") == expected
    assert iso_time("2018-03-25 09:53:19") == expected
    assert any_time("Sun, 25 Foo 2018 09:53:19 +0000") is None
    assert any_time("0001-01-01T00:00:00+10:00") is None
    assert any_time(None) is None


@given(st.text(max_size=80) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"))
def test_no_text_makes_the_readers_raise(text):
    any_time(text)
    whole_number(text)


def test_what_is_kept_of_a_request_is_bounded():
    kept = bounded((f"{number}" * 2000, "x" * 5000) for number in range(1, 500))
    assert len(kept) == 100
    assert max(len(name) + len(value) for name, value in kept.items()) == 2000
