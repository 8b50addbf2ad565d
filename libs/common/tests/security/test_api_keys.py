"""Who holds a key is its user; nobody else gets in, and nothing about the keys leaks."""

import hmac
from types import SimpleNamespace
from typing import Annotated

import httpx
import pytest
from fastapi import Depends

from offhook.http import create_app
from offhook.security import api_keys as module
from offhook.security.api_keys import ApiKeys, new_api_key, require_user, setting_entry

ANNA, BERT = new_api_key(), new_api_key()
KEYS = ApiKeys(f"{setting_entry('anna', ANNA)}, {setting_entry('bert', BERT)}")


def test_a_key_names_its_user() -> None:
    assert (KEYS.user_of(ANNA), KEYS.user_of(BERT)) == ("anna", "bert")


@pytest.mark.parametrize("key", ["", "ohk_", ANNA[:-1], ANNA + "x", "é" * 100, "x" * 100_000])
def test_any_other_key_names_nobody(key: str) -> None:
    assert KEYS.user_of(key) is None


def test_every_key_is_compared_in_constant_time_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(module, "hmac", SimpleNamespace(compare_digest=compare))
    for key in (ANNA, BERT, "wrong"):
        compared.clear()
        KEYS.user_of(key)
        assert len(compared) == 2


def test_no_keys_means_that_nobody_may_call() -> None:
    assert ApiKeys("").user_of("") is None


def test_a_user_may_have_two_keys_while_they_are_exchanged() -> None:
    keys = ApiKeys(f"{setting_entry('anna', ANNA)},{setting_entry('anna', BERT)}")
    assert keys.user_of(ANNA) == keys.user_of(BERT) == "anna"


@pytest.mark.parametrize("setting", ["anna", "anna:secret", ":" + "0" * 64, "a b:" + "0" * 64])
def test_a_bad_entry_is_named_by_its_position_only(setting: str) -> None:
    with pytest.raises(ValueError, match="entry 1 of the API keys is not user_id:sha256hex") as caught:
        ApiKeys(setting)
    assert setting not in str(caught.value)


async def test_a_route_learns_the_user_or_answers_401_as_a_problem() -> None:
    app = create_app("call-tracker")

    @app.get("/who")
    async def who(user_id: Annotated[str, Depends(require_user(KEYS))]) -> str:
        return user_id

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        allowed = await client.get("/who", headers={"Authorization": f"Bearer {BERT}"})
        assert allowed.json() == "bert"
        for headers in ({}, {"Authorization": "Bearer nope"}, {"Authorization": f"Basic {ANNA}"}):
            refused = await client.get("/who", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "nope" not in refused.text
