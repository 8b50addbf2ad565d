"""Who holds a key is its user; nobody else gets in, and nothing about the keys leaks."""

import asyncio
import hmac
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated

import httpx
import pytest
from fastapi import Depends

from offhook.bus.testing import memory_bus
from offhook.events import Event, EventData, new_event
from offhook.http import create_app
from offhook.records import ApiKeyRecord
from offhook.security import api_keys as module
from offhook.security.api_keys import ApiKeys, digest_of, new_api_key, require_user, setting_entry
from offhook.topics import API_KEYS

ANNA, BERT = new_api_key(), new_api_key()
KEYS = ApiKeys(f"{setting_entry('anna', ANNA)}, {setting_entry('bert', BERT)}")


def test_a_key_names_its_user() -> None:
    assert (KEYS.user_of(ANNA), KEYS.user_of(BERT)) == ("anna", "bert")


_WRONG = {
    "none": "", "prefix": "ohk_", "too short": ANNA[:-1], "too long": ANNA + "x", "letters": "é" * 100, "huge": "x" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("key", _WRONG.values(), ids=_WRONG)
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


async def test_keys_of_the_directory_come_and_go_while_those_of_the_setting_stay() -> None:
    carl, dora = new_api_key(), new_api_key()

    def event(key_id: str, user: str, key: str, *, revoked: bool = False) -> Event[EventData]:
        record = ApiKeyRecord(key_id=key_id, user_id=user, digest=digest_of(key), revoked=revoked)
        return new_event(record, source="/test", time=datetime.now(UTC), subject=key_id)

    async with memory_bus("call-tracker") as bus:
        keys = ApiKeys(setting_entry("anna", ANNA), bus.directory(API_KEYS, ApiKeyRecord))
        await bus.put(API_KEYS, "1", event("1", "carl", carl))
        await bus.start()
        assert (keys.user_of(ANNA), keys.user_of(carl), keys.user_of(dora)) == ("anna", "carl", None)
        holder = keys.holder_of(carl)
        assert holder is not None
        assert keys.is_held(holder)
        await bus.put(API_KEYS, "1", event("1", "carl", carl, revoked=True))
        await bus.put(API_KEYS, "2", event("2", "dora", dora))
        async with asyncio.timeout(60):
            while keys.user_of(carl) is not None or keys.user_of(dora) != "dora":
                await asyncio.sleep(0.01)
        assert not keys.is_held(holder)
        assert keys.user_of(ANNA) == "anna"
        await bus.put(API_KEYS, "2", None)
        async with asyncio.timeout(60):
            while keys.user_of(dora) is not None:
                await asyncio.sleep(0.01)


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
