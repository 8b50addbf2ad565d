"""Transfers and keys: what is asked of the provider, at most once where a phone would ring twice, and what follows."""

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from counting_provider import LOST, Answer, CountingProvider, counting_provider, twilio_error
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dialling import HASTY, Desk, make_worker, until, working
from running_number_sync import PUBLIC_URL, TWILIO
from sqlalchemy import select
from test_kill import worker_process

from number_sync import outbox
from number_sync.database import Database
from number_sync.orders import CommandWorker, ledger, transfers
from number_sync.schema import commands, configurations
from offhook.call_leases import CallLeases, Full, Granted, Scope
from offhook.events import (
    CallObserved,
    CallRequested,
    CallStatus,
    CommandFailed,
    DigitsNotice,
    DigitsSent,
    Event,
    EventData,
    HangUp,
    InstructionsServed,
    MediaQuality,
    MediaStopped,
    Originate,
    Party,
    SendDigits,
    StatusReported,
    Transfer,
    TransferEnded,
    decode,
    new_event,
)
from offhook.identities import consult_run_id
from offhook.shared_redis import SharedRedis
from offhook.topics import CALL_NOTICES

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

RUN = "caller"
CALL = "CA" + "c" * 32
CONSULT_CALL = "CA" + "d" * 32
OWN, FAR, TO = "+14155551234", "+442079460000", "+442079460009"
ACCOUNT = TWILIO["account_sid"]


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


@pytest.fixture
async def desk(database: Database) -> Desk:
    return await Desk(database).open()


def event(data: EventData, *, age_s: float = 0) -> Event[Any]:
    run = data.workflow_run_id  # type: ignore[attr-defined]
    return new_event(data, source="/test", time=datetime.now(UTC) - timedelta(seconds=age_s), subject=run)


def order(desk: Desk, mode: str, *, age_s: float = 0, **more: Any) -> Event[Transfer]:
    values: dict[str, Any] = {
        "workflow_run_id": RUN, "workflow_id": "w1", "user_id": "ada", "configuration_id": desk.configuration_id,
        "provider": desk.provider, "provider_call_id": CALL, "to_number": TO, "mode": mode,
        "requested_by": Party.AGENT, "own_number": OWN, "far_number": FAR,
    }  # fmt: skip
    return event(Transfer(**(values | more)), age_s=age_s)


def status(run: str, call_id: str, status: CallStatus, account: str = ACCOUNT) -> Event[Any]:
    return event(
        StatusReported(
            workflow_run_id=run, provider="twilio", account=account, provider_call_id=call_id, status=status,
            provider_status=status.value,
        )
    )  # fmt: skip


def joined(run: str, account: str = ACCOUNT) -> Event[Any]:
    return event(
        InstructionsServed(
            workflow_run_id=run, provider="twilio", account=account, provider_call_id=CONSULT_CALL, kind="connect",
            reason="joined", elapsed_ms=1.0,
        )
    )  # fmt: skip


async def notices(database: Database) -> list[Any]:
    async with database.read() as connection:
        rows = await outbox.pending(connection)
    return [decode(row.value.encode(), row.headers).data for row in rows if row.topic == CALL_NOTICES.name]


async def orders(database: Database, run: str) -> dict[str, Any]:
    """What is in the ledger for a run, by kind."""
    async with database.read() as connection:
        rows = await connection.execute(select(commands).where(commands.c.workflow_run_id == run))
    return {row.kind: row for row in rows}


async def state(database: Database) -> str:
    async with database.read() as connection:
        return (await connection.execute(select(transfers.transfers.c.state))).scalar_one()


async def consulting(desk: Desk, worker: CommandWorker) -> str:
    """Have a warm transfer made, up to the other party's call; its run."""
    asked = order(desk, "warm")
    consult = consult_run_id(asked.id)
    await worker.record_commands([asked])
    await desk.closed(RUN, consult)
    return consult


async def test_a_cold_transfer_has_the_provider_dial_and_ask_what_then(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    asked = order(desk, "cold")
    async with working(worker):
        await worker.record_commands([asked])
        await worker.record_commands([asked])
        await desk.closed(RUN)
    [(call_id, document)] = provider.steered
    dial = ElementTree.fromstring(document).find("Dial")
    assert call_id == CALL
    assert dial is not None
    assert (dial.findtext("Number"), dial.attrib["callerId"]) == (TO, OWN)
    assert dial.attrib["action"].startswith(
        f"{PUBLIC_URL}/api/v1/telephony/webhook/w1/ada/{RUN}?transfer=cold&"
    )
    assert await desk.told(RUN) == []
    assert await notices(database) == []


@on_sqlite
async def test_a_transfer_that_is_refused_is_told_to_the_agent_who_still_has_the_caller(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_steer = [twilio_error(400, 21220, "Call is not in-progress")]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([order(desk, "cold"), order(desk, "cold", to_number="+1", age_s=90)])
        await desk.closed(RUN)
    failures = [told for told in await desk.told(RUN) if isinstance(told, CommandFailed)]
    assert {(failure.command, failure.account) for failure in failures} == {("transfer", ACCOUNT)}
    assert {failure.code for failure in failures} >= {"expired"}
    assert [notice.result for notice in await notices(database)] == ["failed", "failed"]
    assert len(provider.steered) == 1


@on_sqlite
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("age_s", [0, 50])
async def test_a_cold_transfer_whose_answer_was_lost_is_not_asked_for_again(
    database: Database, desk: Desk, provider: CountingProvider, gone: bool, age_s: float
) -> None:
    """And it gets its time to show that the caller has gone, however long it had waited before."""
    provider.to_steer = [LOST]
    worker = make_worker(database, provider.url, replace(HASTY, outcome_grace_s=600.0 if gone else 2.0))
    async with working(worker):
        await worker.record_commands([order(desk, "cold", age_s=age_s)])

        async def asked() -> bool:
            return len(provider.steered) == 1

        await until(asked)
        if gone:
            stopped = MediaStopped(
                workflow_run_id=RUN, provider="twilio", provider_call_id=CALL, stream_id="MZ1", epoch=1,
                reason="carrier-stop", ended_by=Party.CARRIER, duration_ms=1, quality=MediaQuality(),
            )  # fmt: skip
            await worker.observe_life([event(stopped)])
        await desk.closed(RUN)
    assert len(provider.steered) == 1
    codes = [told.code for told in await desk.told(RUN) if isinstance(told, CommandFailed)]
    assert codes == ([] if gone else ["outcome-unknown"])


@on_sqlite
async def test_a_stream_that_ends_before_the_provider_takes_a_cold_transfer_does_not_make_it_done(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_steer = [Answer(429, {})]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([order(desk, "cold")])

        async def refused_for_now() -> bool:
            async with database.read() as connection:
                waiting = select(commands.c.attempts).where(commands.c.workflow_run_id == RUN)
                return (await connection.execute(waiting)).scalar_one() == 1

        await until(refused_for_now)
        stopped = MediaStopped(
            workflow_run_id=RUN, provider="twilio", provider_call_id=CALL, stream_id="MZ1", epoch=1,
            reason="carrier-stop", ended_by=Party.CARRIER, duration_ms=1, quality=MediaQuality(),
        )  # fmt: skip
        await worker.observe_life([event(stopped)])
        await desk.closed(RUN)
    assert len(provider.steered) == 2


@on_sqlite
async def test_a_number_the_configuration_may_not_call_is_not_transferred_to(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    async with database.write() as connection:
        await connection.execute(
            configurations.update().values(dialling_rules={"denied_prefixes": ["+4420"]})
        )
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([order(desk, "cold"), order(desk, "warm")])
        await desk.closed(RUN)
    codes = {told.code for told in await desk.told(RUN) if isinstance(told, CommandFailed)}
    assert codes == {"number-not-allowed"}
    assert provider.steered == []


async def test_a_warm_transfer_lets_the_caller_wait_and_calls_the_other_party(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_steer = [LOST]  # letting somebody wait may be repeated
    worker = make_worker(database, provider.url)
    async with working(worker):
        consult = await consulting(desk, worker)
    conference = ElementTree.fromstring(provider.steered[-1][1]).find("Dial/Conference")
    assert len(provider.steered) == 2
    assert conference is not None
    assert (conference.text, conference.attrib["startConferenceOnEnter"]) == (RUN, "false")
    [dialled] = provider.dials
    assert (dialled["To"], dialled["From"]) == (TO, OWN)
    [requested] = [told for told in await desk.told(consult) if isinstance(told, CallRequested)]
    assert (requested.transfer_of, requested.account) == (RUN, ACCOUNT)
    assert requested.metadata == {"transfer": {"of": RUN, "from": FAR, "mode": "warm"}}
    originate = Originate.model_validate((await orders(database, consult))["originate"].data)
    assert originate.transfer_of == RUN


@on_sqlite
async def test_a_caller_does_not_wait_for_a_call_that_the_provider_knows_no_more(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        consult = await consulting(desk, worker)
        for account, left in (("AC-of-a-stranger", "consulting"), (ACCOUNT, "returning")):
            gone = CallObserved(
                workflow_run_id=consult, provider="twilio", account=account, provider_call_id=CONSULT_CALL, found=False
            )  # fmt: skip
            await worker.observe_life([event(gone)])
            assert await state(database) == left
        await desk.closed(RUN, consult)
    # The provider may not know it because it is dialled only now.
    assert provider.hang_ups == [(await desk.dial(consult)).provider_call_id]
    back = ElementTree.fromstring(provider.steered[-1][1]).findtext("Redirect")
    assert back is not None
    assert f"{RUN}?transfer=failed&" in back


@on_sqlite
@pytest.mark.parametrize(
    ("ended", "result"),
    [
        (CallStatus.BUSY, "busy"),
        (CallStatus.NO_ANSWER, "no-answer"),
        (CallStatus.COMPLETED, "declined"),
        (CallStatus.FAILED, "failed"),
    ],
)
async def test_when_the_other_party_does_not_come_the_caller_goes_back_to_an_agent(
    database: Database, desk: Desk, provider: CountingProvider, ended: CallStatus, result: str
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        consult = await consulting(desk, worker)
        await worker.observe_life([status(consult, CONSULT_CALL, ended, account="AC-of-a-stranger")])
        assert await state(database) == "consulting"
        provider.to_steer = [twilio_error(503, 20500, "try again")]
        for _ in range(2):
            await worker.observe_life([status(consult, CONSULT_CALL, ended)])
        await desk.closed(RUN)
    back = ElementTree.fromstring(provider.steered[-1][1]).findtext("Redirect")
    assert len(provider.steered) == 3
    assert back is not None
    assert f"/webhook/w1/ada/{RUN}?transfer={result}&call={CALL}&" in back
    assert [
        told for told in await desk.told(RUN) if isinstance(told, TransferEnded)
    ] == []  # the gateway tells it
    await worker.observe_life([event(TransferEnded(workflow_run_id=RUN, mode="warm", result=result))])
    assert await state(database) == "over"


@on_sqlite
async def test_a_caller_who_was_put_through_is_not_taken_back(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        consult = await consulting(desk, worker)
        await worker.observe_life([joined(consult, "AC-of-a-stranger")])
        assert await state(database) == "consulting"
        await worker.observe_life([joined(consult), status(consult, CONSULT_CALL, CallStatus.COMPLETED)])
        await desk.closed(RUN, consult)
    [ended] = [told for told in await desk.told(RUN) if isinstance(told, TransferEnded)]
    assert (ended.mode, ended.result) == ("warm", "completed")
    assert "give-back" not in await orders(database, RUN)
    assert len(provider.steered) == 1


@on_sqlite
async def test_when_the_waiting_caller_hangs_up_the_consultation_is_ended(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        consult = await consulting(desk, worker)
        another_leg = status(RUN, "CA" + "e" * 32, CallStatus.COMPLETED)
        await worker.observe_life([another_leg])
        assert await state(database) == "consulting"
        await worker.observe_life([status(RUN, CALL, CallStatus.COMPLETED)])
        assert await state(database) == "over"
        hang_up = HangUp.model_validate((await orders(database, consult))["hangup"].data)
        assert (hang_up.reason, hang_up.requested_by) == ("caller-gone", Party.PLATFORM)

        async def ended() -> bool:
            return len(provider.hang_ups) == 1

        await until(ended)
        await worker.observe_life([status(consult, CONSULT_CALL, CallStatus.COMPLETED)])
    assert "give-back" not in await orders(database, RUN)


@on_sqlite
async def test_what_another_account_says_of_the_callers_transfer_changes_nothing(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([order(desk, "cold")])
        await desk.closed(RUN)
        ended = TransferEnded(workflow_run_id=RUN, mode="cold", result="busy", provider="twilio")
        await worker.observe_life([event(ended.model_copy(update={"account": "AC666"}))])
        assert await state(database) == "moved"
        await worker.observe_life([event(ended.model_copy(update={"account": ACCOUNT}))])
        assert await state(database) == "over"


@on_sqlite
async def test_a_caller_who_cannot_be_sent_back_does_not_wait_for_ever(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        consult = await consulting(desk, worker)
        provider.to_steer = [twilio_error(400, 21218, "never")]
        await worker.observe_life([status(consult, CONSULT_CALL, CallStatus.BUSY)])
        await until(lambda: _hung_up(provider, CALL))
    [ended] = [told for told in await desk.told(RUN) if isinstance(told, TransferEnded)]
    assert ended.result == "busy"


async def _hung_up(provider: CountingProvider, call_id: str) -> bool:
    return call_id in provider.hang_ups


@pytest.mark.parametrize("mode", ["cold", "warm"])
async def test_killed_in_a_transfer_nobody_is_rung_twice_and_nobody_waits_for_ever(
    database: Database, database_url: str, provider: CountingProvider, mode: str
) -> None:
    desk = await Desk(database).open()
    asked = order(desk, mode)
    async with worker_process(database_url, provider) as process:
        # The provider has done it, and nobody knows its answer.
        provider.to_steer = [
            Answer(
                200,
                {"sid": CALL, "status": "in-progress"},
                before=lambda: os.kill(process.pid, signal.SIGKILL),
            )
        ]
        async with database.write() as connection:
            await ledger.record(connection, [asked], now=0)
        await process.wait()
    assert len(provider.steered) == 1
    consult = consult_run_id(asked.id)
    async with worker_process(database_url, provider):
        if mode == "warm":
            await until(lambda: _dialled(provider))
        await desk.closed(RUN, consult)
    if mode == "cold":
        assert len(provider.steered) == 1
        assert [told.code for told in await desk.told(RUN) if isinstance(told, CommandFailed)] == [
            "outcome-unknown"
        ]
    else:
        assert len(provider.steered) == 2
        assert len(provider.dials) == 1
        assert await state(database) == "consulting"


async def _dialled(provider: CountingProvider) -> bool:
    return len(provider.dials) > 0


@on_sqlite
@pytest.mark.parametrize("sent_away", [True, False])
async def test_a_caller_who_may_wait_without_anybody_knowing_is_sent_back(
    database: Database, desk: Desk, provider: CountingProvider, sent_away: bool
) -> None:
    asked = order(desk, "warm", age_s=50)
    provider.to_steer = [LOST if sent_away else Answer(429)]
    worker = make_worker(database, provider.url, replace(HASTY, haste=0.2))
    async with working(worker):
        await worker.record_commands([asked])
        await until(lambda: _put_off(database))
    late = make_worker(database, provider.url)  # somebody else, after the order has become too old
    async with database.write() as connection:
        await connection.execute(commands.update().values(ordered_at=0, due_at=0, lease_until=0))
    async with working(late):
        await desk.closed(RUN)
    assert [told.code for told in await desk.told(RUN) if isinstance(told, CommandFailed)] == ["expired"]
    assert provider.dials == []
    if sent_away:
        back = ElementTree.fromstring(provider.steered[-1][1]).findtext("Redirect")
        assert back is not None
        assert f"{RUN}?transfer=failed&" in back
        assert await notices(database) == []  # whoever takes him is told
    else:
        assert len(provider.steered) == 1
        assert [notice.result for notice in await notices(database)] == ["failed"]


@pytest.mark.real
@on_sqlite
async def test_the_second_call_of_a_warm_transfer_has_a_place_under_the_limits_or_is_not_begun(
    database: Database, desk: Desk, provider: CountingProvider, redis_url: str
) -> None:
    async with database.write() as connection:
        await connection.execute(configurations.update().values(max_concurrent_calls=2))
    redis = SharedRedis(redis_url, loss="", timeout_s=1)
    await redis.client.flushdb()
    leases, scope, now = (
        CallLeases(redis),
        Scope("configuration", desk.configuration_id, 2),
        datetime.now(UTC),
    )
    assert isinstance(await leases.acquire(RUN, [scope], now), Granted)
    worker = make_worker(database, provider.url, redis=redis)
    provider.to_steer = [twilio_error(400, 21218, "refused")]
    async with working(worker):
        refused = order(desk, "warm")
        await worker.record_commands([refused])
        await desk.closed(RUN)
        assert await leases.held(scope, now) == 1  # nobody was called, so there is a place again
        asked = await consulting(desk, worker)
        assert await leases.held(scope, now) == 2
        assert isinstance(await leases.acquire("another-call", [scope], now), Full)
        await leases.release(asked)
        assert isinstance(await leases.acquire("another-call", [scope], now), Granted)
        async with database.write() as connection:
            await connection.execute(transfers.transfers.delete())
        steered = len(provider.steered)
        await worker.record_commands([order(desk, "warm")])
        await desk.closed(RUN)
    assert (len(provider.steered), len(provider.dials)) == (steered, 1)
    *_, failure = [told for told in await desk.told(RUN) if isinstance(told, CommandFailed)]
    assert failure.code == "limit-reached"
    last = (await notices(database))[-1]
    assert (last.result, last.reason) == ("failed", "limit-reached")
    await redis.stop()


@pytest.mark.real
@on_sqlite
async def test_the_second_call_of_a_warm_transfer_waits_for_its_turn_among_those_that_begin(
    database: Database, desk: Desk, provider: CountingProvider, redis_url: str
) -> None:
    async with database.write() as connection:
        await connection.execute(configurations.update().values(max_calls_per_s=2.0))
    redis = SharedRedis(redis_url, loss="", timeout_s=1)
    await redis.client.flushdb()
    leases, scope = CallLeases(redis), Scope("configuration", desk.configuration_id, None, 2.0)
    ahead = datetime.now(UTC) + timedelta(
        seconds=1
    )  # the bucket is empty for so long, however slow the test is
    for run in ("one", "two"):
        assert isinstance(await leases.acquire(run, [scope], ahead), Granted)
    worker = make_worker(database, provider.url, redis=redis)
    async with working(worker):
        consult = await consulting(desk, worker)
    assert len(provider.dials) == 1
    assert [told for told in await desk.told(RUN) if isinstance(told, CommandFailed)] == []
    assert await leases.held(Scope("configuration", desk.configuration_id), datetime.now(UTC)) == 3
    assert (await orders(database, RUN))["transfer"].attempts == 0
    assert (await orders(database, consult))["originate"].state == "done"
    await redis.stop()


@pytest.mark.real
@on_sqlite
async def test_a_caller_who_hangs_up_before_he_is_sent_to_wait_leaves_no_place_taken(
    database: Database, desk: Desk, provider: CountingProvider, redis_url: str
) -> None:
    redis = SharedRedis(redis_url, loss="", timeout_s=1)
    await redis.client.flushdb()
    leases, scope = CallLeases(redis), Scope("configuration", desk.configuration_id)
    provider.to_steer = [Answer(429)]
    slow = make_worker(database, provider.url, replace(HASTY, haste=0.01), redis=redis)
    async with working(slow):
        await slow.record_commands([order(desk, "warm")])
        await until(lambda: _put_off(database))
        assert await leases.held(scope, datetime.now(UTC)) == 1
        await slow.observe_life([status(RUN, CALL, CallStatus.COMPLETED)])
        async with database.write() as connection:
            await ledger.hasten(connection, [RUN], now=0)
    async with working(make_worker(database, provider.url, redis=redis)):
        await desk.closed(RUN)
    assert (await orders(database, RUN))["transfer"].result == "settled"
    assert await leases.held(scope, datetime.now(UTC)) == 0
    await redis.stop()


async def _put_off(database: Database) -> bool:
    return (await orders(database, RUN))["transfer"].attempts == 1


@on_sqlite
async def test_the_end_of_an_earlier_transfer_says_nothing_of_this_one(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    earlier = TransferEnded(workflow_run_id=RUN, mode="cold", result="busy", transfer_id="another")
    asked = order(desk, "warm")

    async def heard_late() -> None:
        await worker.observe_life([event(earlier)])

    loop = asyncio.get_running_loop()
    provider.to_steer = [
        Answer(
            200,
            {"sid": CALL, "status": "in-progress"},
            before=lambda: asyncio.run_coroutine_threadsafe(heard_late(), loop).result(10),
        )
    ]
    async with working(worker):
        await worker.record_commands([asked])
        await desk.closed(RUN, consult_run_id(asked.id))
    assert await state(database) == "consulting"
    assert len(provider.dials) == 1


@on_sqlite
async def test_a_caller_who_waits_is_not_put_through_to_somebody_else_meanwhile(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        await consulting(desk, worker)
        await worker.record_commands([order(desk, "cold", requested_by=Party.OPERATOR)])
        await desk.closed(RUN)
    failures = [told.code for told in await desk.told(RUN) if isinstance(told, CommandFailed)]
    assert failures == ["transfer-going-on"]
    assert len(provider.steered) == 1
    assert await state(database) == "consulting"


@on_sqlite
async def test_nobody_is_left_alone_in_the_room_of_a_caller_who_had_gone(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        consult = await consulting(desk, worker)
        await worker.observe_life([joined(consult), status(RUN, CALL, CallStatus.COMPLETED)])
        await desk.closed(RUN, consult)
        assert len(provider.hang_ups) == 1
        assert await state(database) == "over"


# --- keys --------------------------------------------------------------------------------------------------------------


def keys(desk: Desk, digits: str = "12w#", **more: Any) -> Event[SendDigits]:
    data = SendDigits(
        workflow_run_id=RUN, configuration_id=desk.configuration_id, provider=desk.provider, provider_call_id=CALL,
        digits=digits,
    )  # fmt: skip
    return event(data, **more)


@on_sqlite
async def test_keys_are_pressed_once_and_it_is_told_how_many_but_not_which(
    database: Database, vonage_desk: Desk, provider: CountingProvider
) -> None:
    provider.to_steer = [Answer(429, {}), Answer(200, {"uuid": CALL}), LOST]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([keys(vonage_desk)])
        await vonage_desk.closed(RUN)
        await worker.record_commands([keys(vonage_desk)])
        await vonage_desk.closed(RUN)
    assert [pressed for _, pressed in provider.steered] == [
        "12p#"
    ] * 3  # refused, pressed, lost and not repeated
    sent, lost = await vonage_desk.told(RUN)
    assert isinstance(sent, DigitsSent)
    assert (sent.count, sent.way) == (4, "provider")
    assert "12" not in sent.model_dump_json(exclude={"workflow_run_id"})
    assert isinstance(lost, CommandFailed)
    assert (lost.command, lost.code) == ("dtmf", "unknown-outcome")
    assert await notices(database) == [DigitsNotice(workflow_run_id=RUN, reason="unknown-outcome")]


@on_sqlite
async def test_keys_that_come_late_or_where_there_is_no_way_are_not_pressed(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([keys(desk, age_s=60), keys(desk)])
        await desk.closed(RUN)
    told: list[Any] = await desk.told(RUN)
    assert {failure.code for failure in told} == {"expired", "unsupported"}
    assert provider.steered == []


@pytest.fixture
async def vonage_desk(database: Database, vonage_credentials: dict[str, str]) -> Desk:
    return await Desk(database, provider="vonage").open(credentials=vonage_credentials)


@pytest.fixture(scope="session")
def vonage_credentials() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "application_id": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        "private_key": pem.decode(),
        "api_key": "abcd1234",
        "signature_secret": "s" * 32,
    }


async def test_nothing_is_left_to_do_for_calls_that_were_never_transferred(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    await worker.observe_life([status("nobodys", CALL, CallStatus.COMPLETED), joined("nobodys")])
    assert await orders(database, "nobodys") == {}
