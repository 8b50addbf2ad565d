"""A test call from a page: placed, followed and explained in a real browser, through the simulated carrier."""

import re
from typing import Any

import pytest
from browser import Desk, Person
from installation import API_KEYS, Installation
from playwright.async_api import expect

from carrier_sim import Callee, Caller, HangUp, WaitForAgent
from offhook_dev.stack import DEMO_USER

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


async def caller(desk: Desk) -> Person:
    person = await desk.person()
    await person.log_in(API_KEYS[DEMO_USER])
    await person.heading("Telephony configurations")
    return person


async def a_line(installation: Installation) -> tuple[str, str]:
    """A workflow and a number that it answers."""
    workflow = await installation.workflow()
    number = await installation.number("twilio", workflow)
    await installation.known()
    return workflow, number


async def press_call(person: Person, to: str, **choices: str) -> None:
    await person.type("Number to call", to)
    for label, value in choices.items():
        await person.field(label).select_option(value)
    await person.press("Call", within="Call")


async def test_a_call_is_placed_from_a_workflow_and_followed_to_its_end(
    desk: Desk, installation: Installation
) -> None:
    workflow, number = await a_line(installation)
    to = installation.callee(Callee(0.2, "answer", Caller((WaitForAgent(timeout_s=10), HangUp()))))
    person = await caller(desk)
    await person.open(f"/workflows/{workflow}")
    await press_call(person, to)
    await person.sees("Ended: it was answered")
    link = person.page.get_by_role("link", name="Look at this call")
    href = await link.get_attribute("href")
    assert href is not None
    run = href.rpartition("/")[2]
    record: dict[str, Any] = (await installation.demo.client.get(f"/calls/{run}")).json()
    assert (record["to_number"], record["from_number"]) == (to, number)
    assert record["status"] == "completed"
    await link.click()
    await expect(person.page).to_have_url(re.compile(rf"/calls/{run}$"))


async def test_what_is_refused_stands_at_its_field_and_nothing_is_dialled(
    desk: Desk, installation: Installation
) -> None:
    workflow, _ = await a_line(installation)
    to = installation.callee(Callee(0.2, "busy"))
    person = await caller(desk)
    await person.open(f"/workflows/{workflow}")
    await press_call(person, "020 7946 0000")
    field = person.page.locator("[data-field=to] .field-error")
    await expect(field).to_contain_text("is not an E.164 number")
    await expect(person.page.locator("[data-call-state]")).to_be_hidden()
    # What was typed is still there; the next try is an order of its own.
    await press_call(person, to)
    await person.sees("Ended: busy")
    await expect(field).to_be_hidden()
