"""Calls that come back from a transfer, callers put through, who answered, and calls there is no place for."""

from typing import Any
from xml.etree import ElementTree

import pytest
from redis.asyncio import Redis

from offhook.call_leases import LEASE_S
from offhook.identities import transfer_path
from offhook.topics import CALL_NOTICES, CONFIGURATIONS

B_LEG = "aaaaaaaa-bbbb-cccc-dddd-00000000000b"


def path_of(rig: Any, word: str, provider: str = "twilio", transfer_id: str = "t1") -> str:
    run, call = (rig.twilio_run, rig.call_sid) if provider == "twilio" else (rig.vonage_run, rig.uuid)
    return transfer_path("w1", "u1", run, word, call, transfer_id)


def b_leg(status: str, **more: Any) -> dict[str, Any]:
    """An event of the party a Vonage call is transferred to."""
    return {
        "from": "442079460000", "to": "15550009999", "uuid": B_LEG, "conversation_uuid": "CON-1",
        "status": status, "direction": "outbound", "timestamp": "2026-01-01T12:00:00.000Z", **more,
    }  # fmt: skip


def parameters(response: Any) -> dict[str, str]:
    """What Twilio is told to bring along to the audio."""
    root = ElementTree.fromstring(response.content)
    return {each.attrib["name"]: each.attrib["value"] for each in root.iter("Parameter")}


def transfers(rig: Any) -> list[Any]:
    return [event.data for event in rig.events("call.transfer-ended.v1")]


async def configure(rig: Any, **changed: Any) -> None:
    record = rig._configurations["c1"].model_copy(update=changed)
    await rig.put(CONFIGURATIONS, "c1", record)
    await rig.bus.settle()


@pytest.mark.parametrize("result", ["busy", "no-answer", "failed"])
async def test_twilios_caller_whom_nobody_takes_is_connected_to_the_agent_again(rig, result):
    path = path_of(rig, "cold")
    answers = [await rig.twilio(path, DialCallStatus=result, CallStatus="in-progress") for _ in range(2)]
    assert parameters(answers[0])["transfer"] == result
    assert answers[0].content == answers[1].content
    assert [(each.mode, each.result) for each in transfers(rig)][:1] == [("cold", result)]
    assert len({event.id for event in rig.events("call.transfer-ended.v1")}) == 1


async def test_twilios_caller_who_was_connected_is_hung_up_when_that_is_over(rig):
    answer = await rig.twilio(path_of(rig, "cold"), DialCallStatus="completed", DialCallDuration="12")
    assert rig.said(answer) == ""
    (told,) = transfers(rig)
    assert told.result == "completed"
    (served,) = rig.events("call.instructions-served.v1")
    assert (served.data.kind, served.data.reason) == ("hangup", "transferred")


async def test_every_connect_after_a_transfer_has_a_token_of_its_own(rig):
    first = rig.twilio_connect(await rig.twilio())
    before = rig.twilio_connect(await rig.twilio(first.continue_path, CallStatus="in-progress"))
    again = rig.twilio_connect(
        await rig.twilio(path_of(rig, "cold"), DialCallStatus="busy", CallStatus="in-progress")
    )
    after = rig.twilio_connect(await rig.twilio(again.continue_path, CallStatus="in-progress"))
    second = rig.twilio_connect(
        await rig.twilio(
            path_of(rig, "cold", transfer_id="t2"), DialCallStatus="busy", CallStatus="in-progress"
        )
    )
    assert len({each.token for each in (first, before, again, after, second)}) == 5


async def test_vonages_caller_follows_the_other_partys_events(rig):
    path = path_of(rig, "cold", "vonage")
    for status in ("started", "ringing"):
        answer = await rig.vonage(path, b_leg(status))
        assert (answer.status_code, answer.content) == (204, b"")
    assert transfers(rig) == []
    answer = await rig.vonage(path, b_leg("rejected", detail="declined"))
    assert answer.json()[0]["endpoint"][0]["headers"]["transfer"] == "declined"
    assert answer.json()[0]["endpoint"][0]["headers"]["call_uuid"] == rig.uuid
    (told,) = transfers(rig)
    assert (told.workflow_run_id, told.mode, told.result) == (rig.vonage_run, "cold", "declined")


async def test_vonages_caller_who_was_connected_is_not_connected_to_the_agent_again(rig):
    path = path_of(rig, "cold", "vonage")
    await rig.vonage(path, b_leg("answered"))
    assert rig.said(await rig.vonage(path, b_leg("completed", duration="5"))) == ""
    (told,) = transfers(rig)
    assert told.result == "completed"


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
async def test_a_caller_who_waited_in_vain_is_connected_with_the_result(rig, provider):
    path = path_of(rig, "declined", provider)
    if provider == "twilio":
        answer = await rig.twilio(path, CallStatus="in-progress")
        assert parameters(answer)["transfer"] == "declined"
    else:
        notified = {"payload": {}, "conversation_uuid": "CON-1", "timestamp": "2026-01-01T12:00:00.000Z"}
        answer = await rig.vonage(path, notified)
        assert answer.json()[0]["endpoint"][0]["headers"]["transfer"] == "declined"
    (told,) = transfers(rig)
    assert (told.mode, told.result) == ("warm", "declined")


async def test_the_transfer_of_somebody_elses_call_is_not_told(rig):
    foreign = transfer_path("w1", "u1", "somebodys-run", "busy", rig.call_sid, "t1")
    answer = await rig.twilio(
        foreign, pairs=rig.twilio_fields(AccountSid=rig.other_sid), token=rig.other_token
    )
    assert rig.said(answer) is not None
    assert transfers(rig) == []


@pytest.mark.real
async def test_the_transfer_of_somebody_elses_call_is_not_told_whatever_workflow_is_named(
    start_rig, redis_url
):
    async with start_rig(redis_url) as rig, Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.flushdb()
        await redis.hset("offhook:call:run-1", mapping={"provider": "twilio", "account": rig.sid})
        foreign = transfer_path("no-such-workflow", "u2", "run-1", "completed", "CAmine", "t1")
        for path in (foreign, foreign.partition("?")[0]):
            fields = rig.twilio_fields(AccountSid=rig.other_sid, Direction="outbound-api")
            await rig.twilio(path, pairs=fields, token=rig.other_token)
        assert transfers(rig) == []
        assert rig.events("call.instructions-served.v1") == []


async def test_while_redis_is_away_what_another_account_says_of_a_transfer_is_told_as_its_own_word(rig):
    foreign = transfer_path("no-such-workflow", "u2", rig.twilio_run, "completed", "CAmine", "t1")
    fields = rig.twilio_fields(AccountSid=rig.other_sid, Direction="outbound-api")
    await rig.twilio(foreign, pairs=fields, token=rig.other_token)
    await rig.twilio(path_of(rig, "cold"), DialCallStatus="busy", CallStatus="in-progress")
    told = [(each.provider, each.account, each.result) for each in transfers(rig)]
    assert told == [("twilio", rig.other_sid, "completed"), ("twilio", rig.sid, "busy")]
    assert len({event.id for event in rig.events("call.transfer-ended.v1")}) == 2


async def test_when_the_answer_to_a_transfer_cannot_be_used_the_caller_comes_back_all_the_same(rig):
    failed = rig.public_url + path_of(rig, "cold")
    answer = await rig.twilio(rig.fallback, ErrorCode="11200", ErrorUrl=failed, CallStatus="in-progress")
    assert parameters(answer)["transfer"] == "failed"
    assert [each.result for each in transfers(rig)] == ["failed"]


@pytest.mark.real
@pytest.mark.parametrize("caller_waits", [True, False])
async def test_the_agent_puts_the_waiting_caller_through(start_rig, redis_url, caller_waits):
    async with start_rig(redis_url) as rig, Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.flushdb()
        dialled = {"provider": "twilio", "account": rig.sid, "transfer_of": "waiting-run"}
        await redis.hset("offhook:call:run-1", mapping=dialled)
        await redis.set("offhook:call-of:waiting-run", f"twilio:{rig.sid}:CAwaits")
        if not caller_waits:
            await redis.set(f"offhook:over:twilio:{rig.sid}:CAwaits", "1")
        first = rig.twilio_connect(await rig.twilio(rig.webhook(), Direction="outbound-api"))
        await redis.set("offhook:join:run-1", "1")
        answer = await rig.twilio(first.continue_path, Direction="outbound-api", CallStatus="in-progress")
        served = rig.events("call.instructions-served.v1")[-1].data
        if caller_waits:
            assert ElementTree.fromstring(answer.content).findtext("Dial/Conference") == "waiting-run"
            assert (served.kind, served.reason) == ("connect", "joined")
        else:
            assert rig.said(answer) == ""
            assert (served.kind, served.reason) == ("hangup", "consultation-over")


@pytest.mark.real
async def test_who_answered_is_told_to_the_bridges_and_kept_for_an_agent_that_comes_later(
    start_rig, redis_url
):
    async with start_rig(redis_url) as rig, Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.flushdb()
        await redis.hset("offhook:call:run-1", mapping={"provider": "twilio", "account": rig.sid})
        for _ in range(2):
            answer = await rig.twilio(
                rig.status("run-1"),
                AnsweredBy="machine_start",
                CallStatus="in-progress",
                Direction="outbound-api",
            )
            assert answer.status_code == 204
        notices = rig.bus.log(CALL_NOTICES)
        assert {event.id for event in notices} == {notices[0].id}
        assert (notices[0].data.result, notices[0].data.account) == ("machine", rig.sid)
        assert await redis.hget("offhook:call:run-1", "answered_by") == "machine"
        await rig.twilio(rig.status("run-1"), AnsweredBy="machine_end_beep", Direction="outbound-api")
        assert [each.data.message_end for each in rig.bus.log(CALL_NOTICES)] == [None, None, "beep"]
        assert await redis.hget("offhook:call:run-1", "message_end") == "beep"
        stranger = rig.twilio_fields(AccountSid=rig.other_sid, AnsweredBy="human", CallStatus="in-progress")
        await rig.twilio(rig.status("run-1"), pairs=stranger, token=rig.other_token)
        assert await redis.hget("offhook:call:run-1", "answered_by") == "machine"


@pytest.mark.real
async def test_a_call_over_the_limit_gets_the_busy_answer_and_an_event(start_rig, redis_url):
    async with start_rig(redis_url) as rig, Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.flushdb()
        await configure(rig, max_concurrent_calls=1)
        for _ in range(2):
            rig.twilio_connect(await rig.twilio())  # the provider's retry is the same call
        full = await rig.twilio(CallSid="CA" + "0" * 31 + "2")
        assert ElementTree.fromstring(full.content).find("Reject").attrib["reason"] == "busy"
        served = [event.data for event in rig.events("call.instructions-served.v1")]
        assert [(each.kind, each.reason) for each in served if each.kind != "connect"] == [
            ("refuse", "limit-reached")
        ]
        assert 0 < await redis.pttl("offhook:leases:configuration:c1") <= LEASE_S * 1000
        await redis.delete("offhook:leases:configuration:c1")
        rig.twilio_connect(await rig.twilio(CallSid="CA" + "0" * 31 + "3"))


@pytest.mark.real
async def test_a_users_limit_counts_over_all_configurations_and_ends_vonages_call_at_once(
    start_rig, redis_url
):
    async with start_rig(redis_url, user_max_concurrent_calls=1) as rig, Redis.from_url(redis_url) as redis:
        await redis.flushdb()
        rig.twilio_connect(await rig.twilio())
        answer = await rig.vonage()
        assert answer.json() == []


async def test_without_redis_no_call_is_turned_away(rig):
    await configure(rig, max_concurrent_calls=1)
    for last in "123":
        rig.twilio_connect(await rig.twilio(CallSid="CA" + "0" * 31 + last))
