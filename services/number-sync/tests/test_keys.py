"""API keys: shown once, stored as digests, believed by the service at once and until they are revoked."""

import asyncio

import httpx
import pytest
from running_number_sync import RunService, Service

from number_sync.database import Database
from number_sync.errors import InvalidError, LimitError, NotFoundError
from number_sync.keys import Keys
from number_sync.outbox import pending
from offhook.bus.testing import MemoryCluster
from offhook.records import ApiKeyRecord
from offhook.security.api_keys import digest_of
from offhook.topics import API_KEYS


def keys_of(database: Database, limit: int = 100) -> Keys:
    return Keys(database, clock=lambda: 1_800_000_000.0, limit=limit)


async def status(service: Service, key: str) -> int:
    async with httpx.AsyncClient(transport=service.api._transport, base_url="http://x") as client:
        headers = {"Authorization": f"Bearer {key}"}
        return (await client.get("/api/v1/workflows", headers=headers)).status_code


async def until_status(service: Service, key: str, wanted: int) -> None:
    async with asyncio.timeout(60):
        while await status(service, key) != wanted:
            await asyncio.sleep(0.02)


async def test_a_key_is_stored_as_its_digest_and_told_in_the_same_transaction(database: Database) -> None:
    row, key = await keys_of(database).create("carl", "laptop")
    assert key.startswith("ohk_")
    assert (row.user_id, row.label, row.digest, row.revoked_at) == ("carl", "laptop", digest_of(key), None)
    async with database.read() as connection:
        told = await pending(connection)
    assert [(one.topic, one.key) for one in told] == [(API_KEYS.name, row.id)]
    assert key not in str(told)
    assert digest_of(key) in told[0].value


async def test_revoking_twice_is_revoking_once(database: Database) -> None:
    keys = keys_of(database)
    row, _ = await keys.create("carl")
    first, second = await keys.revoke(row.id), await keys.revoke(row.id)
    assert first == second
    assert first.revoked_at is not None
    async with database.read() as connection:
        assert len(await pending(connection)) == 2
    for nothing in ("x", "", "é", "a" * 500, "\0"):
        with pytest.raises(NotFoundError):
            await keys.revoke(nothing)


async def test_what_names_nobody_gets_no_key(database: Database) -> None:
    keys = keys_of(database, limit=2)
    for user in ("", "a b", "é", "x" * 65):
        with pytest.raises(InvalidError):
            await keys.create(user)
    for label in ("x" * 101, "two\nlines", "\0"):
        with pytest.raises(InvalidError):
            await keys.create("carl", label)
    first, _ = await keys.create("carl")
    await keys.create("carl")
    with pytest.raises(LimitError):
        await keys.create("carl")
    await keys.revoke(first.id)
    await keys.create("carl")
    await keys.create("dora")
    assert [row.user_id for row in await keys.list()].count("carl") == 3
    assert [row.user_id for row in await keys.list("dora")] == ["dora"]


async def test_a_key_made_by_another_process_works_until_it_is_revoked(service: Service) -> None:
    elsewhere = Database(service.database_url)
    try:
        row, key = await keys_of(elsewhere).create("carl")
        await until_status(service, key, 200)
        await keys_of(elsewhere).revoke(row.id)
        await until_status(service, key, 401)
    finally:
        await elsewhere.close()


async def test_a_revoked_key_ends_the_logins_made_with_it(service: Service) -> None:
    elsewhere = Database(service.database_url)
    try:
        row, key = await keys_of(elsewhere).create("carl")
        await until_status(service, key, 200)
        async with httpx.AsyncClient(transport=service.api._transport, base_url="http://x") as browser:
            answer = await browser.post("/login", data={"key": key})
            assert answer.status_code == 303, answer.text
            assert (await browser.get("/api/v1/workflows")).status_code == 200
            await keys_of(elsewhere).revoke(row.id)
            await until_status(service, key, 401)
            assert (await browser.get("/api/v1/workflows")).status_code == 401
    finally:
        await elsewhere.close()


async def test_keys_are_told_again_at_the_start(run_service: RunService, database: Database) -> None:
    row, key = await keys_of(database).create("carl")
    gone, _ = await keys_of(database).create("dora")
    await keys_of(database).revoke(gone.id)
    async with run_service() as first:
        await first.published()
    # An empty Kafka, as after a loss.
    async with run_service(MemoryCluster()) as second:
        known = await second.newest(API_KEYS)
        assert known[row.id] == ApiKeyRecord(key_id=row.id, user_id="carl", digest=digest_of(key))
        record = known[gone.id]
        assert isinstance(record, ApiKeyRecord)
        assert record.revoked
        await until_status(second, key, 200)
