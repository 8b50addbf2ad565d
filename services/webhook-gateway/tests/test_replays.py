"""Refused requests, tried again on the whole gateway."""

import asyncio
from datetime import UTC, datetime

import pytest

from offhook.events import WebhookReplay, new_event
from offhook.records import PublicUrlRecord
from offhook.security.keyring import Keyring, new_key
from offhook.topics import SETTINGS, WEBHOOK_AUDIT, WEBHOOK_REPLAYS

RIGHT = "https://right.example.com"


async def refused(rig):
    """The one entry of the log so far, with its id."""
    await rig.audits()
    (event,) = rig.bus.log(WEBHOOK_AUDIT)
    assert not event.data.verified
    return event


async def replay(rig, entry, *, sealed=None):
    asked = WebhookReplay(
        audit_id=entry.id, sealed_request=sealed or entry.data.sealed_request, requested_by="u1"
    )
    await rig.bus.publish(
        WEBHOOK_REPLAYS, new_event(asked, source="/test", time=datetime.now(UTC), subject=entry.id)
    )
    await rig.bus.settle()
    async with asyncio.timeout(60):
        while not (
            found := [one.data for one in rig.bus.log(WEBHOOK_AUDIT) if one.data.replay_of == entry.id]
        ):
            await asyncio.sleep(0.005)
    return found[-1]


async def correct_the_public_url(rig):
    await rig.put(SETTINGS, PublicUrlRecord.KEY, PublicUrlRecord(url=RIGHT))
    await rig.bus.settle()


async def test_a_status_that_is_verified_now_is_told_with_the_time_of_its_arrival(rig):
    await rig.twilio(rig.status("run-1"), origin=RIGHT, CallStatus="completed", SequenceNumber="3")
    entry = await refused(rig)
    assert rig.events() == []
    await correct_the_public_url(rig)
    result = await replay(rig, entry)
    (told,) = rig.events("call.status.v1")
    assert (told.subject, told.data.provider_status) == ("run-1", "completed")
    assert abs((told.time - entry.time).total_seconds()) < 2
    assert (result.verified, result.reason, result.requested_by) == (True, None, "u1")
    assert result.signed_url == RIGHT + rig.status("run-1")


async def test_a_replay_that_is_asked_for_twice_tells_one_event(rig):
    await rig.twilio(rig.status("run-1"), origin=RIGHT, CallStatus="busy")
    entry = await refused(rig)
    await correct_the_public_url(rig)
    await replay(rig, entry)
    await replay(rig, entry)
    assert len({event.id for event in rig.events()}) == 1


async def test_a_request_that_is_still_not_proven_is_refused_again(rig):
    await rig.twilio(rig.status("run-1"), signature="AAAA", CallStatus="completed")
    entry = await refused(rig)
    result = await replay(rig, entry)
    assert (result.verified, result.reason, rig.events()) == (False, "signature-mismatch", [])


async def test_instructions_are_not_served_late_but_an_inbound_call_becomes_known(rig):
    await rig.twilio(origin=RIGHT)
    entry = await refused(rig)
    await correct_the_public_url(rig)
    result = await replay(rig, entry)
    assert (result.verified, result.reason) == (True, "instructions-not-served")
    assert rig.kinds() == ["call.received.v1", "call.status.v1"]


@pytest.mark.parametrize("sealed", ["nonsense", None])
async def test_what_cannot_be_opened_is_said_to_be_and_does_no_harm(rig, sealed):
    await rig.twilio(signature="AAAA")
    entry = await refused(rig)
    other = Keyring.parse(new_key("k1")).seal("{}", context="webhook")
    result = await replay(rig, entry, sealed=sealed or other)
    assert (result.verified, result.reason) == (False, "cannot-be-opened")


async def test_the_sealed_request_tells_nothing_and_large_ones_are_not_kept(rig):
    await rig.twilio(signature="AAAA")
    await rig.twilio(signature="AAAA", Long="x" * 20_000)
    first, second = await rig.audits(2)
    assert rig.caller not in first.model_dump_json()
    assert (second.sealed_request, second.near_misses) == (None, ("not-looked",))
