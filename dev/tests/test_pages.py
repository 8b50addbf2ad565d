"""What people see and do in a real browser, on the real stack with the simulated carriers."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from browser import Desk, Person
from installation import ANSWERED, API_KEYS, Api, Installation
from playwright.async_api import expect
from redis.asyncio import Redis

from carrier_sim import HangUp, Say, StayUntilHungUp
from carrier_sim.twilio.accounts import Account, Number
from offhook.security.sessions import COOKIE

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

OLD: Final = "https://old.example.com/voice"
FOREIGN: Final = "https://elsewhere.example.com/voice"
HOME: Final = "/telephony-configurations"
PHONE: Final = 390
_serial = itertools.count(100)


class Office:
    """An operator's accounts at the simulated Twilio, and what is set up of them here."""

    def __init__(self, installation: Installation, user: str) -> None:
        self.installation = installation
        self.user = user
        self.api = Api(f"{installation.stack.address.http_url}/api/v1", API_KEYS[user])

    def account(self) -> Account:
        """An account at the provider, without numbers."""
        serial = next(_serial)
        return self.installation.sim.twilio.add_account(f"AC{serial:032d}", f"not-a-real-token-{serial:015d}")

    def number(self, account: Account, **settings: Any) -> Number:
        """A number that the account owns, in use elsewhere until now."""
        return account.add_number(f"+1312555{next(_serial):04d}", **({"voice_url": OLD} | settings))

    async def configuration(self, account: Account, name: str) -> str:
        made = await self.api.post(
            HOME,
            {
                "name": name,
                "provider": "twilio",
                "credentials": {"account_sid": account.sid, "auth_token": account.auth_token},
            },
        )
        return str(made["configuration_id"])

    async def workflow(self, name: str) -> str:
        body = {"name": name, "agent_url": self.installation.stack.address.agent_url}
        return str((await self.api.post("/workflows", body))["workflow_id"])

    async def add(self, configuration: str, number: str, workflow: str | None) -> str:
        made = await self.api.post(
            f"{HOME}/{configuration}/phone-numbers", {"number": number, "workflow_id": workflow}
        )
        return str(made["number_id"])

    async def synced(self, number: Number) -> None:
        """Wait until the number at the provider leads here."""
        async with asyncio.timeout(60):
            while number.voice_url.partition("#")[0] != self.installation.inbound:
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(installation: Installation) -> AsyncIterator[Office]:
    """The operator's accounts."""
    office = Office(installation, "operator")
    yield office
    await office.api.client.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def operator(desk: Desk) -> Person:
    """The operator, logged in."""
    person = await desk.person()
    await person.log_in(API_KEYS["operator"])
    await person.heading("Telephony configurations")
    return person


def spoken(number: Number) -> re.Pattern[str]:
    """A US number as pages write it."""
    digits = number.phone_number
    return re.compile(rf"\+1[ \u00a0-]?{digits[2:5]}[ \u00a0-]?{digits[5:8]}[ \u00a0-]?{digits[8:]}")


async def mark(person: Person) -> None:
    """A mark in the page that does not survive loading it again."""
    await person.page.evaluate("window.notReloaded = true")


async def not_reloaded(person: Person) -> None:
    assert await person.page.evaluate("window.notReloaded === true")


# --- the way in


async def test_a_newcomer_is_led_from_the_login_to_an_answered_call(
    desk: Desk, installation: Installation
) -> None:
    office = Office(installation, "newcomer")
    account = office.account()
    number = office.number(account)
    person = await desk.person()

    await person.open("/")
    await person.heading("Sign in")
    await person.shots("login")
    await person.type("API key", "ohk_not-a-key-of-this-installation")
    await person.press("Sign in")
    await person.sees("This is not a key of this installation")
    await person.shot("login-wrong-key")
    await person.type("API key", API_KEYS["newcomer"])
    await person.press("Sign in")
    await person.heading("Telephony configurations")
    await person.sees("No configuration yet")
    await person.sees("Four steps to your first call")
    await person.shots("first-page")

    # 1: the account, at first with a wrong token.
    await person.press("Add configuration")
    await person.page.get_by_role("link", name=re.compile("^Twilio")).click()
    await person.type("Name", "Main account")
    await person.type("Account SID", account.sid)
    await person.type("Auth token", "this-is-not-the-right-token-12345")
    await person.shots("configuration-new")
    await person.press("Save and test")
    await person.heading("Main account")
    await expect(person.page.get_by_role("heading", name=re.compile("Credentials.*Refused"))).to_be_visible()
    await person.shots("configuration-refused")
    assert "not-the-right-token" not in await person.page.content()
    await person.press("Edit", within="Credentials Refused")
    await person.type("Auth token", f"  {account.auth_token}\t")
    await person.press("Save and test")
    await person.heading("Main account")
    await expect(person.page.get_by_role("heading", name=re.compile("Credentials.*Verified"))).to_be_visible()

    # 2: a number of the account.
    await person.press("Import numbers")
    await person.heading("Import numbers")
    await person.page.get_by_role("checkbox", name=spoken(number)).check()
    await person.shots("import")
    await person.press("Add ticked numbers")
    await person.heading("Main account")
    await person.sees(spoken(number))
    await person.shots("configuration-with-number")
    assert number.voice_url == OLD  # nobody answers it here yet

    # 3: the workflow.
    await person.press("Add workflow")
    await person.type("Name", "Example agent")
    await person.type("Agent URL", installation.stack.address.agent_url)
    await person.shots("workflow-new")
    await person.press("Save")
    await person.heading("Example agent")
    await person.press("Try it", within="Try it")
    await person.sees("Audio that came back")
    await person.shots("workflow-tried")

    # The carriers take a while to answer, and the page shows what it knows meanwhile, and then what they said.
    installation.rest_road.hold()
    try:
        await person.press("Answer this number")
        await person.sees("Example agent answers")
        await person.open(HOME)
        await person.press("Main account")
        await expect(person.page.get_by_role("row", name=spoken(number))).to_contain_text("Pending")
        await person.shot("number-pending")
        await mark(person)
    finally:
        installation.rest_road.release()
    await expect(person.page.get_by_role("row", name=spoken(number))).to_contain_text("In sync")
    await person.sees("The number is set up at the provider")
    await person.shots("number-in-sync")

    # 4: the call. The page notices by itself.
    await office.synced(number)
    ringing = installation.ring(
        "twilio",
        number.phone_number,
        ANSWERED,
        Say(0.8),
        ANSWERED,
        HangUp(),
    )
    await person.sees_not("Four steps to your first call")
    await not_reloaded(person)
    report = await ringing.task
    assert [f"{one.code} {one.message}" for one in report.violations] + report.unmet == []
    assert report.response_ms
    await person.page.get_by_role("link", name=spoken(number)).first.click()
    await person.sees("(completed)")
    await person.shots("number")
    await office.api.client.aclose()


async def test_an_account_can_be_added_without_any_script(desk: Desk, installation: Installation) -> None:
    office = Office(installation, "without-script")
    account = office.account()
    number = office.number(account)
    person = await desk.person(script=False)
    await person.log_in(API_KEYS["without-script"])
    await person.press("Add configuration")
    await person.page.get_by_role("link", name=re.compile("^Twilio")).click()
    await person.type("Name", "Plain account")
    await person.type("Account SID", "AC-that-is-none")
    await person.type("Auth token", account.auth_token)
    await person.press("Save and test")
    await person.sees("This does not look right")
    # Nothing that was typed is lost, but for the secret, which is in no page.
    await expect(person.field("Name")).to_have_value("Plain account")
    await expect(person.field("Auth token")).to_have_value("")
    await person.shot("without-script-refused")
    await person.type("Account SID", account.sid)
    await person.type("Auth token", account.auth_token)
    await person.press("Save and test")
    await person.heading("Plain account")
    await person.sees("Verified")
    await person.press("Add number")
    await person.type("Phone number", number.phone_number.removeprefix("+1"))
    await person.field("Country").select_option("US")
    await person.press("Add number")
    await person.sees(spoken(number))
    await person.shot("without-script")
    await person.press("Sign out")
    await person.heading("Sign in")
    await office.api.client.aclose()


# --- when something is wrong


async def test_a_number_that_cannot_be_set_up_says_why_and_what_to_do(
    office: Office, operator: Person
) -> None:
    account = office.account()
    workflow = await office.workflow("Trouble")
    trunked = office.number(account, trunk_sid="TK" + "0" * 32)
    configuration = await office.configuration(account, "Troubled account")
    await office.add(configuration, trunked.phone_number, workflow)
    missing = Number("PN", f"+1312555{next(_serial):04d}", "", account.created, account.created)
    await office.add(configuration, missing.phone_number, workflow)
    await operator.open(f"{HOME}/{configuration}")
    for number, words in ((trunked, "trunk"), (missing, "account")):
        row = operator.page.get_by_role("row", name=spoken(number))
        await expect(row).to_contain_text("Failed")
        await expect(row).to_contain_text("What to do:")
        await expect(row).to_contain_text(words)
    await operator.shots("numbers-failed")
    await operator.page.get_by_role("link", name=spoken(trunked)).first.click()
    await operator.sees("What to do:")
    await operator.shots("number-failed")
    # As soon as the reason is gone, so is the failure.
    await mark(operator)
    trunked.change(trunk_sid=None)
    await operator.press("Check now")
    await expect(operator.page.get_by_role("heading", level=1)).to_contain_text("In sync")


async def test_drift_is_shown_and_repaired(office: Office, operator: Person) -> None:
    account = office.account()
    number = office.number(account)
    configuration = await office.configuration(account, "Drifting account")
    identity = await office.add(configuration, number.phone_number, await office.workflow("Drift"))
    await office.synced(number)
    await operator.open(f"{HOME}/{configuration}")
    await operator.press("Only report")
    await operator.sees("it is only reported here")
    await operator.open(f"{HOME}/{configuration}/phone-numbers/{identity}")
    await expect(operator.page.get_by_role("heading", level=1)).to_contain_text("In sync")
    number.change(voice_url=FOREIGN)
    await operator.press("Check now")
    await expect(operator.page.get_by_role("heading", level=1)).to_contain_text("Drifted")
    await expect(operator.page.get_by_role("row", name="VoiceUrl").first).to_contain_text(FOREIGN)
    await operator.shots("number-drifted")
    assert number.voice_url == FOREIGN
    await operator.open(f"{HOME}/{configuration}")
    await expect(operator.page.get_by_role("row", name=spoken(number))).to_contain_text("Drifted")
    await operator.press("Repair by itself")
    await operator.press("Check now")
    await expect(operator.page.get_by_role("row", name=spoken(number))).to_contain_text("In sync")
    await office.synced(number)
    await operator.page.get_by_role("link", name=spoken(number)).first.click()
    await operator.sees("they were set right again")
    await operator.shot("number-repaired")


async def test_tries_to_log_in_are_limited(desk: Desk, installation: Installation) -> None:
    person = await desk.person()
    try:
        await person.open("/login")
        for _ in range(11):
            await person.type("API key", "ohk_guessed")
            await person.press("Sign in")
            await expect(person.page.locator(".field-error")).to_be_visible()
        await person.sees("Too many tries")
        await person.shot("login-limited")
        await person.type("API key", API_KEYS["operator"])
        await person.press("Sign in")
        await person.sees("Too many tries")
    finally:
        # The other tests log in from the same address.
        url = f"redis://127.0.0.1:{installation.stack.servers['redis'].port}/0"
        async with Redis.from_url(url) as redis:
            async for key in redis.scan_iter(match="offhook:login:*"):
                await redis.delete(key)


# --- who sees what


async def test_after_signing_out_the_pages_ask_for_a_key_and_lead_back(operator: Person) -> None:
    (cookie,) = [one for one in await operator.context.cookies() if one["name"] == COOKIE]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    await operator.press("Sign out")
    await operator.sees("You are signed out.")
    await operator.open("/workflows")
    await operator.heading("Sign in")
    await operator.type("API key", API_KEYS["operator"])
    await operator.press("Sign in")
    await operator.heading("Workflows")


async def test_what_belongs_to_somebody_else_does_not_exist(office: Office, desk: Desk) -> None:
    account = office.account()
    number = office.number(account)
    workflow = await office.workflow("Private workflow")
    configuration = await office.configuration(account, "Private account")
    identity = await office.add(configuration, number.phone_number, workflow)
    paths = [
        f"{HOME}/{configuration}",
        f"{HOME}/{configuration}/edit",
        f"{HOME}/{configuration}/import",
        f"{HOME}/{configuration}/delete",
        f"{HOME}/{configuration}/phone-numbers/new",
        f"{HOME}/{configuration}/phone-numbers/{identity}",
        f"/workflows/{workflow}",
    ]
    owner, stranger = await desk.person(), await desk.person()
    await owner.log_in(API_KEYS["operator"])
    await stranger.log_in(API_KEYS["stranger"])
    await stranger.heading("Telephony configurations")
    await stranger.sees_not("Private account")
    for path in paths:
        assert (await owner.open(path)).status == 200, path
        assert (await stranger.open(path)).status == 404, path
        text = await stranger.text()
        assert "Private" not in text, path
    await stranger.sees("There is nothing here")
    await stranger.shots("nothing-here")
    await stranger.open("/workflows")
    await stranger.sees_not("Private workflow")


# --- what can be done


async def test_a_paused_configuration_refuses_calls_politely(
    office: Office, operator: Person, installation: Installation
) -> None:
    account = office.account()
    number = office.number(account)
    workflow = await office.workflow("Paused")
    configuration = await office.configuration(account, "Resting account")
    await office.add(configuration, number.phone_number, workflow)
    await office.synced(number)
    await operator.open(f"{HOME}/{configuration}")
    await operator.press("Pause")
    await operator.sees("This configuration is paused")
    await operator.shots("configuration-paused")
    # The gateway knows of it a moment later; until then calls are answered.
    async with asyncio.timeout(60):
        while not (await installation.ring("twilio", number.phone_number, HangUp()).task).said:
            pass
    report = await installation.ring("twilio", number.phone_number, StayUntilHungUp(20)).task
    assert [sentence[:12] for sentence in report.said] == ["We are sorry"]
    assert report.streams == 0
    await office.synced(number)  # nothing has changed at the provider
    await operator.press("Resume")
    await operator.sees_not("This configuration is paused")


async def test_deleting_asks_first_and_puts_back_what_was_there(office: Office, operator: Person) -> None:
    account = office.account()
    number = office.number(account)
    workflow = await office.workflow("Short-lived workflow")
    configuration = await office.configuration(account, "Short-lived account")
    await office.add(configuration, number.phone_number, workflow)
    await office.synced(number)
    await operator.open(f"{HOME}/{configuration}")
    await operator.press("Delete configuration…")
    await operator.heading("Delete Short-lived account?")
    await operator.sees(spoken(number))
    await operator.shots("delete")
    await operator.press("Keep it")
    await operator.heading("Short-lived account")
    await operator.press("Delete configuration…")
    await expect(operator.field("Put back what was there before")).to_be_checked()
    await operator.press("Delete")
    await operator.heading("Telephony configurations")
    await operator.sees("Short-lived account is deleted.")
    async with asyncio.timeout(60):
        while number.voice_url != OLD:
            await asyncio.sleep(0.05)

    await operator.open(f"/workflows/{workflow}")
    await operator.press("Delete workflow…")
    dialog = operator.page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    await operator.shots("delete-dialog")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_be_hidden()
    await operator.press("Delete workflow…")
    await dialog.get_by_role("button", name="Delete").click()
    await operator.heading("Workflows")
    await operator.sees("Short-lived workflow is deleted.")


async def test_a_refused_form_loses_nothing_and_names_the_field(office: Office, operator: Person) -> None:
    configuration = await office.configuration(office.account(), "Careful account")
    await operator.open(f"{HOME}/{configuration}/phone-numbers/new")
    await mark(operator)
    await operator.type("Phone number", "+1 415 555")
    await operator.type("Label", "Front desk")
    await operator.press("Add number")
    error = operator.page.locator("[data-field=number] .field-error")
    await expect(error).to_be_visible()
    await expect(operator.field("Phone number")).to_have_attribute("aria-invalid", "true")
    await expect(operator.field("Label")).to_have_value("Front desk")
    await operator.shots("number-new-refused")
    await not_reloaded(operator)


async def test_a_number_is_added_with_the_keyboard_alone(office: Office, operator: Person) -> None:
    account = office.account()
    number = office.number(account)
    await office.workflow("Keyboard")
    configuration = await office.configuration(account, "Keyboard account")
    await operator.open(f"{HOME}/{configuration}")
    keyboard = operator.page.keyboard

    async def tab_to(name: str) -> None:
        for _ in range(60):
            await keyboard.press("Tab")
            focused = operator.page.locator(":focus")
            # What has the focus is always to be seen.
            if await focused.count() and name in (
                await focused.get_attribute("aria-label"),
                (await focused.inner_text()).strip(),
                (
                    await focused.evaluate("element => element.labels?.[0]?.firstChild?.textContent ?? ''")
                ).strip(),
            ):
                outline = await focused.evaluate(
                    "e => { const s = getComputedStyle(e); return s.outlineStyle + s.boxShadow; }"
                )
                assert outline != "nonenone", f"the focus on {name} cannot be seen"
                return
        raise AssertionError(f"the keyboard does not reach {name!r}")

    await keyboard.press("Tab")
    await expect(operator.page.locator(":focus")).to_have_text("Skip to content")
    await keyboard.press("Enter")
    await tab_to("Add number")
    await keyboard.press("Enter")
    await operator.heading("Add number")
    await expect(operator.field("Phone number")).to_be_focused()
    await keyboard.type(number.phone_number)
    await tab_to("Label")
    await keyboard.type("by keyboard")
    await tab_to("Workflow that answers")
    await keyboard.type("Keyboard")
    await tab_to("Default caller ID")
    await keyboard.press("Space")
    await operator.shot("keyboard")
    await keyboard.press("Enter")
    await expect(operator.page.get_by_role("heading", level=1)).to_contain_text(spoken(number))
    await office.synced(number)


async def test_on_a_phone_no_page_is_wider_than_the_window(office: Office, desk: Desk) -> None:
    account = office.account()
    number = office.number(account)
    unknown = Number("PN", f"+1312555{next(_serial):04d}", "", account.created, account.created)
    workflow = await office.workflow(
        "A workflow with quite a long name, as people give them to things they care about"
    )
    configuration = await office.configuration(
        account, "An account with a long name: the one of the Chicago office"
    )
    identity = await office.add(configuration, number.phone_number, workflow)
    failed = await office.add(configuration, unknown.phone_number, workflow)
    await office.synced(number)
    pages = {
        "login": "/login",
        "configurations": HOME,
        "provider": f"{HOME}/new",
        "configuration-new": f"{HOME}/new?provider=vonage",
        "configuration": f"{HOME}/{configuration}",
        "configuration-edit": f"{HOME}/{configuration}/edit",
        "configuration-delete": f"{HOME}/{configuration}/delete",
        "import": f"{HOME}/{configuration}/import",
        "number-new": f"{HOME}/{configuration}/phone-numbers/new",
        "number": f"{HOME}/{configuration}/phone-numbers/{identity}",
        "number-failed": f"{HOME}/{configuration}/phone-numbers/{failed}",
        "number-remove": f"{HOME}/{configuration}/phone-numbers/{identity}/remove",
        "workflows": "/workflows",
        "workflow-new": "/workflows/new",
        "workflow": f"/workflows/{workflow}",
        "nothing-here": "/workflows/nothing-here",
    }
    person = await desk.person(width=PHONE, height=844, has_touch=True, is_mobile=True)
    too_wide = {}
    for name, path in pages.items():
        await person.open(path)
        if name == "login":
            await person.shot("phone-login")
            await person.log_in(API_KEYS["operator"])
            continue
        await person.shot(f"phone-{name}")
        if wider := await person.overflow_px():
            too_wide[name] = wider
    assert too_wide == {}
