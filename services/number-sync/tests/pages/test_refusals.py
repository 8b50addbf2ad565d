"""Objections to forms, in words."""

import pytest
from pydantic import ValidationError

from number_sync.api.models import ConfigurationIn
from number_sync.errors import ConflictError, InvalidError
from number_sync.pages.refusals import domain_refusals, sentence, validation_refusals


def test_objections_of_a_model_stand_at_their_fields_without_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        ConfigurationIn(name="", provider="p" * 40, credentials={"auth_token": "s3cret" * 4000})
    found = validation_refusals(caught.value)
    assert found["name"] == "This is needed."
    assert found["provider"] == "At most 32 characters."
    assert found["credentials.auth_token"] == "At most 16384 characters."
    assert "s3cret" not in str(found)


def test_an_objection_of_the_domain_stands_at_its_field() -> None:
    assert domain_refusals(InvalidError("number", "it cannot be used")) == {"number": "It cannot be used."}
    assert domain_refusals(ConflictError("taken"), field="name") == {"name": "Taken."}
    assert domain_refusals(ConflictError("no")) == {"": "No."}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("field `a` is bad", "Field a is bad."),
        ("Why?", "Why?"),
        ("", ""),
        ("Field required", "This is needed."),
    ],
)
def test_a_sentence_begins_and_ends_like_one(text: str, written: str) -> None:
    assert sentence(text) == written
