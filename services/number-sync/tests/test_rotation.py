"""Everything sealed is sealed again with the current key, on both databases."""

from typing import Any

from running_number_sync import KEYRING, TWILIO
from sqlalchemy import insert, select, update

from number_sync import outbox
from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.rotation import rotate
from number_sync.schema import configurations, detachments, workflows
from number_sync.workflows import Workflows
from offhook.events import decode
from offhook.providers import registry
from offhook.records import ConfigurationRecord, WorkflowRecord
from offhook.security.keyring import Keyring, new_key

OLD = Keyring.parse(KEYRING)
NEW_ENTRY = new_key("k2")
BOTH = Keyring.parse(f"{NEW_ENTRY},{KEYRING}")
NEW = Keyring.parse(NEW_ENTRY)
HEADERS = {"Authorization": "Bearer canary"}


async def fill(database: Database, keyring: Keyring = OLD, *, many: int = 3, prefix: str = "") -> None:
    accounts = Configurations(database, keyring, registry.PROVIDERS, clock=lambda: 1.0)
    agents = Workflows(database, keyring, clock=lambda: 1.0)
    for index in range(many):
        name = f"{prefix}{index}"
        await accounts.create("ada", name=name, provider="twilio", credentials=TWILIO)
        workflow: dict[str, Any] = {
            "name": name,
            "agent_url": "wss://agent.example.com",
            "agent_protocol": "pcm",
            "sample_rate": 16000,
            "headers": HEADERS if index else {},
            "record_audio": False,
            "fallback": {"message": "m", "language": "en"},
            "metadata": {},
        }
        await agents.create("ada", workflow)
    async with database.write() as connection:
        await connection.execute(
            insert(detachments),
            [
                {
                    "user_id": "ada",
                    "configuration_id": f"{prefix}gone",
                    "provider": "twilio",
                    "account": "AC",
                    "sealed_credentials": sealed,
                    "e164": "+14155550001",
                    "ours": {},
                    "created_at": 0,
                    "due_at": 0,
                    "attempts": 0,
                    "state": "open" if sealed else "done",
                }
                for sealed in (keyring.seal("{}", context=f"{prefix}gone"), None)
            ],
        )


async def opened(database: Database, keyring: Keyring) -> int:
    """How many sealed texts there are; all of them open."""
    count = 0
    async with database.read() as connection:
        for table, column, context in (
            (configurations, "sealed_credentials", "id"),
            (workflows, "sealed_headers", "id"),
            (detachments, "sealed_credentials", "configuration_id"),
        ):
            for row in (await connection.execute(select(table))).mappings():
                if row[column] is not None:
                    keyring.open(row[column], context=row[context])
                    count += 1
    return count


async def test_afterwards_the_old_key_is_needed_no_more(database: Database) -> None:
    await fill(database)
    done = await rotate(database, BOTH, batch=2)
    assert (done.sealed, done.lost) == (6, 0)
    assert await opened(database, NEW) == 6


async def test_a_second_rotation_has_nothing_to_do(database: Database) -> None:
    await fill(database)
    await rotate(database, BOTH)
    async with database.read() as connection:
        before = await outbox.backlog(connection)
    done = await rotate(database, BOTH)
    assert (done.sealed, done.lost) == (0, 0)
    async with database.read() as connection:
        assert await outbox.backlog(connection) == before


async def test_what_was_sealed_again_is_published(database: Database) -> None:
    await fill(database)
    async with database.read() as connection:
        last = (await outbox.pending(connection))[-1].seq
    await rotate(database, BOTH)
    async with database.read() as connection:
        rows = [row for row in await outbox.pending(connection) if row.seq > last]
    records = [decode(row.value.encode(), row.headers).data for row in rows]
    assert len(records) == 5
    for record in records:
        if isinstance(record, ConfigurationRecord):
            assert NEW.open(record.sealed_credentials, context=record.configuration_id)
        else:
            assert isinstance(record, WorkflowRecord)
            assert record.sealed_headers is not None
            assert NEW.open(record.sealed_headers, context=record.workflow_id)


async def test_what_cannot_be_opened_is_named_and_stays_and_the_rest_is_done(database: Database) -> None:
    await fill(database, Keyring.parse(new_key("lost")), many=1, prefix="lost")
    await fill(database)
    async with database.write() as connection:
        [changed] = (
            await connection.execute(select(configurations.c.id).where(configurations.c.name == "1"))
        ).scalars()
        # Copied from another row: sealed with a known key, for another record.
        foreign = OLD.seal("{}", context="somebody else")
        await connection.execute(
            update(configurations).where(configurations.c.id == changed).values(sealed_credentials=foreign)
        )
    done = await rotate(database, BOTH, batch=1)
    assert (done.sealed, done.lost) == (5, 3)
    assert f"configuration {changed}" in done.lost_ones
    async with database.read() as connection:
        kept = await connection.execute(
            select(configurations.c.sealed_credentials).where(configurations.c.id == changed)
        )
        assert kept.scalar_one() == foreign


async def test_keys_whose_names_differ_only_in_case_are_different_keys(database: Database) -> None:
    await fill(database, many=1)
    upper = Keyring.parse(f"{new_key('K1')},{KEYRING}")
    assert (await rotate(database, upper)).sealed == 2
