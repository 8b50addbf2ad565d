"""Where numbers stand, as the API tells it."""

from typing import Any

import httpx
import pytest
from dialling import until
from running_number_sync import TWILIO, Service
from sqlalchemy import select, update

from number_sync import standing
from number_sync.api.models import WorkflowIn
from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.numbers import Numbers
from number_sync.schema import number_states, phone_numbers
from number_sync.workflows import Workflows
from offhook.providers import registry
from offhook.security.keyring import Keyring, new_key

C = "/telephony-configurations"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def make(api: httpx.AsyncClient, **more: Any) -> tuple[str, str]:
    """The paths of a configuration and of a number in it, which nobody answers and nobody looks at again."""
    body = {"name": "Main", "provider": "twilio", "credentials": TWILIO, **more}
    one = f"{C}/{(await api.post(C, json=body)).json()['configuration_id']}"
    number = (await api.post(f"{one}/phone-numbers", json={"number": "+14155551234"})).json()
    path = f"{one}/phone-numbers/{number['number_id']}"

    async def settled() -> bool:
        sync = (await api.get(path)).json()["sync"]
        return bool(sync["state"] == "detached" and sync["next_at"] is None)

    await until(settled)
    return one, path


async def test_numbers_are_counted_by_state_and_configuration(database: Database) -> None:
    accounts = Configurations(database, Keyring.parse(new_key("k")), registry.PROVIDERS, clock=lambda: 1.0)
    numbers = Numbers(database, clock=lambda: 1.0)
    ids = []
    for name, held in (("full", 4), ("empty", 0)):
        row = await accounts.create("ada", name=name, provider="twilio", credentials=TWILIO)
        ids.append(row.id)
        for index in range(held):
            await numbers.create("ada", row.id, number=f"+1415555000{index}")
    async with database.write() as connection:
        found = await connection.execute(select(phone_numbers.c.id).order_by(phone_numbers.c.e164))
        first, second, *_ = found.scalars()
        for number_id, state in ((first, "synced"), (second, "failed")):
            await connection.execute(
                update(number_states).where(number_states.c.number_id == number_id).values(state=state)
            )
    async with database.read() as connection:
        counts = await standing.counts(connection, ids)
    nothing = {"total": 0, "pending": 0, "synced": 0, "drifted": 0, "failed": 0, "detached": 0}
    assert counts == {
        ids[0]: nothing | {"total": 4, "pending": 2, "synced": 1, "failed": 1},
        ids[1]: nothing,
    }


@on_sqlite
async def test_a_number_tells_what_was_compared_what_differs_and_what_to_do(
    service: Service, database: Database
) -> None:
    one, number = await make(service.api)
    difference = {"setting": "VoiceUrl", "wanted": "https://a.example.com", "found": ""}
    values = {
        "state": "drifted",
        "reason": "changed-elsewhere",
        "sentence": "Somebody changed VoiceUrl.",
        "remedy": "Change it back.",
        "differs": [difference],
        "compared": ["VoiceUrl", "VoiceMethod"],
        "compared_at": 2000,
        "changed_at": 1000,
        "pushed_at": None,
        "last_drift": {"at": 500, "differs": [difference], "repaired": True},
        "due_at": 4_000_000_000_000,
    }
    number_id = number.rpartition("/")[2]
    async with database.write() as connection:
        done = await connection.execute(
            update(number_states).where(number_states.c.number_id == number_id).values(**values)
        )
        assert done.rowcount == 1
    sync = (await service.api.get(number)).json()["sync"]
    assert sync == {
        "state": "drifted",
        "reason": "changed-elsewhere",
        "sentence": "Somebody changed VoiceUrl.",
        "remedy": "Change it back.",
        "differs": [difference],
        "compared": ["VoiceUrl", "VoiceMethod"],
        "compared_at": "1970-01-01T00:00:02Z",
        "changed_at": "1970-01-01T00:00:01Z",
        "pushed_at": None,
        "last_drift": {"at": "1970-01-01T00:00:00.500000Z", "differs": [difference], "repaired": True},
        "next_at": "2096-10-02T07:06:40Z",
    }
    assert (await service.api.get(one)).json()["numbers"]["drifted"] == 1


@on_sqlite
async def test_a_check_makes_a_number_due_at_once(service: Service, database: Database) -> None:
    _, number = await make(service.api)
    this = number_states.c.number_id == number.rpartition("/")[2]
    async with database.write() as connection:
        far = update(number_states).where(this).values(due_at=4_000_000_000_000)
        before = (await connection.execute(far.returning(number_states.c.version))).scalar_one()
    answer = await service.api.post(f"{number}/check")
    assert answer.status_code == 202, answer.text
    assert answer.json()["number_id"] == number.rpartition("/")[2]
    async with database.read() as connection:
        row = (await connection.execute(select(number_states).where(this))).one()
    assert row.version > before


@on_sqlite
async def test_drift_is_repaired_unless_a_configuration_says_otherwise(service: Service) -> None:
    one, _ = await make(service.api)
    assert (await service.api.get(one)).json()["repair_drift"] is True
    assert (await service.api.patch(one, json={"repair_drift": False})).json()["repair_drift"] is False
    other = {"name": "Other", "provider": "twilio", "credentials": TWILIO, "repair_drift": False}
    assert (await service.api.post(C, json=other)).json()["repair_drift"] is False


@on_sqlite
async def test_a_number_that_is_answered_again_waits_to_be_set_up(database: Database) -> None:
    accounts = Configurations(database, Keyring.parse(new_key("k")), registry.PROVIDERS, clock=lambda: 1.0)
    numbers = Numbers(database, clock=lambda: 2.0)
    account = await accounts.create("ada", name="Main", provider="twilio", credentials=TWILIO)
    row = await numbers.create("ada", account.id, number="+14155550001", active=False)
    agents = Workflows(database, Keyring.parse(new_key("k")), clock=lambda: 1.0)
    settings = WorkflowIn(name="Agent", agent_url="ws://127.0.0.1:1").model_dump()
    workflow = (await agents.create("ada", settings)).id

    async def state_after(before: str, **changes: Any) -> str:
        mine = number_states.c.number_id == row.id
        async with database.write() as connection:
            await connection.execute(update(number_states).where(mine).values(state=before))
        await numbers.update("ada", account.id, row.id, changes)
        async with database.read() as connection:
            return str((await connection.execute(select(number_states.c.state).where(mine))).scalar_one())

    assert await state_after("detached", workflow_id=workflow) == "detached"  # it is not active
    assert await state_after("detached", active=True) == "pending"
    # As soon as something else is wanted, what is set at the provider is not that.
    assert await state_after("synced", active=False) == "pending"
    assert await state_after("synced", active=True) == "pending"
    for state in ("detached", "synced"):
        assert await state_after(state, label=f"never because of a label: {state}") == state
