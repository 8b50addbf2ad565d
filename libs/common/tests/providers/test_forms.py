"""Forms are read as `urllib.parse` reads them."""

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.providers.forms import MAX_FIELDS, FormError, first_values, parse_form


def reference(data: bytes) -> list[tuple[bytes, bytes]]:
    text = data.decode("latin-1")
    pairs = parse_qsl(text, keep_blank_values=True, encoding="latin-1")
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


@given(
    st.lists(
        st.sampled_from([b"%2B", b"%2b", b"%", b"+", b"&", b"=", b"2", b"B", b"%25", b"%26", b"a", b"\xff"]),
        max_size=12,
    )
)
def test_every_mixture_of_escapes_reads_as_the_standard_library_reads_it(parts):
    data = b"".join(parts)
    assert parse_form(data) == reference(data)


@given(st.binary(max_size=60))
def test_any_bytes_read_as_the_standard_library_reads_them(data):
    assert parse_form(data) == reference(data)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text(st.characters(exclude_categories=["Cs"])),
        )
    )
)
def test_encoding_and_reading_gives_the_fields_back(fields):
    expected = [(name.encode(), value.encode()) for name, value in fields]
    assert parse_form(urlencode(fields).encode()) == expected


def test_the_number_of_fields_is_bounded():
    assert len(parse_form(b"&".join([b"a="] * MAX_FIELDS))) == MAX_FIELDS
    with pytest.raises(FormError):
        parse_form(b"&".join([b"a="] * (MAX_FIELDS + 1)))


def test_of_a_repeated_field_the_first_value_counts_and_broken_utf8_is_replaced():
    assert first_values(parse_form(b"a=1&a=2&b=%FF")) == {"a": "1", "b": "\ufffd"}
