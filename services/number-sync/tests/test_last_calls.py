"""The last call that came in at a number, told by the call events."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import permutations
from typing import Any

import pytest
from running_number_sync import KEYRING, TWILIO, Service
from sqlalchemy import select

from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.last_calls import LastCalls, next_status
from number_sync.numbers import Numbers
from number_sync.schema import number_calls
from offhook.events import (
    AgentConnected,
    CallReceived,
    CallStatus,
    Event,
    EventData,
    StatusReported,
    new_event,
)
from offhook.providers import registry
from offhook.security.keyring import Keyring
from offhook.topics import CALL_EVENTS

NUMBER = "+14155551234"


def event(data: Any, at: float = 100.0) -> Event[EventData]:
    time = datetime.fromtimestamp(at, UTC)
    made: Event[EventData] = new_event(data, source="/test", time=time, subject=data.workflow_run_id)
    return made


ACCOUNT = TWILIO["account_sid"]


def received(run: str, configuration_id: str, number: str = NUMBER) -> CallReceived:
    return CallReceived(
        workflow_run_id=run,
        workflow_id="w",
        user_id="ada",
        configuration_id=configuration_id,
        provider="twilio",
        account=ACCOUNT,
        provider_call_id=f"CA{run}",
        from_number="+442079460000",
        to_number=number,
    )


def status(run: str, word: CallStatus | None, leg: Any = "phone", account: str = ACCOUNT) -> StatusReported:
    return StatusReported(
        workflow_run_id=run,
        provider="twilio",
        account=account,
        provider_call_id=f"CA{run}",
        leg=leg,
        status=word,
        provider_status=str(word),
    )


def agent(run: str) -> AgentConnected:
    return AgentConnected(
        workflow_run_id=run, epoch=1, attempt=1, protocol="pcm", sample_rate=16000, connect_ms=5.0
    )


def after(data: Iterable[EventData]) -> str:
    known: str = CallStatus.INITIATED
    for one in data:
        known = next_status(known, one)
    return known


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([], "initiated"),
        ([status("r", CallStatus.RINGING)], "ringing"),
        # The provider picks up to say a sentence; nobody has answered.
        ([status("r", CallStatus.RINGING), status("r", CallStatus.ANSWERED)], "ringing"),
        ([status("r", CallStatus.ANSWERED), status("r", CallStatus.COMPLETED)], "no-answer"),
        ([agent("r")], "answered"),
        ([agent("r"), status("r", CallStatus.COMPLETED, "media")], "answered"),
        ([agent("r"), status("r", None)], "answered"),
        ([agent("r"), status("r", CallStatus.RINGING)], "answered"),
        ([status("r", CallStatus.BUSY), status("r", CallStatus.COMPLETED)], "busy"),
        ([status("r", CallStatus.CANCELED)], "canceled"),
    ],
)
def test_the_status_is_what_the_caller_has_met(data: list[EventData], expected: str) -> None:
    assert after(data) == expected


def test_an_answered_call_ends_as_completed_in_whichever_order_its_events_come() -> None:
    facts = [
        status("r", CallStatus.RINGING),
        status("r", CallStatus.ANSWERED),
        agent("r"),
        status("r", CallStatus.COMPLETED),
    ]
    assert {after(order) for order in permutations(facts)} == {"completed"}


async def number_of(database: Database, configuration: str = "Main", e164: str = NUMBER) -> Any:
    accounts = Configurations(database, Keyring.parse(KEYRING), registry.PROVIDERS, clock=lambda: 1.0)
    owner = await accounts.create("ada", name=configuration, provider="twilio", credentials=TWILIO)
    return await Numbers(database, clock=lambda: 1.0).create("ada", owner.id, number=e164)


async def stored(database: Database) -> list[tuple[str, str, int]]:
    async with database.read() as connection:
        rows = (await connection.execute(select(number_calls))).all()
    return [(row.workflow_run_id, row.status, row.at) for row in rows]


async def test_the_newest_call_is_the_last_one_however_often_it_is_told(database: Database) -> None:
    number = await number_of(database)
    calls = LastCalls(database)
    first = [event(received("r1", number.configuration_id), 100), event(agent("r1"), 101)]
    second = [
        event(received("r2", number.configuration_id), 200),
        event(status("r2", CallStatus.COMPLETED), 210),
    ]
    await calls.observe(first)
    assert await stored(database) == [("r1", "answered", 100_000)]
    await calls.observe(second)
    assert await stored(database) == [("r2", "no-answer", 200_000)]
    # Delivered again, and an older call's end that comes late.
    for batch in (first, second, [event(status("r1", CallStatus.COMPLETED), 300)]):
        await calls.observe(batch)
        assert await stored(database) == [("r2", "no-answer", 200_000)]


async def test_what_another_account_tells_of_a_run_is_not_about_the_last_call(database: Database) -> None:
    number = await number_of(database)
    foreign = status("r1", CallStatus.BUSY, account="AC-of-a-stranger")
    await LastCalls(database).observe([event(received("r1", number.configuration_id)), event(foreign)])
    assert await stored(database) == [("r1", "initiated", 100_000)]


async def test_calls_to_numbers_of_nobody_or_of_another_configuration_are_not_kept(
    database: Database,
) -> None:
    number = await number_of(database)
    other = await number_of(database, "Other", "+14155550000")
    await LastCalls(database).observe(
        [
            event(received("r1", number.configuration_id, "+14155559999")),
            event(received("r2", other.configuration_id)),
            event(received("r3", "nothing", "not a number")),
            event(agent("r1")),
            event(agent("r4")),
        ]
    )
    assert await stored(database) == []


async def test_the_api_tells_the_last_call_of_a_number(service: Service) -> None:
    body = {"name": "Main", "provider": "twilio", "credentials": TWILIO}
    made = (await service.api.post("/telephony-configurations", json=body)).json()
    path = f"/telephony-configurations/{made['configuration_id']}/phone-numbers"
    number = (await service.api.post(path, json={"number": NUMBER})).json()
    assert number["last_call"] is None
    for data in (received("r1", made["configuration_id"]), agent("r1")):
        await service.bus.publish(CALL_EVENTS, event(data))
    await service.bus.settle()
    read = (await service.api.get(f"{path}/{number['number_id']}")).json()
    assert read["last_call"] == {
        "workflow_run_id": "r1",
        "status": "answered",
        "at": "1970-01-01T00:01:40Z",
        "answered_at": "1970-01-01T00:01:40Z",
    }
