"""Credentials: what holds when something is sent over what is stored."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from number_sync import credentials
from number_sync.errors import InvalidError


class Acme(BaseModel):
    """A provider this code has never heard of."""

    model_config = ConfigDict(extra="forbid")

    login: str = Field(title="Login")
    password: str = Field(title="Password", json_schema_extra={"secret": True})
    pin: SecretStr | None = Field(default=None, json_schema_extra={"secret": True})

    @field_validator("password")
    @classmethod
    def _talkative(cls, value: str) -> str:
        if value.startswith("bad"):
            raise ValueError(f"{value} is not a password")
        return value


STORED = {"login": "me", "password": "the-stored-password"}


def test_a_new_providers_model_needs_no_code_here() -> None:
    accepted = credentials.accept(Acme, {"login": " me ", "password": "abcdefgh", "pin": "1234"})
    assert accepted == {"login": "me", "password": "abcdefgh", "pin": "1234"}
    assert credentials.masked(Acme, accepted) == {"login": "me", "password": "••••••••", "pin": "••••••••"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, STORED),
        ({"password": "••••••••word"}, STORED),
        ({"password": "********"}, STORED),
        ({"password": "new-password"}, {"login": "me", "password": "new-password"}),
        ({"login": "you"}, {"login": "you", "password": "the-stored-password"}),
        ({"pin": "77"}, {**STORED, "pin": "77"}),
        ({"pin": None}, STORED),
        ({"pin": "  "}, STORED),
    ],
)
def test_what_is_left_out_or_masked_stays(given: dict[str, str | None], expected: dict[str, str]) -> None:
    assert credentials.accept(Acme, given, STORED) == expected


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"password": None}, "credentials.password"),
        ({"colour": "blue"}, "credentials.colour"),
        ({"pin": "••••"}, "credentials.pin"),
        ({"password": "x" * 9000}, "credentials.password"),
        ({"password": "bad secret"}, "credentials.password"),
    ],
)
def test_a_refusal_names_the_field_and_never_the_value(given: dict[str, str | None], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        credentials.accept(Acme, given, STORED)
    assert refused.value.field == field
    assert "bad secret" not in str(refused.value)
    assert "the-stored-password" not in str(refused.value)
    assert refused.value.__cause__ is None
