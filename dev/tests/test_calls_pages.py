"""The pages of calls in a real browser, on the real stack with the simulated carriers."""

import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio
from browser import Desk, Person
from installation import API_KEYS, Installation
from playwright.async_api import expect

from carrier_sim import Callee
from offhook_dev.stack import DEMO_USER

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

PHONE: Final = 390


@dataclass
class Line:
    """A number with its workflow, and calls through it."""

    installation: Installation
    workflow: str
    number: str

    async def fails(self) -> str:
        """A call to a number that does not exist; its run."""
        done = await self.installation.dial(
            "twilio", self.workflow, Callee(0.2, "failed"), **{"from": self.number}, ring_timeout_s=5
        )
        return done.run


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def line(installation: Installation) -> AsyncIterator[Line]:
    workflow = await installation.workflow(name="Calls of the pages")
    number = await installation.number("twilio", workflow)
    await installation.known()
    yield Line(installation, workflow, number)


@pytest_asyncio.fixture(loop_scope="session")
async def person(desk: Desk) -> Person:
    """The operator of the demo account, logged in."""
    person = await desk.person()
    await person.log_in(API_KEYS[DEMO_USER])
    return person


async def test_a_call_appears_by_itself_is_followed_and_hung_up_on_its_page(
    person: Person, line: Line
) -> None:
    await person.open(f"/calls?workflow={line.workflow}")
    await person.heading("Calls")
    await person.page.evaluate("window.notReloaded = true")
    ringing = line.installation.endless("twilio", line.number)
    row = person.page.locator(f"#call-{ringing.run}")
    await expect(row).to_contain_text("In conversation")
    assert await person.page.evaluate("window.notReloaded === true")
    await person.shots("calls-live")

    await row.get_by_role("link").first.click()
    await person.heading(re.compile(r"^Call from "))
    await person.sees(re.compile(r"^In conversation for \d"))
    await expect(person.page.locator("svg.timeline")).to_contain_text("Talking")
    await expect(person.page.locator("svg.timeline .now")).to_have_count(1)
    await person.page.evaluate("window.notReloaded = true")
    # The numbers of the timeline lead to the events, which open to what was told.
    await person.page.locator("svg.timeline a").first.click()
    raw = person.page.locator("#event-1")
    await expect(raw).to_be_visible()
    await expect(raw).to_contain_text("offhook.call.received.v1")
    await person.shots("call-live")
    assert await person.page.evaluate("window.notReloaded === true")

    await line.installation.answers(ringing, 1)  # so that there is an answer to measure
    await person.press("Hang up")
    await person.page.get_by_role("dialog").get_by_role("button", name="Hang up").click()
    await person.sees(re.compile("^The call was ended by request"))
    await expect(person.page.get_by_role("button", name="Hang up")).to_have_count(0)
    await person.sees("Agent answers in")
    await person.shots("call-ended")
    done = await line.installation.over(ringing)
    assert done.record["end_reason"] == "operator-hung-up"


async def test_a_failed_call_is_explained_also_on_a_phone_and_without_script(
    desk: Desk, person: Person, line: Line
) -> None:
    run = await line.fails()
    await person.open(f"/calls/{run}")
    await person.sees("The number does not exist, is out of service, or cannot be called.")
    await person.sees(re.compile("Check the number, with its country code"))
    await person.shots("call-failed")
    plain = await desk.person(width=PHONE, height=800, script=False)
    await plain.log_in(API_KEYS[DEMO_USER])
    for path, name in ((f"/calls/{run}", "call-failed"), ("/calls", "calls")):
        await plain.open(path)
        await plain.sees("Invalid number")
        assert await plain.overflow_px() == 0, path
        await plain.shot(f"{name}-phone")
    await plain.open(f"/calls/{run}")
    await plain.page.locator("details#open-1 summary").click()
    await plain.sees("offhook.call.requested.v1")


async def test_calls_are_filtered_searched_and_exported(person: Person, line: Line) -> None:
    run = await line.fails()
    record = await line.installation.record(run)
    await person.open("/calls")
    await person.page.get_by_label("Search").fill(record["provider_call_id"])
    await person.press("Search")
    rows = person.page.locator("#call-rows tr")
    await expect(rows).to_have_count(1)
    await expect(rows).to_have_id(f"call-{run}")
    await person.page.get_by_label("Search").fill(record["to_number"][-4:])
    await person.page.get_by_text("Filters", exact=True).click()
    await person.field("How it ended").select_option(label="Invalid number")
    await person.field("Workflow").select_option(label="Calls of the pages")
    await person.press("Apply")
    await expect(rows).to_have_count(1)
    await person.shots("calls-filtered")
    async with person.page.expect_download() as coming:
        await person.press("Export CSV")
    file = await (await coming.value).path()
    found = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [(one["workflow_run_id"], one["end_reason"]) for one in found] == [(run, "invalid-number")]
    await person.press("Clear")
    await person.page.get_by_label("Search").fill("no such call")
    await person.press("Search")
    await person.sees("No call matches")
