"""What people see of a call from outside: who ended it, what was heard, what the record says."""

import asyncio
import contextlib
import itertools
import sys
from asyncio import Task
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pytest
import pytest_asyncio
from installation import PROVIDERS, STATUSES, Finished, Installation, Json, agent_that, raw_agent_that
from websockets.asyncio.server import ServerConnection

from carrier_sim import (
    BargeIn,
    Callee,
    Caller,
    CallReport,
    HangUp,
    Press,
    Say,
    StayUntilHungUp,
    Wait,
    WaitForAgent,
)
from carrier_sim.callee import Outcome
from carrier_sim.line import Line
from offhook_agent import Call, Turn, TurnDetector, chime
from offhook_dev.ports import free_port
from offhook_dev.programs import Program
from offhook_dev.stack import repository

pytestmark = [
    pytest.mark.real,
    pytest.mark.alone,
    pytest.mark.asyncio(loop_scope="session"),
]

FALLBACK: Final = "Nobody is here today. Please call again tomorrow."
STAY: Final = StayUntilHungUp(120)
# What becomes of calls that nobody answers: statuses, end reason, ended by.
UNANSWERED: Final[dict[Outcome, tuple[list[str], str, str]]] = {
    "busy": (["initiated", "ringing", "busy"], "busy", "callee"),
    "no-answer": (["initiated", "ringing", "no-answer"], "no-answer", "callee"),
    "failed": (["initiated", "failed"], "invalid-number", "carrier"),
    "rejected": (["initiated", "ringing", "busy"], "rejected", "callee"),
    "canceled": (["initiated", "ringing", "canceled"], "canceled", "operator"),
}


@dataclass
class Diary:
    """What the agents of these tests experienced, by run."""

    digits: dict[str, str] = field(default_factory=dict)
    marks: dict[str, dict[str, bool]] = field(default_factory=dict)
    cleared: dict[str, Any] = field(default_factory=dict)


@dataclass
class Scene:
    """All calls of this module; they run side by side, and each test waits for its own."""

    calls: dict[tuple[str, str], "Task[Finished]"]
    in_vain: dict[tuple[str, str], "Task[CallReport]"]
    diary: Diary


async def say_goodbye(call: Call) -> None:
    """Greets and hangs up, by message, once the greeting was heard."""
    await call.play(chime(sample_rate=call.sample_rate))
    await call.played()


async def close_the_socket(connection: ServerConnection) -> None:
    """Listens for a second and closes the connection, without a word."""
    for _ in range(50):
        await connection.recv()
    await connection.close(1000)


def listen_to_keys(diary: Diary) -> Any:
    async def on_call(call: Call) -> None:
        await call.play(chime(sample_rate=call.sample_rate))
        diary.marks[call.workflow_run_id] = {"greeting": await call.mark("greeting")}
        async for digit in call.digits():
            diary.digits[call.workflow_run_id] = diary.digits.get(call.workflow_run_id, "") + digit

    return on_call


def talk_until_interrupted(diary: Diary) -> Any:
    async def on_call(call: Call) -> None:
        await call.play(hum(0.3, call.sample_rate))
        begun = asyncio.create_task(call.mark("begun"))
        await asyncio.sleep(0)  # the mark is set here, not after what follows
        await call.play(hum(20.0, call.sample_rate))
        done = asyncio.create_task(call.mark("done"))
        turns = TurnDetector(call.sample_rate)
        async for audio in call.audio():
            match turns.hear(audio):
                case Turn.STARTED:
                    diary.cleared[call.workflow_run_id] = await call.clear()
                case Turn.ENDED:
                    diary.marks[call.workflow_run_id] = {"begun": await begun, "done": await done}
                    return

    return on_call


def hum(seconds: float, sample_rate: int) -> bytes:
    phase = np.arange(round(seconds * sample_rate)) * 2 * np.pi * 300 / sample_rate
    return bytes((np.sin(phase) * 6000).astype("<i2").tobytes())


class Road:
    """An agent's address, which leads to a port on this machine, or nowhere (0): then every connection ends at once."""

    def __init__(self, leads_to: int) -> None:
        self.leads_to = leads_to

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Gives the address."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        try:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Port 0 takes no connections either.
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.leads_to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pour(reader, far_writer), _pour(far_reader, writer))


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def lose_the_agent(
    installation: Installation, program: Program, road: Road, successor: int, provider: str, number: str
) -> Finished:
    """The agent's process is killed between two things the caller says, and another takes its place a moment later."""
    ringing = installation.ring(provider, number, StayUntilHungUp(300))
    async with asyncio.timeout(60):
        while (line := ringing.call._line) is None:
            await asyncio.sleep(0.05)
    assert await line.wait_for_agent(0.7, 60.0), "the agent never greeted"
    await converse(line)
    road.leads_to = 0
    program.kill()
    await asyncio.sleep(1.5)
    road.leads_to = successor
    await installation.record(ringing.run, lambda record: agents_of(record) == 2)
    await converse(line)
    return await installation.hang_up(ringing)


async def converse(line: Line) -> None:
    """The person says something, and the agent answers."""
    await line.say(Say(1.0).pcm(line.sample_rate, 1))
    assert await line.wait_for_agent(0.7, 60.0), "the agent never answered"


def agents_of(record: Json) -> int:
    return [event["type"] for event in record["events"]].count("offhook.agent.connected.v1")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(installation: Installation) -> AsyncIterator[Scene]:
    diary = Diary()
    calls: dict[tuple[str, str], Task[Finished]] = {}
    vain: dict[tuple[str, str], Task[CallReport]] = {}
    async with contextlib.AsyncExitStack() as agents:
        goodbye = await agents.enter_async_context(agent_that(say_goodbye))
        closing = await agents.enter_async_context(raw_agent_that(close_the_socket))
        keys = await agents.enter_async_context(agent_that(listen_to_keys(diary)))
        talker = await agents.enter_async_context(agent_that(talk_until_interrupted(diary)))
        example = await installation.workflow()
        workflows = {
            "the caller hangs up": example,
            "the caller presses #": example,
            "the agent says goodbye": await installation.workflow(goodbye),
            "the agent closes its socket": await installation.workflow(closing),
            "the caller presses keys": await installation.workflow(keys),
            "the caller interrupts": await installation.workflow(talker),
            "no agent listens": await installation.workflow(
                f"ws://127.0.0.1:{free_port()}", fallback={"message": FALLBACK, "language": "en-GB"}
            ),
        }
        talk = (WaitForAgent(timeout_s=60), Say(1.0), WaitForAgent(timeout_s=60))
        steps: dict[str, tuple[Any, ...]] = {
            "the caller hangs up": (*talk, HangUp()),
            "the caller presses #": (WaitForAgent(timeout_s=60), Press("#"), STAY),
            "the agent says goodbye": (STAY,),
            "the agent closes its socket": (STAY,),
            "the caller presses keys": (WaitForAgent(timeout_s=60), Press("12*0"), Wait(0.3), HangUp()),
            "the caller interrupts": (BargeIn(after_s=0.8, seconds=0.8), STAY),
            "no agent listens": (STAY,),
        }
        programs, roads = {}, {}
        lost: dict[str, str] = {}
        for name in (*PROVIDERS, "successor"):
            port = free_port()
            programs[name] = Program(
                f"agent-to-be-killed-{name}" if name in PROVIDERS else "agent-successor",
                [sys.executable, str(repository() / "examples" / "echo_agent.py"), "--port", str(port)],
                installation.home,
                port=port,
                ready_url=f"http://127.0.0.1:{port}/healthz",
            )
            agents.push_async_callback(programs[name].stop)
        for provider in PROVIDERS:
            roads[provider] = Road(programs[provider].port)
            url = await agents.enter_async_context(roads[provider].open())
            lost[provider] = await installation.number(provider, await installation.workflow(url))
        await asyncio.gather(*(program.start() for program in programs.values()))
        numbers = {
            (provider, what): await installation.number(provider, workflow)
            for provider, what in itertools.product(PROVIDERS, workflows)
            for workflow in [workflows[what]]
        }
        silent = {}
        for provider in PROVIDERS:
            numbers[provider, "the configuration is paused"] = await installation.number(
                provider, example, paused=True
            )
            silent[provider, "the number is unknown"] = installation.number_at_carrier(provider)
            silent[provider, "the number has no workflow"] = await installation.number(provider, None)
        await installation.known()

        # Those that take longest begin first.
        for provider in PROVIDERS:
            work = lose_the_agent(
                installation, programs[provider], roads[provider], programs["successor"].port,
                provider, lost[provider],
            )  # fmt: skip
            calls[provider, "the agent is killed"] = installation.in_background(work)
        order = sorted(numbers, key=lambda key: key[1] != "no agent listens")
        for provider, what in order:
            work = installation.call(provider, numbers[provider, what], *steps.get(what, (STAY,)))
            calls[provider, what] = installation.in_background(work)
        for (provider, what), number in silent.items():
            vain[provider, what] = installation.in_background(installation.call_in_vain(provider, number))
        for provider, outcome in itertools.product(PROVIDERS, UNANSWERED):
            work = installation.dial(provider, example, Callee(0.2, outcome), ring_timeout_s=5)
            calls[provider, f"the callee: {outcome}"] = installation.in_background(work)
        for provider in PROVIDERS:
            callee = Callee(0.2, "answer", Caller((*talk, HangUp())))
            work = installation.dial(provider, example, callee)
            calls[provider, "the callee hangs up"] = installation.in_background(work)
        yield Scene(calls, vain, diary)
        await asyncio.gather(*calls.values(), *vain.values(), return_exceptions=True)


each_provider = pytest.mark.parametrize("provider", PROVIDERS)


# --- who ends it


@each_provider
async def test_a_caller_who_hangs_up_has_ended_the_call(scene: Scene, provider: str) -> None:
    call = await scene.calls[provider, "the caller hangs up"]
    assert call.objections == []
    assert call.outcome == (STATUSES, "caller-hung-up", "caller")


@each_provider
async def test_a_callee_who_hangs_up_has_ended_the_call(scene: Scene, provider: str) -> None:
    call = await scene.calls[provider, "the callee hangs up"]
    assert call.objections == []
    assert call.outcome == (STATUSES, "callee-hung-up", "callee")
    assert call.record["direction"] == "outbound"


@each_provider
@pytest.mark.parametrize(
    "how", ["the agent says goodbye", "the agent closes its socket", "the caller presses #"]
)
async def test_an_agent_that_hangs_up_ends_the_call(scene: Scene, provider: str, how: str) -> None:
    call = await scene.calls[provider, how]
    assert call.objections == []
    assert call.outcome == (STATUSES, "agent-hung-up", "agent")
    # Whichever comes first: the provider's API, or the next instructions. Never the person on the phone.
    assert call.report.ended_by in ("rest", "instructions")


@each_provider
@pytest.mark.parametrize("outcome", UNANSWERED)
async def test_a_call_nobody_answers_says_why(scene: Scene, provider: str, outcome: Outcome) -> None:
    call = await scene.calls[provider, f"the callee: {outcome}"]
    assert call.objections == []
    assert call.outcome == UNANSWERED[outcome]
    assert call.report.streams == 0
    assert call.record["answered_at"] is None


# --- what is heard


@each_provider
async def test_an_interrupted_agent_stops_and_learns_how_much_was_heard(scene: Scene, provider: str) -> None:
    call = await scene.calls[provider, "the caller interrupts"]
    assert call.objections == []
    (interruption,) = call.report.interruptions
    assert interruption.stopped_after_ms is not None
    assert call.report.clears == 1
    cleared = scene.diary.cleared[call.run]
    # Of 20.3 s the caller heard some; nothing is both heard and thrown away.
    assert 0 < cleared.heard_ms < 10_000
    assert abs(cleared.heard_ms + cleared.discarded_ms - 20_300) <= 20
    # Told by the bridge's own clock: of what it has sent, all was heard but for what it sends ahead.
    sent_ms = call.record["agent_audio_ms"]
    assert 0 <= sent_ms - cleared.heard_ms <= 120
    assert sent_ms < 15_000
    assert call.report.agent_audio_ms <= sent_ms
    # A line that was late had more left to play, which it then did not.
    assert cleared.heard_ms - call.report.agent_audio_ms < 500 + 20 * call.report.late_frames
    (stopped,) = call.told("media.stopped.v1")
    assert stopped["quality"]["interruptions"] == 1


@each_provider
async def test_marks_come_back_once_and_say_whether_they_were_heard(scene: Scene, provider: str) -> None:
    keys = await scene.calls[provider, "the caller presses keys"]
    assert scene.diary.marks[keys.run] == {"greeting": True}
    talker = await scene.calls[provider, "the caller interrupts"]
    assert scene.diary.marks[talker.run] == {"begun": True, "done": False}


@each_provider
async def test_keys_the_caller_presses_reach_the_agent_and_the_record(scene: Scene, provider: str) -> None:
    call = await scene.calls[provider, "the caller presses keys"]
    assert call.objections == []
    assert scene.diary.digits[call.run] == call.report.dtmf == "12*0"
    assert [told["digit"] for told in call.told("media.dtmf.v1")] == ["1", "2", "*", "0"]


# --- agents that are not there


@each_provider
async def test_when_no_agent_takes_the_call_the_caller_hears_the_workflows_sentence(
    scene: Scene, provider: str
) -> None:
    call = await scene.calls[provider, "no agent listens"]
    assert call.report.said == [FALLBACK]
    assert call.outcome == (STATUSES, "agent-unreachable", "platform")
    # Twilio warns of a stream that its server closes, and there is no other way to the next instructions.
    assert [one.code for one in call.report.violations] == (["31921"] if provider == "twilio" else [])
    assert len(call.told("agent.lost.v1")) > 1


@each_provider
async def test_an_agent_that_is_killed_and_comes_back_goes_on_with_the_same_caller(
    scene: Scene, provider: str
) -> None:
    call = await scene.calls[provider, "the agent is killed"]
    assert call.objections == []
    assert call.outcome == (STATUSES, "caller-hung-up", "caller")
    assert call.report.streams == 1
    assert len(call.report.response_ms) == 2
    assert len(call.told("agent.connected.v1")) == 2
    assert call.told("agent.lost.v1")


# --- calls that cannot be connected


def check_refusal(report: CallReport) -> None:
    (sentence,) = report.said
    assert sentence.startswith("We are sorry")
    assert report.violations == []
    assert report.streams == 0
    assert report.ended_by == "instructions"


@each_provider
@pytest.mark.parametrize("what", ["the number is unknown", "the number has no workflow"])
async def test_a_caller_of_a_number_nobody_answers_hears_a_sentence(
    scene: Scene, provider: str, what: str
) -> None:
    check_refusal(await scene.in_vain[provider, what])


@each_provider
async def test_a_caller_of_a_paused_configuration_hears_a_sentence_and_the_record_says_refused(
    scene: Scene, provider: str
) -> None:
    call = await scene.calls[provider, "the configuration is paused"]
    check_refusal(call.report)
    assert call.outcome == (STATUSES, "refused", "platform")


# --- the API


@each_provider
async def test_a_repeated_request_for_a_call_dials_once(installation: Installation, provider: str) -> None:
    workflow = await installation.workflow()
    await installation.number(provider, workflow)
    await installation.known()
    to = installation.callee(Callee(0.2, "busy"))
    body = {"workflow_id": workflow, "configuration_id": installation.configurations[provider], "to": to}
    key = {"Idempotency-Key": f"once-{provider}"}
    together = await asyncio.gather(*(installation.demo.post("/calls", body, **key) for _ in range(4)))
    (run,) = {placed["workflow_run_id"] for placed in together}
    await installation.record(run)
    again = await installation.demo.client.post("/calls", json=body, headers=key)
    assert again.json()["workflow_run_id"] == run
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await installation.demo.client.post("/calls", json=body | {"metadata": {"other": 1}}, headers=key)
    assert other.status_code == 422
    assert len(installation.dials(to)) == 1


@each_provider
async def test_what_belongs_to_one_user_does_not_exist_for_another(
    scene: Scene, installation: Installation, provider: str
) -> None:
    call = await scene.calls[provider, "the caller hangs up"]
    configuration = installation.configurations[provider]
    stranger = installation.stranger.client
    for path in (
        f"/calls/{call.run}",
        f"/workflows/{call.record['workflow_id']}",
        f"/telephony-configurations/{configuration}",
        f"/telephony-configurations/{configuration}/phone-numbers",
    ):
        assert (await installation.demo.client.get(path)).status_code == 200, path
        assert (await stranger.get(path)).status_code == 404, path
        assert (await stranger.get(path, headers={"Authorization": "Bearer ohk_wrong"})).status_code == 401, (
            path
        )
    assert (await stranger.post(f"/calls/{call.run}/hangup")).status_code == 404
    assert (await stranger.get("/calls")).json()["calls"] == []
    wish = {"workflow_id": call.record["workflow_id"], "to": "+12125550100"}
    refused = await stranger.post("/calls", json=wish)
    assert (refused.status_code, refused.json()["reason"]) == (422, "unknown-workflow")
