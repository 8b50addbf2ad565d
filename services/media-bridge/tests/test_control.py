"""What agents ask of their calls, and the news they are told: carriers and agents on sockets, Kafka in memory, Redis."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from media_bridge import control
from offhook.audio import g711, tone
from offhook.events import (
    AnsweredByNotice,
    DigitsNotice,
    DigitsSent,
    EventData,
    MediaStopped,
    Party,
    SendDigits,
    Transfer,
    TransferNotice,
    TransferRequested,
    new_event,
)
from offhook.identities import consult_run_id, inbound_run_id, transfer_id
from offhook.topics import CALL_COMMANDS, CALL_NOTICES

TO = "+15550001111"


async def notice(rig: Any, data: EventData) -> None:
    run = data.workflow_run_id  # type: ignore[attr-defined]
    await rig.bus.publish(CALL_NOTICES, new_event(data, source="/test", time=datetime.now(UTC), subject=run))


async def commanded(rig: Any, kind: type[EventData], caller: Any) -> Any:
    found: list[Any] = await caller.until(
        lambda: [command for command in rig.commands() if isinstance(command, kind)]
    )
    return found[0]


@pytest.mark.parametrize("mode", ["cold", "warm"])
async def test_a_transfer_is_told_and_ordered_and_the_agent_hears_that_the_call_went(
    rig: Any, agent: Any, redis_url: str, mode: str
) -> None:
    async with Redis.from_url(redis_url) as redis:
        known = {"direction": "inbound", "from": "+15550003333", "to": "+15550002222"}
        await redis.hset(f"offhook:call:{rig.twilio_run()}", mapping=known)
    caller = await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send({"event": "transfer", "to": TO, "mode": mode})
    order = await commanded(rig, Transfer, caller)
    assert (order.to_number, order.mode, order.requested_by) == (TO, mode, Party.AGENT)
    assert (order.workflow_id, order.user_id, order.provider_call_id) == ("w1", "u1", rig.call_sid)
    assert (order.own_number, order.far_number) == ("+15550002222", "+15550003333")
    (wish,) = await rig.tells(TransferRequested)
    (command,) = rig.bus.log(CALL_COMMANDS)
    assert wish.consult_run_id == (consult_run_id(command.id) if mode == "warm" else None)
    assert wish.transfer_id == transfer_id(command.id)
    await caller.stop_speaking()
    await caller.stop()
    assert (await connection.hears("stop"))["reason"] == "transfer"
    assert (await rig.tells(MediaStopped))[0].reason == "carrier-stop"


async def test_of_two_configurations_of_one_account_the_one_that_took_the_call_transfers_it(
    rig: Any, agent: Any, redis_url: str
) -> None:
    await rig.configuration("b", "u1", "twilio", {"account_sid": rig.sid, "auth_token": rig.auth_token})
    await rig.configuration("d", "u1", "twilio", {"account_sid": rig.sid, "auth_token": rig.auth_token})
    await rig.bus.settle()
    async with Redis.from_url(redis_url) as redis:
        await redis.hset(f"offhook:call:{rig.twilio_run()}", "configuration", "d")
    caller = await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send({"event": "transfer", "to": TO})
    assert (await commanded(rig, Transfer, caller)).configuration_id == "d"


async def test_one_transfer_at_a_time_and_what_came_of_it_is_told(rig: Any, agent: Any) -> None:
    await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send({"event": "transfer", "to": TO})
    await connection.send({"event": "transfer", "to": TO})
    assert (await connection.hears("error"))["code"] == "transfer-pending"
    await notice(rig, TransferNotice(workflow_run_id="another-run", result="busy"))
    await notice(rig, TransferNotice(workflow_run_id=rig.twilio_run(), result="failed"))
    assert await connection.hears("transfer") == {"event": "transfer", "result": "failed"}
    await connection.send({"event": "transfer", "to": TO})
    assert len(await rig.tells(TransferRequested, 2)) == 2


async def test_the_transfers_and_keys_of_a_session_are_bounded(
    rig: Any, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_TRANSFERS", 1)
    monkeypatch.setattr(control, "MAX_KEYS", 3)
    monkeypatch.setattr(control, "PENDING_S", 0.0)
    await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    for _ in range(2):
        await connection.send({"event": "transfer", "to": TO})
    for _ in range(2):
        await connection.send({"event": "dtmf", "digits": "12"})
    await connection.until(lambda: len(connection.said("error")) == 2)
    assert {error["code"] for error in connection.said("error")} == {"too-many-transfers", "too-many-keys"}
    assert len(await rig.tells(DigitsSent)) == 1
    assert len(rig.commands()) == 1


@pytest.mark.parametrize(
    "request_text", [{"to": "+1\u0661\u0662"}, {"to": "112"}, {"to": ""}, {}, {"mode": "hot"}]
)
async def test_a_transfer_to_nowhere_is_not_begun(rig: Any, agent: Any, request_text: dict[str, str]) -> None:
    await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send({"event": "transfer", **request_text})
    assert (await connection.hears("error"))["code"] == "bad-message"
    assert rig.commands() == []


async def test_keys_towards_twilio_are_tones_in_the_callers_ear(rig: Any, agent: Any) -> None:
    caller = await rig.call("twilio")
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send({"event": "dtmf", "digits": "5"})
    await caller.until(lambda: len(caller.audio) >= 8 * tone.dtmf_ms("5"))
    heard = np.frombuffer(g711.mulaw_to_pcm16(bytes(caller.audio[: 8 * 100])), np.int16).astype(float)
    power = np.abs(np.fft.rfft(heard))
    strongest = sorted(np.argsort(power)[-2:] * 8000 / len(heard))
    assert strongest == pytest.approx([770, 1336], abs=10)
    (sent,) = await rig.tells(DigitsSent)
    assert (sent.count, sent.way) == (1, "in-band")
    assert rig.commands() == []


async def test_keys_towards_vonage_are_pressed_by_its_api(rig: Any, agent: Any) -> None:
    caller = await rig.call("vonage")
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send({"event": "dtmf", "digits": "1A"})
    assert (await connection.hears("error"))["code"] == "unsupported"
    await connection.send({"event": "dtmf", "digits": "12w#"})
    order = await commanded(rig, SendDigits, caller)
    assert (order.digits, order.provider_call_id) == ("12w#", rig.uuid)
    assert rig.events(DigitsSent) == []


async def test_who_answered_is_told_once_and_to_an_agent_that_comes_later_too(rig: Any, agent: Any) -> None:
    await rig.call()
    first = await agent.connection()
    await first.hears("start")
    for account, result in ((rig.sid, "machine"), (rig.sid, "machine"), ("AC-of-a-stranger", "human")):
        said = AnsweredByNotice(
            workflow_run_id=rig.twilio_run(), provider="twilio", account=account, result=result
        )
        await notice(rig, said)
    await notice(rig, TransferNotice(workflow_run_id=rig.twilio_run(), result="unsupported"))
    await first.hears("transfer")
    assert first.said("answered-by") == [{"event": "answered-by", "result": "machine"}]
    await first.socket.close(1011)
    second = await agent.connection()
    assert await second.hears("answered-by") == {"event": "answered-by", "result": "machine"}
    assert second.said("transfer") == []


async def test_of_a_machine_the_agent_is_told_first_that_it_is_one_and_then_that_it_records(
    rig: Any, agent: Any
) -> None:
    await rig.call()
    first = await agent.connection()
    await first.hears("start")
    for message_end in (None, "beep", None, "beep"):
        said = AnsweredByNotice(
            workflow_run_id=rig.twilio_run(), provider="twilio", account=rig.sid, result="machine",
            message_end=message_end,
        )  # fmt: skip
        await notice(rig, said)
    await notice(
        rig, TransferNotice(workflow_run_id=rig.twilio_run(), result="failed", reason="limit-reached")
    )
    failed = await first.hears("transfer")
    assert failed == {"event": "transfer", "result": "failed", "reason": "limit-reached"}
    machine = {"event": "answered-by", "result": "machine"}
    assert first.said("answered-by") == [machine, machine | {"message_end": "beep"}]
    await first.socket.close(1011)
    second = await agent.connection()
    assert await second.hears("answered-by") == machine | {"message_end": "beep"}


async def test_keys_that_were_not_pressed_are_told_to_the_agent(rig: Any, agent: Any) -> None:
    await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await notice(rig, DigitsNotice(workflow_run_id=rig.twilio_run(), reason="rejected"))
    assert await connection.hears("digits") == {"event": "digits", "result": "failed", "reason": "rejected"}


async def test_a_bot_that_speaks_twilio_finds_what_is_known_of_a_machine_in_its_parameters(
    rig: Any, twilio_bot: Any, redis_url: str
) -> None:
    await rig.workflow("bot", twilio_bot.url, agent_protocol="twilio")
    async with Redis.from_url(redis_url) as redis:
        known = {"answered_by": "machine", "message_end": "beep"}
        await redis.hset(f"offhook:call:{rig.twilio_run()}", mapping=known)
    await rig.call("twilio", "bot")
    start = await (await twilio_bot.connection()).hears("start")
    parameters = start["start"]["customParameters"]
    assert (parameters["answered_by"], parameters["message_end"]) == ("machine", "beep")


async def test_what_was_found_out_before_the_audio_began_is_told_after_the_start(
    rig: Any, agent: Any, redis_url: str
) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.hset(f"offhook:call:{rig.twilio_run()}", "answered_by", "human")
    await rig.call()
    connection = await agent.connection()
    assert await connection.hears("answered-by") == {"event": "answered-by", "result": "human"}
    assert connection.messages[0]["event"] == "start"


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
async def test_a_call_that_comes_back_from_a_transfer_tells_the_agent_why(
    rig: Any, agent: Any, provider: str
) -> None:
    if provider == "twilio":
        caller = await rig.twilio()
        await caller.start(rig.mint(rig.twilio_run()), transfer="busy")
    else:
        caller = await rig.vonage()
        run = inbound_run_id("vonage", rig.app_id, rig.uuid)
        await caller.start(rig.mint(run, rig.app_id, rig.uuid), transfer="busy")
    connection = await agent.connection()
    assert await connection.hears("transfer") == {"event": "transfer", "result": "busy"}
    assert connection.messages[0]["resume"]["reason"] == "transfer"


async def test_a_twilio_bot_learns_in_its_parameters_why_it_has_the_call_again(
    rig: Any, twilio_bot: Any
) -> None:
    await rig.workflow("bot", twilio_bot.url, agent_protocol="twilio")
    caller = await rig.twilio("bot")
    await caller.start(rig.mint(rig.twilio_run()), transfer="no-answer")
    start = await (await twilio_bot.connection()).hears("start")
    assert start["start"]["customParameters"]["transfer_result"] == "no-answer"


async def test_the_agent_of_a_consultation_puts_the_caller_through(
    rig: Any, agent: Any, redis_url: str
) -> None:
    run = rig.twilio_run()
    async with Redis.from_url(redis_url) as redis:
        await redis.hset(f"offhook:call:{run}", "transfer_of", "the-waiting-run")
        caller = await rig.call()
        connection = await agent.connection()
        await connection.hears("start")
        await connection.send({"event": "transfer", "mode": "join"})
        assert (await connection.hears("stop"))["reason"] == "transfer"
        assert await caller.ends() == 1000
        assert await redis.exists(f"offhook:join:{run}")
        assert not await redis.exists(f"offhook:ended:{run}")
    (stopped,) = await rig.tells(MediaStopped)
    assert (stopped.reason, stopped.ended_by) == ("agent-joined", Party.AGENT)
    assert rig.commands() == []


async def test_a_call_for_which_nobody_waits_cannot_be_joined(rig: Any, agent: Any) -> None:
    await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send({"event": "transfer", "mode": "join"})
    assert (await connection.hears("error"))["code"] == "unsupported"
