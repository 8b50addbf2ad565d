"""Calls of which the carrier tells nothing: they end all the same, as they really did."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio
from installation import PROVIDERS, STATUSES, TALK, Installation, Json, Outcome, agent_that
from leases import no_lease

from carrier_sim import Callee, Caller, Faults, StayUntilHungUp
from offhook_agent import Call, chime

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

NOTHING: Final = Faults(drop=1.0)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def goodbye(installation: Installation) -> AsyncIterator[str]:
    """A workflow whose agent says a word and leaves."""

    async def say_goodbye(call: Call) -> None:
        await call.play(chime(sample_rate=call.sample_rate))
        await call.played()

    async with agent_that(say_goodbye) as url:
        yield await installation.workflow(url)


async def test_with_every_callback_lost_all_calls_end_as_they_did(
    installation: Installation, goodbye: str
) -> None:
    patient = await installation.workflow()
    expected: list[Outcome] = []
    work = []
    for provider in PROVIDERS:
        answered = await installation.number(provider, patient)
        left = await installation.number(provider, goodbye)
        await installation.known()
        work.append(installation.call(provider, answered, *TALK, faults=NOTHING))
        expected.append((STATUSES, "caller-hung-up", "caller"))
        work.append(installation.call(provider, left, StayUntilHungUp(20), faults=NOTHING))
        expected.append((STATUSES, "agent-hung-up", "agent"))
        # It cannot be known afterwards that it rang, nor, without the SIP code, which failure it was.
        for callee, outcome in (
            (Callee(caller=Caller(TALK), faults=NOTHING), (STATUSES, "callee-hung-up", "callee")),
            (Callee(outcome="busy", faults=NOTHING), (["initiated", "busy"], "busy", "callee")),
            (Callee(outcome="canceled", faults=NOTHING), (["initiated", "canceled"], "canceled", "operator")),
            (
                Callee(outcome="failed", faults=NOTHING),
                (["initiated", "failed"], "carrier-failure", "carrier"),
            ),
            (
                Callee(outcome="no-answer", faults=NOTHING),
                (["initiated", "ringing", "no-answer"], "no-answer", "callee"),
            ),
        ):
            work.append(installation.dial(provider, patient, callee, ring_timeout_s=5))
            expected.append(outcome)
    calls = await asyncio.gather(*work)
    assert [call.outcome for call in calls] == expected
    assert all(call.record["reconciled"] for call in calls)
    assert [call.objections for call in calls] == [[]] * len(calls)
    for call in calls:
        if call.outcome[0] == STATUSES:
            priced = await installation.record(call.run, lambda record: record["price"] is not None)
            assert abs(priced["talk_ms"] - call.report.talk_ms) <= 2000
    for call in calls:
        await no_lease(installation, call.run)


async def test_a_call_can_be_looked_up_by_hand_after_its_end(
    installation: Installation, goodbye: str
) -> None:
    call = await installation.dial("vonage", goodbye, Callee(caller=Caller((StayUntilHungUp(20),))))
    before = count_looks(call.record)
    await installation.demo.post(f"/calls/{call.run}/observe", {})
    record = await installation.record(call.run, lambda record: count_looks(record) > before)
    reports = [
        event["data"]
        for event in record["events"]
        if event["type"] == "offhook.call.status.v1" and event["data"]["reconciled"]
    ]
    assert [report["status"] for report in reports] == ["completed"]
    assert record["reconciled"] is False
    assert (record["status"], record["end_reason"]) == ("completed", "agent-hung-up")


def count_looks(record: Json) -> int:
    return [event["type"] for event in record["events"]].count("offhook.call.observed.v1")
