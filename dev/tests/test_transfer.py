"""Callers put through to somebody else, keys for the other side, who answered, and no place for one more: from outside."""

import asyncio
import contextlib
from asyncio import Task
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import pytest_asyncio
from installation import PROVIDERS, Finished, Installation, Json, agent_that
from leases import no_lease

from carrier_sim import Callee, Caller, HangUp, Say, StayUntilHungUp, Wait, WaitForAgent
from offhook.identities import status_path
from offhook_agent import Call, CallEnded, chime

pytestmark = [
    pytest.mark.real,
    pytest.mark.alone,
    pytest.mark.asyncio(loop_scope="session"),
]

LISTENS: Final = (WaitForAgent(timeout_s=60), StayUntilHungUp(120))
# What is heard of the keys that are pressed; a pause is none.
KEYS_HEARD: Final = "12#"
# What becomes of transfers to somebody who does not take them; Twilio's network does not tell a refusal from a busy line.
IN_VAIN: Final[dict[tuple[str, str, str], str]] = {
    ("cold", "busy", "twilio"): "busy",
    ("cold", "busy", "vonage"): "busy",
    ("cold", "no-answer", "twilio"): "no-answer",
    ("cold", "no-answer", "vonage"): "no-answer",
    ("cold", "rejected", "vonage"): "declined",
    ("warm", "busy", "twilio"): "busy",
    ("warm", "busy", "vonage"): "busy",
    ("warm", "declined by the agent", "twilio"): "declined",
    ("warm", "declined by the agent", "vonage"): "declined",
}


@dataclass
class Diary:
    """What the agent of these tests experienced, by run."""

    results: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    consulted: dict[str, str] = field(default_factory=dict)
    answered_by: dict[str, str] = field(default_factory=dict)
    message_ends: dict[str, str] = field(default_factory=dict)


@dataclass
class Scene:
    """All calls of this module; they run side by side, and each test waits for its own."""

    calls: "dict[tuple[str, ...], Task[Finished]]"
    diary: Diary


def agent_of(diary: Diary, installation: Installation) -> Any:
    """An agent that does what its workflow's metadata says, under `do`."""

    async def on_call(call: Call) -> None:
        run, plan = call.workflow_run_id, call.metadata.get("do", {})
        if call.resume is not None and call.resume.reason == "transfer":
            result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            call.on_transfer(result.set_result)
            diary.results[run] = await asyncio.wait_for(result, 60)
            await greet(call)
        elif call.consultation is not None:
            diary.consulted[call.consultation.of] = run
            await greet(call)
            if plan["then"] == "join":
                await call.join()
                await until_over(call)
        elif "transfer" in plan:
            await greet(call)
            with contextlib.suppress(CallEnded):
                # Told to an agent who still has the caller: the transfer was not even begun.
                diary.results[run] = f"not begun: {await call.transfer(plan['transfer'], plan['mode'])}"
        elif "press" in plan:
            await greet(call)
            await call.send_digits(plan["press"])
            await pressed(installation, call.to_number)
        elif "wait_for" in plan:
            news: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            call.on_answered_by(news.set_result)
            diary.answered_by[run] = await asyncio.wait_for(news, 60)
            if plan["wait_for"] == "message-end":
                end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
                call.on_message_end(end.set_result)
                diary.message_ends[run] = await asyncio.wait_for(end, 60)
        else:
            await until_over(call)
        if call.ended:
            diary.ends[run] = call.end_reason or ""

    return on_call


async def greet(call: Call) -> None:
    await call.play(chime(sample_rate=call.sample_rate))
    await call.played()


async def until_over(call: Call) -> None:
    async for _ in call.audio():
        pass


async def pressed(installation: Installation, number: str) -> None:
    """Returns when the keys were heard at `number`: nobody tells an agent when a carrier has pressed them."""
    async with asyncio.timeout(60):
        while not any(call.report.digits_heard == KEYS_HEARD for call in installation.dials(number)):
            await asyncio.sleep(0.05)


async def put_through(installation: Installation, provider: str, number: str, other: str) -> Finished:
    """A person calls a number and is put through to `other`. Once they have been heard one of the two hangs up: at Twilio
    the caller, at Vonage the other one, whose end is the caller's too."""
    async with installation._slots:
        ringing = installation.ring(provider, number, *LISTENS)

        def has_talked(record: Json) -> bool:
            kinds = [event["type"] for event in record["events"]]
            return ringing.call.report.party_audio_ms > 1000 and "offhook.call.transfer-ended.v1" in kinds

        await installation.record(ringing.run, has_talked, within_s=90)
        if provider == "twilio":
            return await installation.hang_up(ringing)
        [call] = installation.dials(other)
        call.end("callee", "hung-up")
        return await installation.over(ringing)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(installation: Installation) -> AsyncIterator[Scene]:
    diary = Diary()
    calls: dict[tuple[str, ...], Task[Finished]] = {}
    async with agent_that(agent_of(diary, installation)) as url:
        numbers: dict[tuple[str, ...], str] = {}
        others: dict[tuple[str, ...], str] = {}

        async def transfers(mode: str, what: str, provider: str, callee: Callee, then: str) -> None:
            others[mode, what, provider] = to = installation.callee(callee)
            plan = {"transfer": to, "mode": mode, "then": then}
            workflow = await installation.workflow(url, metadata={"do": plan})
            numbers[mode, what, provider] = await installation.number(provider, workflow)

        # The agent's words are over when it asks to join them, which takes its time: they speak until they are heard.
        talks = Callee(0.3, "answer", Caller((WaitForAgent(timeout_s=60), *((Wait(1.0), Say(2.0)) * 30))))
        at_once = Callee(0.3, "answer", Caller((Say(2.0), Wait(0.5), HangUp()), at_once=True))
        for mode, what, provider in IN_VAIN:
            callee = talks if what.startswith("declined") else Callee(0.3, what)  # type: ignore[arg-type]
            await transfers(mode, what, provider, callee, "leave")
        for provider in PROVIDERS:
            await transfers("cold", "answer", provider, at_once, "")
            await transfers("warm", "answer", provider, talks, "join")
        keys = await installation.workflow(url, metadata={"do": {"press": "12w#"}})
        detects = await installation.workflow(url, metadata={"do": {"wait_for": "answered-by"}})
        waits = await installation.workflow(url, metadata={"do": {"wait_for": "message-end"}})
        await installation.known()
        for key, number in numbers.items():
            if key[:2] == ("warm", "answer"):
                work = put_through(installation, key[2], number, others[key])
            else:
                work = installation.call(key[2], number, *LISTENS)
            calls[key] = installation.in_background(work)
        for provider in PROVIDERS:
            listens = Callee(0.3, "answer", Caller(LISTENS))
            calls["keys", provider] = installation.in_background(installation.dial(provider, keys, listens))
            machine = Callee.machine(records_s=90)
            for who in (machine, Callee(0.3, "answer", Caller(LISTENS))):
                work = installation.dial(provider, detects, who, machine_detection="detect")
                calls[who.answered_by, provider] = installation.in_background(work)
            work = installation.dial(provider, waits, machine, machine_detection="detect-message-end")
            calls["beep", provider] = installation.in_background(work)
        yield Scene(calls, diary)
        await asyncio.gather(*calls.values(), return_exceptions=True)


each_provider = pytest.mark.parametrize("provider", PROVIDERS)


def transfers_of(call: Finished) -> list[tuple[str, str]]:
    return [(told["mode"], told["result"]) for told in call.told("call.transfer-ended.v1")]


@each_provider
async def test_a_caller_is_put_through_and_the_call_ends_with_that(scene: Scene, provider: str) -> None:
    call = await scene.calls["cold", "answer", provider]
    assert call.objections == []
    assert transfers_of(call) == [("cold", "completed")]
    assert call.report.party_audio_ms > 1000
    assert scene.diary.ends[call.run] == "transfer"
    assert call.run not in scene.diary.results
    assert call.record["end_reason"] == "transferred"


@pytest.mark.parametrize(("mode", "what", "provider"), IN_VAIN)
async def test_a_caller_whom_nobody_takes_has_the_agent_again_who_knows_why(
    scene: Scene, mode: str, what: str, provider: str
) -> None:
    call = await scene.calls[mode, what, provider]
    result = IN_VAIN[mode, what, provider]
    assert call.objections == []
    assert transfers_of(call) == [(mode, result)]
    assert scene.diary.results[call.run] == result
    assert (call.record["end_reason"], call.record["ended_by"]) == ("agent-hung-up", "agent")


@each_provider
async def test_the_agent_talks_with_the_other_party_first_and_puts_the_caller_through(
    scene: Scene, installation: Installation, provider: str
) -> None:
    call = await scene.calls["warm", "answer", provider]
    assert call.objections == []
    assert transfers_of(call) == [("warm", "completed")]
    assert call.report.party_audio_ms > 1000
    consulted: Json = await installation.record(scene.diary.consulted[call.run])
    assert consulted["transfer_of"] == call.run
    assert consulted["status"] == "completed"
    [other] = installation.dials(consulted["to_number"])
    assert other.report.rooms == call.report.rooms != []


@each_provider
async def test_keys_that_the_agent_presses_are_heard_by_the_other_side(scene: Scene, provider: str) -> None:
    call = await scene.calls["keys", provider]
    assert call.objections == []
    assert call.report.digits_heard == KEYS_HEARD
    way = "in-band" if provider == "twilio" else "provider"
    assert [(told["count"], told["way"]) for told in call.told("media.digits-sent.v1")] == [(4, way)]


@each_provider
@pytest.mark.parametrize("who", ["machine", "human"])
async def test_who_answered_is_told_to_the_agent(scene: Scene, provider: str, who: str) -> None:
    call = await scene.calls[who, provider]
    assert call.objections == []
    assert scene.diary.answered_by[call.run] == who
    assert call.record["answered_by"] == who


@each_provider
async def test_the_end_of_a_machines_greeting_is_told_to_the_agent(scene: Scene, provider: str) -> None:
    call = await scene.calls["beep", provider]
    assert call.objections == []
    assert (scene.diary.answered_by[call.run], scene.diary.message_ends[call.run]) == ("machine", "beep")
    assert (call.record["answered_by"], call.record["message_end"]) == ("machine", "beep")


async def test_one_call_too_many_hears_the_busy_tone_and_there_is_a_place_again_afterwards(
    installation: Installation,
) -> None:
    account = {"account_sid": "AC" + "0" * 31 + "4", "auth_token": "not-a-real-auth-token-4444444444"}
    installation.sim.twilio.add_account(account["account_sid"], account["auth_token"])
    configuration = await installation.configuration(
        "twilio", account, name="one at a time", max_concurrent_calls=1
    )
    number = "+14155550299"
    installation.sim.twilio.add_number(
        account["account_sid"], number, voice_url=installation.inbound,
        voice_fallback_url=installation.fallback, status_callback=installation.origin + status_path(),
    )  # fmt: skip
    await installation.demo.post(
        f"/telephony-configurations/{configuration}/phone-numbers",
        {"number": number, "workflow_id": await installation.workflow()},
    )
    await installation.known()
    first = installation.endless("twilio", number)
    await installation.answers(first, 1)
    turned_away = await installation.call("twilio", number, StayUntilHungUp(20))
    assert turned_away.outcome == (["initiated", "ringing", "busy"], "refused", "platform")
    [served] = turned_away.told("call.instructions-served.v1")
    assert (served["kind"], served["reason"]) == ("refuse", "limit-reached")
    assert turned_away.report.streams == 0
    assert (await installation.hang_up(first)).record["status"] == "completed"
    await no_lease(installation, first.run)
    again = installation.endless("twilio", number)
    await installation.answers(again, 1)
    await installation.hang_up(again)
