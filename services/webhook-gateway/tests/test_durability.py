"""Nothing is acknowledged that is neither in Kafka nor in the spool."""

import asyncio

import pytest


def unique(events):
    return list({event.id: event for event in events}.values())


async def drained(rig, count):
    async with asyncio.timeout(60):
        while len(unique(rig.events())) < count:
            await asyncio.sleep(0.02)


@pytest.fixture
async def rig(start_rig):
    async with start_rig() as started:
        yield started
        started.bus.cluster.come_back()


async def test_while_kafka_is_away_calls_are_answered_and_told_later_in_order(rig):
    rig.bus.cluster.away = True
    rig.twilio_connect(await rig.twilio())
    for sequence, status in enumerate(("ringing", "in-progress", "completed")):
        answer = await rig.twilio(rig.status(), CallStatus=status, SequenceNumber=str(sequence))
        assert answer.status_code == 204
    rig.vonage_connect(await rig.vonage())
    assert rig.events() == []
    assert (await rig.http.get(rig.url("/readyz"))).status_code == 200
    rig.bus.cluster.come_back()
    await drained(rig, 8)
    told = [event for event in unique(rig.events()) if event.subject == rig.twilio_run]
    assert [event.data.TYPE for event in told] == [
        "call.received.v1",
        "call.status.v1",
        "call.instructions-served.v1",
        "call.status.v1",
        "call.status.v1",
        "call.status.v1",
    ]
    assert [event.data.sequence for event in told[3:]] == [0, 1, 2]


async def test_what_was_spooled_when_a_gateway_ended_is_told_after_its_next_start(start_rig):
    async with start_rig() as rig:
        rig.bus.cluster.away = True
        assert (await rig.twilio(rig.status("run-1"), CallStatus="busy")).status_code == 204
    async with start_rig() as rig:
        await drained(rig, 1)
        assert rig.events()[0].data.status == "busy"


async def test_a_gateway_told_to_end_waits_for_kafka_to_take_its_spool_and_answers_meanwhile(
    start_rig, tmp_path
):
    async with start_rig(drain_timeout_s=60) as rig:
        rig.bus.cluster.away = True
        assert (await rig.twilio(rig.status("run-1"), CallStatus="ringing")).status_code == 204
        rig.stop.set()
        while (await rig.http.get(rig.url("/readyz"))).status_code == 200:
            await asyncio.sleep(0.01)
        answer = await rig.twilio(rig.status("run-1"), CallStatus="busy", SequenceNumber="1")
        assert (answer.status_code, answer.headers["connection"]) == (204, "close")
        assert list(tmp_path.glob("spool/*.spool")) != []
        rig.bus.cluster.come_back()
        async with asyncio.timeout(60):
            await rig.serving
        assert [event.data.status for event in unique(rig.events())] == ["ringing", "busy"]
    assert list(tmp_path.glob("spool/*.spool")) == []


async def test_what_neither_kafka_nor_the_spool_takes_is_not_acknowledged(start_rig):
    async with start_rig(spool_max_bytes=8192) as rig:
        rig.bus.cluster.away = True
        statuses = [
            (await rig.twilio(rig.status(f"run-{n}"), CallStatus="busy", SequenceNumber=str(n))).status_code
            for n in range(20)
        ]
        taken = statuses.index(503)
        assert statuses == [204] * taken + [503] * (20 - taken)
        assert taken > 0
        assert (await rig.twilio()).status_code == 503
        assert (await rig.vonage()).status_code == 503
        rig.bus.cluster.come_back()
        await drained(rig, taken)
        # Of the call that was refused, a first small event may have found room: it is told again with the call's retry.
        told = {event.subject for event in rig.events() if event.subject.startswith("run-")}
        assert told == {f"run-{n}" for n in range(taken)}


async def test_audits_lost_to_an_outage_do_not_delay_answers(rig):
    rig.bus.cluster.away = True
    answers = await asyncio.gather(*(rig.twilio(signature="AAAA") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {403}
