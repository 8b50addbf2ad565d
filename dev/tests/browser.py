"""People in front of a real Chromium: each a context of his own, watched for what no visit may cause."""

import os
import re
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Response,
    expect,
)

from offhook_dev.stack import repository

# Two busy cores: patience costs nothing where things are well.
PATIENCE_MS: Final = 60_000
# A form that is refused, a page that is somebody else's: the browser mentions each answer of an error status.
_ANSWER_TOLD: Final = re.compile(r"^Failed to load resource: the server responded with a status of 4\d\d")
# What a navigation does to requests of the page that is left.
_LEFT: Final = "net::ERR_ABORTED"
_OURS: Final = frozenset({"localhost", "127.0.0.1"})

expect.set_options(timeout=PATIENCE_MS)


def artefacts() -> Path:
    """Where screenshots are kept: `OFFHOOK_ARTIFACTS`, or `var` of the checkout."""
    return Path(os.environ.get("OFFHOOK_ARTIFACTS") or repository() / "var") / "screenshots"


class Person:
    """Somebody with a browser. `complaints` is what the browser said against the pages; `Desk` fails on it."""

    def __init__(self, context: BrowserContext, page: Page, origin: str, album: Path) -> None:
        self.context = context
        self.page = page
        self.origin = origin
        self.complaints: list[str] = []
        self._album = album
        self._watch(page)
        context.on("page", self._watch)

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self._complain(f"a script failed: {error}"))
        page.on("crash", lambda _: self._complain("the page crashed"))
        page.on("console", self._heard)
        page.on("request", self._asked)
        page.on("response", self._answered)
        page.on("requestfailed", self._failed)

    def _complain(self, sentence: str) -> None:
        self.complaints.append(sentence[:500])

    def _heard(self, message: ConsoleMessage) -> None:
        # Violations of the content security policy are told here too, also where no script runs.
        if message.type == "error" and not _ANSWER_TOLD.match(message.text):
            self._complain(f"the console says: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in _OURS:
            self._complain(f"the page asked another host: {request.url}")

    def _answered(self, response: Response) -> None:
        kind = response.request.resource_type
        if response.status >= 500 or (response.status >= 400 and kind not in ("document", "fetch", "xhr")):
            self._complain(f"{response.url} was answered {response.status}")

    def _failed(self, request: Request) -> None:
        if request.failure != _LEFT:
            self._complain(f"{request.url} failed: {request.failure}")

    # --- what a person does ------------------------------------------------------------------------------------------

    async def open(self, path: str) -> Response:
        """Go to a page of the installation; returns its answer, whatever the status."""
        answer = await self.page.goto(self.origin + path)
        assert answer is not None, path
        return answer

    async def log_in(self, key: str) -> None:
        """Log in with an API key, from wherever the person is sent to for that."""
        await self.open("/login")
        await self.type("API key", key)
        await self.press("Sign in")

    def field(self, label: str) -> Locator:
        """The input of this label, which may be marked as optional."""
        return self.page.get_by_label(re.compile(rf"^{re.escape(label)}(\s+optional)?$")).locator(
            "visible=true"
        )

    async def type(self, label: str, text: str) -> None:
        """Fill in the field of this label."""
        await self.field(label).fill(text)

    async def press(self, name: str, within: str | None = None) -> None:
        """Click the button or the link of this name, on the page or in the region `within`."""
        place = self.page.get_by_role("region", name=within) if within else self.page.locator("body")
        either = place.get_by_role("button", name=name, exact=True).or_(
            place.get_by_role("link", name=name, exact=True)
        )
        await either.locator("visible=true").first.click()

    async def sees(self, text: str | re.Pattern[str]) -> None:
        """Wait until this is to be read on the page."""
        await expect(self.page.get_by_text(text).filter(visible=True).first).to_be_visible()

    async def sees_not(self, text: str | re.Pattern[str]) -> None:
        """Wait until this is nowhere on the page."""
        await expect(self.page.get_by_text(text).filter(visible=True)).to_have_count(0)

    async def heading(self, text: str | re.Pattern[str]) -> None:
        """Wait for the page with this main heading."""
        await expect(self.page.get_by_role("heading", level=1)).to_have_text(text)

    async def text(self) -> str:
        """All that is to be read on the page."""
        return await self.page.locator("body").inner_text()

    async def shots(self, name: str) -> None:
        """Keep a picture in light and one in dark colours."""
        await self.shot(name)
        await self.page.emulate_media(color_scheme="dark")
        await self.shot(f"{name}-dark")
        await self.page.emulate_media(color_scheme="light")

    async def shot(self, name: str) -> Path:
        """Keep a picture of the whole page."""
        path = self._album / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.page.evaluate("window.scrollTo(0, 0)")  # or what sticks to the window stands in the middle
        await self.page.screenshot(path=path, full_page=True, animations="disabled", caret="initial")
        return path

    async def overflow_px(self) -> int:
        """By how many pixels the page is wider than its window."""
        found: int = await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return found


class Desk:
    """A test's visitors. Leaving it fails when a browser complained; `keep_failure` keeps what everybody saw last."""

    def __init__(self, browser: Browser, origin: str, album: str) -> None:
        self._browser = browser
        self._origin = origin
        self._album = artefacts() / album
        self._people: list[Person] = []

    async def person(
        self,
        *,
        width: int = 1280,
        height: int = 800,
        colours: Literal["light", "dark"] = "light",
        script: bool = True,
        **more: Any,
    ) -> Person:
        """A fresh browser profile, with a window of this size in CSS pixels."""
        context = await self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=colours,
            java_script_enabled=script,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="Europe/Berlin",
            **more,
        )
        context.set_default_timeout(PATIENCE_MS)
        person = Person(context, await context.new_page(), self._origin, self._album)
        self._people.append(person)
        return person

    async def keep_failure(self, test: str) -> None:
        """Keep a picture and the text of every page, and say where."""
        for count, person in enumerate(self._people):
            name = f"failed/{test}-{count}"
            path = await person.shot(name)
            (path.with_suffix(".txt")).write_text(f"{person.page.url}\n\n{await person.text()}\n")
            print(f"what the page showed: {path}")

    @property
    def complaints(self) -> list[str]:
        return [complaint for person in self._people for complaint in person.complaints]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for person in self._people:
            await person.context.close()
