import asyncio

import pytest

from offhook.bus import BusUnavailable
from offhook.bus.testing import memory_bus
from offhook.events import WebhookAudited
from offhook.telemetry import metrics
from offhook.topics import WEBHOOK_AUDIT
from webhook_gateway import audit, refusals
from webhook_gateway.audit import AuditTrail


def entry(account="AC1"):
    return WebhookAudited(
        provider="twilio",
        account=account,
        workflow_run_id=None,
        provider_call_id=None,
        method="POST",
        path="/p",
        kind="call",
        verified=True,
        reason=None,
        status_code=200,
        elapsed_ms=1.0,
    )


def dropped():
    return metrics.WEBHOOK_AUDITS_DROPPED._value.get()


async def test_entries_are_keyed_by_the_account_they_claim():
    async with memory_bus() as bus:
        await bus.start()
        trail = AuditTrail(bus)
        await trail.start()
        trail.note(entry())
        trail.note(entry(account=None))
        await trail.stop()
        assert {record.key for record in bus.records(WEBHOOK_AUDIT)} == {b"AC1", b"unknown"}


async def test_entries_over_the_queue_are_counted_and_dropped():
    async with memory_bus() as bus:
        before = dropped()
        trail = AuditTrail(bus)
        for _ in range(audit._QUEUE + 5):
            trail.note(entry())
        assert dropped() - before == 5


async def test_what_is_told_while_kafka_is_away_waits_for_it(monkeypatch):
    class Away:
        refusals = 3
        published = ()

        async def publish_many(self, topic, events):
            if self.refusals:
                self.refusals -= 1
                raise BusUnavailable("away")
            self.published += tuple(event.data.account for event in events)

    monkeypatch.setattr(audit, "_RETRY_S", 0.0)
    bus, before = Away(), dropped()
    trail = AuditTrail(bus)
    await trail.start()
    trail.note(entry(account="AC1"))
    async with asyncio.timeout(60):
        while bus.refusals == 3:
            await asyncio.sleep(0)
        trail.note(entry(account="AC2"))
        while len(bus.published) < 2:
            await asyncio.sleep(0)
    await trail.stop()
    assert (dropped() - before, bus.published) == (0, ("AC1", "AC2"))


async def test_what_nobody_foresaw_costs_one_batch_and_not_the_log():
    class Faulty:
        faults = 1
        published = 0

        async def publish_many(self, topic, events):
            if self.faults:
                self.faults -= 1
                raise RecursionError("deep")
            self.published += len(events)

    bus, before = Faulty(), dropped()
    trail = AuditTrail(bus)
    await trail.start()
    trail.note(entry())
    async with asyncio.timeout(60):
        while dropped() == before:
            await asyncio.sleep(0)
    trail.note(entry())
    await trail.stop()
    assert (dropped() - before, bus.published) == (1, 1)


async def test_a_refusal_that_cannot_be_looked_at_is_told_nevertheless_and_so_are_its_neighbours(
    rig, monkeypatch
):
    def fail(*_args):
        raise ArithmeticError

    with monkeypatch.context() as patch:
        patch.setattr(refusals, "diagnose", fail)
        await rig.twilio(token="wrong")
        await rig.twilio()
        entries = await rig.audits(2)
    assert [(one.verified, one.near_misses) for one in entries] == [(False, ("not-looked",)), (True, ())]


@pytest.mark.real
async def test_a_retry_of_the_provider_is_known_as_one(start_rig, redis_url):
    async with start_rig(redis_url) as rig:
        for token in ("first", "first", "second", ""):
            await rig.twilio(
                rig.status("run-1"), CallStatus="busy", headers={"i-twilio-idempotency-token": token}
            )
        assert [entry.repeated for entry in await rig.audits(4)] == [False, True, False, False]


async def test_an_entry_says_which_form_of_the_address_was_signed(rig):
    await rig.twilio(rig.status("run-1") + "?a=1", CallStatus="busy", origin=rig.public_url + ":443")
    (entry,) = await rig.audits()
    assert (entry.verified, entry.signed_url) == (True, f"{rig.public_url}:443{rig.status('run-1')}")
