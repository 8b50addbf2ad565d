"""What dies, stops or comes twice while people are talking: the calls go on and the records are right."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio
import websockets
from installation import PROVIDERS, STATUSES, Finished, Installation, Ringing, agent_that, outcome_of
from rogue_carrier import RogueCarrier

from carrier_sim import Callee, Caller, Faults, HangUp, Say, StayUntilHungUp, WaitForAgent
from carrier_sim.callee import Outcome
from offhook_agent import Call, chime

pytestmark = [
    pytest.mark.real,
    pytest.mark.alone,
    pytest.mark.asyncio(loop_scope="session"),
]

CHAOS: Final = {
    "duplicate": 0.7,
    "delay": 0.5,
    "delay_s": (0.1, 1.0),
    "reorder": 0.5,
    "duplicate_instructions": 0.5,
}
HUNG_UP: Final = (STATUSES, "caller-hung-up", "caller")
UNANSWERED: Final[dict[Outcome, tuple[list[str], str, str]]] = {
    "busy": (["initiated", "ringing", "busy"], "busy", "callee"),
    "failed": (["initiated", "failed"], "invalid-number", "carrier"),
    "canceled": (["initiated", "ringing", "canceled"], "canceled", "operator"),
}
Numbers = dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def numbers(installation: Installation) -> Numbers:
    """A number at each provider that the example agent answers."""
    workflow = await installation.workflow()
    made = {provider: await installation.number(provider, workflow) for provider in PROVIDERS}
    await installation.known()
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def talking(installation: Installation, numbers: Numbers) -> AsyncIterator[list[Ringing]]:
    """A call at each provider, in the middle of a conversation."""
    calls = [installation.endless(provider, number) for provider, number in numbers.items()]
    await asyncio.gather(*(installation.answers(call, 1) for call in calls))
    yield calls
    for call in calls:
        call.call.end("caller", "hung-up")
    await asyncio.gather(*(call.task for call in calls))


async def answers(installation: Installation, calls: list[Ringing], more: int) -> None:
    await asyncio.gather(*(installation.answers(call, more) for call in calls))


def nothing_lost(calls: list[Ringing]) -> None:
    """Of what was said until now. They speak until they hang up: of those words a stream being closed hears no more."""
    assert [call.call.report.caller_audio_lost_ms for call in calls] == [0] * len(calls)


async def hang_up(installation: Installation, calls: list[Ringing]) -> list[Finished]:
    nothing_lost(calls)
    return await asyncio.gather(*(installation.hang_up(call) for call in calls))


def check(calls: list[Finished]) -> None:
    """Calls that noticed nothing, with the records they always have."""
    for call in calls:
        assert call.objections == []
        assert call.outcome == HUNG_UP
        assert call.report.streams == 1
        assert call.record["duration_s"] >= 1
        assert call.record["caller_audio_ms"] > call.report.caller_audio_ms
        # The bridge counts what it sent; the ear, what was audible of it.
        assert call.record["agent_audio_ms"] >= call.report.agent_audio_ms > 0


async def test_callbacks_that_come_twice_late_or_out_of_order_leave_the_same_records(
    installation: Installation, numbers: Numbers
) -> None:
    async def say_goodbye(call: Call) -> None:
        await call.play(chime(sample_rate=call.sample_rate))
        await call.played()

    talk = (WaitForAgent(timeout_s=60), Say(0.6), WaitForAgent(timeout_s=60), HangUp())
    async with agent_that(say_goodbye) as url:
        goodbye = await installation.workflow(url)
        short = {provider: await installation.number(provider, goodbye) for provider in PROVIDERS}
        await installation.known()
        expected: list[tuple[list[str], str, str]] = []
        work = []
        for seed, provider in itertools.product(range(3), PROVIDERS):
            chaos = Faults(**CHAOS, seed=seed)
            work.append(installation.call(provider, numbers[provider], *talk, faults=chaos))
            work.append(installation.call(provider, short[provider], StayUntilHungUp(120), faults=chaos))
            expected += [HUNG_UP, (STATUSES, "agent-hung-up", "agent")]
        installation.sim.faults = Faults(**CHAOS, seed=7)
        try:
            for provider, outcome in itertools.product(PROVIDERS, UNANSWERED):
                work.append(installation.dial(provider, goodbye, Callee(0.2, outcome)))
                expected.append(UNANSWERED[outcome])
            calls = await asyncio.gather(*work)
        finally:
            installation.sim.faults = Faults()
    for call, outcome in zip(calls, expected, strict=True):
        # A callback that comes late fills its place late.
        await installation.record(call.run, lambda record: outcome_of(record) == outcome)  # noqa: B023
    assert [call.objections for call in calls] == [[]] * len(calls)
    assert sum(len(call.report.faults) for call in calls) > len(calls)


async def test_a_dial_whose_answer_was_lost_with_number_sync_is_not_repeated(
    installation: Installation, numbers: Numbers
) -> None:
    workflow = await installation.workflow()
    await installation.known()
    talk = (WaitForAgent(timeout_s=60), Say(0.6), WaitForAgent(timeout_s=60), HangUp())
    people = {provider: installation.callee(Callee(0.5, "answer", Caller(talk))) for provider in PROVIDERS}
    installation.rest_road.hold()
    try:
        runs = {}
        for provider, to in people.items():
            wish = {
                "workflow_id": workflow,
                "configuration_id": installation.configurations[provider],
                "to": to,
            }
            runs[provider] = (await installation.demo.post("/calls", wish))["workflow_run_id"]
        async with asyncio.timeout(60):
            while not all(installation.dials(to) for to in people.values()):
                await asyncio.sleep(0.01)
        number_sync = installation.stack.programs["number-sync"]
        number_sync.kill()
    finally:
        installation.rest_road.release()
    await number_sync.start()
    for provider, run in runs.items():

        def told(record: dict[str, object]) -> bool:
            events = record["events"]
            assert isinstance(events, list)
            kinds = [event["type"] for event in events]
            return record["status"] == "completed" and "offhook.call.originated.v1" in kinds

        # It is told that the call was originated once nothing is left to be done about it.
        record = await installation.record(run, told, within_s=60)
        (dialled,) = installation.dials(people[provider])
        assert record["provider_call_id"] == dialled.report.provider_call_id
        assert record["statuses"] == STATUSES
        assert (record["end_reason"], record["ended_by"]) == ("callee-hung-up", "callee")
        assert [f"{one.code} {one.message}" for one in dialled.report.violations] == []


async def test_while_kafka_stands_still_calls_begin_go_on_and_end_and_their_records_come_later(
    installation: Installation, numbers: Numbers, talking: list[Ringing]
) -> None:
    kafka = installation.stack.servers["kafka"]
    kafka.pause()
    try:
        await answers(installation, talking, 1)
        new = [installation.endless(provider, number) for provider, number in numbers.items()]
        await answers(installation, new, 1)
        nothing_lost([*talking, *new])
        for call in (*talking, *new):
            call.call.end("caller", "hung-up")
        await asyncio.gather(*(call.task for call in (*talking, *new)))
    finally:
        kafka.resume()
    check(await asyncio.gather(*(installation.over(call) for call in (*talking, *new))))


async def test_calls_go_on_while_the_gateway_is_killed_and_started_again(
    installation: Installation, talking: list[Ringing]
) -> None:
    gateway = installation.stack.programs["webhook-gateway"]
    gateway.kill()
    await answers(installation, talking, 1)
    await gateway.start()
    check(await hang_up(installation, talking))


async def test_a_bridge_asked_to_end_lets_its_calls_finish_and_takes_no_new_ones(
    installation: Installation, numbers: Numbers, talking: list[Ringing]
) -> None:
    bridge = installation.stack.programs["media-bridge"]
    assert bridge.pid is not None
    carrier = RogueCarrier(installation)
    orders = {provider: await carrier.order(provider, number) for provider, number in numbers.items()}
    os.kill(bridge.pid, signal.SIGTERM)
    await answers(installation, talking, 1)
    for provider, order in orders.items():
        with pytest.raises(websockets.InvalidStatus) as refusal:
            async with carrier.socket(order.media_url, carrier.signed(provider, order.media_url)):
                pass
        assert refusal.value.response.status_code == 503
    await answers(installation, talking, 1)
    assert bridge.running
    calls = await hang_up(installation, talking)
    async with asyncio.timeout(60):
        while bridge.running:
            await asyncio.sleep(0.05)
    assert bridge.exit_code == 0
    await bridge.start()
    check(calls)
    for provider, order in orders.items():
        await carrier.end(provider, order)
    await carrier.http.aclose()


async def test_a_killed_bridge_costs_the_callers_a_moment_and_not_the_call(
    installation: Installation, talking: list[Ringing]
) -> None:
    bridge = installation.stack.programs["media-bridge"]
    bridge.kill()
    await bridge.start()
    await answers(installation, talking, 2)
    for call in talking:
        call.call.end("caller", "hung-up")
        report = await call.task
        # What the killed process would have told about its half of the call is lost with it.
        record = await installation.record(call.run, lambda record: outcome_of(record) == HUNG_UP)
        assert record["caller_audio_ms"] > 0
        assert report.streams == 2
        started = [event["data"]["epoch"] for event in record["events"] if "media.started" in event["type"]]
        assert started == [1, 2]
