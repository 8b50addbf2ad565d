"""A test call from a page: placed, followed and explained in a real browser, through the simulated carrier."""

import asyncio
import re
from typing import Any

import pytest
from browser import Desk, Person
from installation import ANSWERED, API_KEYS, Installation
from playwright.async_api import expect

from carrier_sim import Callee, Caller, HangUp
from offhook_dev.simulated import credentials
from offhook_dev.stack import DEMO_USER

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


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
    to = installation.callee(Callee(0.2, "answer", Caller((ANSWERED, HangUp()))))
    person = await caller(desk)
    await person.open(f"/workflows/{workflow}")
    await press_call(person, to)
    await person.sees("Ended: it was answered")
    await person.shots("workflow-called")
    link = person.page.get_by_role("link", name="Look at this call")
    href = await link.get_attribute("href")
    assert href is not None
    run = href.rpartition("/")[2]
    record: dict[str, Any] = (await installation.demo.client.get(f"/calls/{run}")).json()
    assert (record["to_number"], record["from_number"]) == (to, number)
    assert record["status"] == "completed"
    await link.click()
    await expect(person.page).to_have_url(re.compile(rf"/calls/{run}$"))


async def test_a_call_is_placed_from_a_number_which_the_other_side_is_shown(
    desk: Desk, installation: Installation
) -> None:
    await installation.workflow()  # with several workflows the number's page asks which one
    workflow = await installation.workflow()
    configuration = installation.configurations["vonage"]
    number = installation.number_at_carrier("vonage")
    made = await installation.demo.post(
        f"/telephony-configurations/{configuration}/phone-numbers", {"number": number, "workflow_id": None}
    )
    await installation.known()
    to = installation.callee(Callee(0.2, "answer", Caller((ANSWERED, HangUp()))))
    person = await caller(desk)
    await person.open(f"/telephony-configurations/{configuration}/phone-numbers/{made['number_id']}")
    await press_call(person, to, **{"Workflow whose agent talks": workflow})
    await person.sees("Ended: it was answered")
    await person.shots("number-called")
    href = await person.page.get_by_role("link", name="Look at this call").get_attribute("href")
    assert href is not None
    record: dict[str, Any] = (await installation.demo.client.get(f"/calls/{href.rpartition('/')[2]}")).json()
    assert (record["from_number"], record["to_number"]) == (number, to)
    assert (record["workflow_id"], record["configuration_id"]) == (workflow, configuration)
    [dialled] = installation.dials(to)
    assert dialled.from_number.lstrip("+") == number.lstrip("+")


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


async def test_calling_rules_are_ticked_on_a_page_and_keep_calls_from_being_placed(
    desk: Desk, installation: Installation
) -> None:
    configuration = await installation.configuration(
        "twilio", credentials(installation.home)["twilio"], name="Only Britain"
    )
    workflow = await installation.workflow()
    await installation.demo.post(
        f"/telephony-configurations/{configuration}/phone-numbers",
        {"number": installation.number_at_carrier("twilio"), "workflow_id": workflow},
    )
    person = await caller(desk)
    await person.open(f"/telephony-configurations/{configuration}/calling-rules")
    await person.heading("Calling rules")
    await person.page.get_by_label("United Kingdom").check()
    await person.type("Calls at the same time", "none")
    await person.press("Save")
    await person.sees("A whole number from 1")
    await person.shots("calling-rules")
    await person.type("Calls at the same time", "5")
    await person.press("Save")
    await person.sees("The calling rules are saved.")
    await person.sees("At most 5")
    to = installation.callee(Callee(0.2, "busy"))
    await person.open(f"/workflows/{workflow}")
    field = person.page.locator("[data-field=to] .field-error")
    # call-tracker knows of the rules a moment later.
    async with asyncio.timeout(60):
        while True:
            await press_call(person, to)
            either = field.or_(person.page.get_by_text("Ended: busy"))
            await expect(either.locator("visible=true")).to_have_count(1)
            if await field.is_visible():
                break
    await expect(field).to_contain_text("calls only GB")
