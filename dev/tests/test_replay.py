"""What went wrong on the way is explained, put right and tried again: on the real stack, by a person in front of Chromium."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from browser import Desk, Person
from installation import API_KEYS, Installation
from playwright.async_api import expect
from public_url import verifies_against

from carrier_sim import Callee, Caller, StayUntilHungUp
from offhook.bus import Bus
from offhook.bus.dead_letters import DeadLetter
from offhook.events import CallStatus, StatusReported, encode, new_event
from offhook.identities import status_path
from offhook.records import PublicUrlRecord
from offhook.settings import ServiceSettings
from offhook.topics import CALL_EVENTS, DEAD_LETTERS, SETTINGS
from offhook_dev.simulated import TWILIO_CREDENTIALS
from offhook_dev.stack import DEMO_USER

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

WRONG = "https://wrong.example.com"


@asynccontextmanager
async def bus_of(installation: Installation) -> AsyncIterator[Bus]:
    settings = ServiceSettings.model_construct(
        kafka_bootstrap=installation.stack.address.kafka, replication_factor=1, partitions=4
    )
    bus = Bus(settings, service="test")
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


async def move(installation: Installation, bus: Bus, url: str) -> None:
    """Make `url` the public one; returns when the gateway verifies against it."""
    event = new_event(
        PublicUrlRecord(url=url), source="/test", time=datetime.now(UTC), subject=PublicUrlRecord.KEY
    )
    await bus.put(SETTINGS, PublicUrlRecord.KEY, event)
    await verifies_against(installation, url)


async def demo_user(desk: Desk) -> Person:
    person = await desk.person()
    await person.log_in(API_KEYS[DEMO_USER])
    await person.heading("Telephony configurations")
    return person


def status_told(record: dict[str, Any], word: str) -> list[dict[str, Any]]:
    """By callbacks: after some time without one the provider is asked, whose answer is another event."""
    return [
        event["data"]
        for event in record["events"]
        if event["type"] == "offhook.call.status.v1"
        and event["data"]["provider_status"] == word
        and not event["data"]["reconciled"]
    ]


async def test_a_callback_refused_for_a_wrong_public_url_is_explained_and_replayed_once_it_is_right(
    desk: Desk, installation: Installation
) -> None:
    workflow = await installation.workflow()
    await installation.number("twilio", workflow)
    await installation.known()
    to = installation.callee(Callee(0.2, "answer", Caller((StayUntilHungUp(60),))))
    body = {"workflow_id": workflow, "configuration_id": installation.configurations["twilio"], "to": to}
    run = str((await installation.demo.post("/calls", body))["workflow_run_id"])
    # All that comes before the end must have come before the URL is wrong.
    await installation.record(run, lambda record: status_told(record, "in-progress") != [])
    person = await demo_user(desk)
    async with bus_of(installation) as bus:
        try:
            await move(installation, bus, WRONG)
            await installation.demo.post(f"/calls/{run}/hangup", {})
            await person.open(f"/webhooks?verified=no&run={run}")
            # The page finds it by itself; the last callback is the one that ends the call.
            ended = person.page.get_by_role("row").filter(has_text="reports progress")
            await expect(ended.first).to_contain_text("Refused")
            await person.shots("webhooks-refused")
            refused = (
                await installation.demo.client.get(f"/webhooks?verified=false&workflow_run_id={run}")
            ).json()
            last = next(one for one in refused["webhooks"] if one["kind"] == "status")
            await person.open(f"/webhooks/{last['id']}")
            await person.sees(f"The provider signed {installation.origin}{status_path(run)}")
            await person.sees(
                re.compile(re.escape(f"set OFFHOOK_PUBLIC_URL to {installation.origin} "), re.IGNORECASE)
            )
            await person.sees(WRONG + status_path(run))
            await person.shots("webhook-refused")
        finally:
            await move(installation, bus, installation.origin)
    before = await installation.record(run, lambda record: True)
    assert not status_told(before, "completed")
    await person.press("Replay…")
    dialog = person.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Replay", exact=True).click()
    # The page that follows notices by itself what came of it.
    await expect(person.page.locator("#webhook-replays")).to_contain_text(
        "was verified, and what it says was told"
    )
    await person.shot("webhook-replayed")
    record = await installation.record(run, lambda found: status_told(found, "completed") != [])
    assert (record["status"], record["end_reason"]) == ("completed", "operator-hung-up")


async def test_a_dead_letter_is_looked_at_and_replayed(desk: Desk, installation: Installation) -> None:
    workflow = await installation.workflow()
    await installation.number("twilio", workflow)
    await installation.known()
    finished = await installation.dial("twilio", workflow, Callee(0.2, "busy"))
    word = StatusReported(
        workflow_run_id=finished.run, provider="twilio", account=TWILIO_CREDENTIALS["account_sid"],
        provider_call_id=finished.record["provider_call_id"], status=CallStatus.BUSY, provider_status="busy",
        price="-0.0125", price_unit="USD",
    )  # fmt: skip
    now = datetime.now(UTC)
    value, headers = encode(new_event(word, source="/webhook-gateway", time=now, subject=finished.run))
    # As a release that could not read it would have left it behind.
    about = DeadLetter(
        CALL_EVENTS.name, 0, 4711, int(now.timestamp() * 1000), "call-tracker", "call-tracker",
        "it cannot be stored: a made-up trouble", now,
    )  # fmt: skip
    person = await demo_user(desk)
    await person.open("/dead-letters")
    async with bus_of(installation) as bus:
        packed = [(name, text.encode()) for name, text in headers.items()]
        await bus.republish(DEAD_LETTERS, finished.run.encode(), value, about.headers(packed))
    row = person.page.get_by_role("row").filter(has_text=finished.run)
    await expect(row).to_contain_text("a made-up trouble")  # the page notices by itself
    await person.shots("dead-letters")
    await row.get_by_role("link").first.click()
    await person.heading("offhook.call.status.v1")
    await person.sees("-0.0125")
    await person.shots("dead-letter")
    await person.press("Replay…")
    dialog = person.page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_be_hidden()
    await person.press("Replay…")
    await dialog.get_by_role("button", name="Replay", exact=True).click()
    await person.sees(f"by {DEMO_USER}")
    await person.shot("dead-letter-replayed")
    record = await installation.record(finished.run, lambda found: found["price"] == "-0.0125")
    assert record["status"] == "busy"
