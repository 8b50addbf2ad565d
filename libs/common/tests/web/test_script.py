"""What the script adds in a real browser, and takes from nobody who is in the middle of something."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import Depends, Request
from fastapi.responses import Response, StreamingResponse
from pages_under_test import KEYS, Service, make_service
from playwright.async_api import Page, expect

from offhook.web import PageUser
from offhook_dev.chromium import launched
from offhook_dev.ports import free_port

pytestmark = pytest.mark.real

_PAGE = """{% extends "base.html" %}{% import "forms.html" as forms %}{% import "parts.html" as parts %}
{% block title %}Live{% endblock %}{% block content %}<div data-live="/board/live"></div>{% include "board.html" %}
{% include "rows.html" %}
{% call forms.form("/save", user) %}<details open><summary>More</summary>
{{ forms.field("name", "Name", "") }}</details>{{ forms.secret("key", "Key") }}
{{ forms.button("Save") }}{% endcall %}{% endblock %}"""
_BOARD = """{% import "forms.html" as forms %}{% import "parts.html" as parts %}<section id="board">
<p id="text">{{ text }}</p>{{ parts.state(state, announce="+1 415") }}<a href="/page" id="link">A link</a>
<label>Note <input id="note" name="note"></label>{{ parts.time(1799999940000) }}
{% call forms.confirm("ask", "Delete", "Delete it?", "It is gone then.", "/save", user, "/elsewhere") %}{% endcall %}
</section>"""

_ROWS = """<ul id="rows" data-keyed>{% for row in rows.split() %}
<li id="row-{{ row }}"><a href="/page">{{ row }} {{ text }}</a></li>{% endfor %}</ul>"""


@asynccontextmanager
async def opened(service: Service, templates: Path) -> AsyncIterator[tuple[Page, dict[str, str]]]:
    """A signed-in browser at a live page, and what the page shows. What the console complains about fails the test."""
    (templates / "live.html").write_text(_PAGE)
    (templates / "board.html").write_text(_BOARD)
    (templates / "rows.html").write_text(_ROWS)
    shown = {"text": "first", "state": "pending", "rows": ""}

    @service.app.get("/board")
    async def board(request: Request, user: PageUser = Depends(service.site.user)) -> Response:  # noqa: B008
        return service.site.render(request, "live.html", user, **shown)

    @service.app.get("/board/live")
    async def live(request: Request, user: PageUser = Depends(service.site.user)) -> StreamingResponse:  # noqa: B008
        async def fragments() -> dict[str, str]:
            return {
                name: service.site.fragment(request, f"{name}.html", user, **shown)
                for name in ("board", "rows")
            }

        return service.site.live(request, user, fragments, every_s=0.05)

    address = f"http://127.0.0.1:{(port := free_port())}"
    server = uvicorn.Server(
        uvicorn.Config(service.app, port=port, log_config=None, timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve())
    async with launched() as browser:
        page = await browser.new_page(base_url=address)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto("/login?next=/board")
        await page.get_by_label("API key").fill(KEYS["ada"])
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#live-state")).to_have_text("Live")
        yield page, shown
        await page.close()
    server.should_exit = True
    service.app.state.readiness.draining = True
    await serving
    assert complaints == []


async def test_pieces_follow_and_take_nothing_from_whoever_uses_them(chromium: Path, tmp_path: Path) -> None:
    service = make_service(tmp_path)
    async with opened(service, tmp_path) as (page, shown):
        text = page.locator("#text")
        await expect(text).to_have_text("first")
        shown |= {"text": "second", "state": "synced"}
        await expect(text).to_have_text("second")
        await expect(page.locator("#announce")).to_have_text("+1 415: In sync")
        # The focus stays where it was, in the new piece.
        await page.locator("#link").focus()
        shown["text"] = "third"
        await expect(text).to_have_text("third")
        await expect(page.locator("#link")).to_be_focused()
        # What somebody is typing is not taken away; afterwards the piece is as new as it should be.
        await page.locator("#note").fill("half a sen")
        shown["text"] = "fourth"
        await asyncio.sleep(0.5)
        await expect(text).to_have_text("third")
        await expect(page.locator("#note")).to_have_value("half a sen")
        await page.get_by_label("Name").focus()
        await expect(text).to_have_text("fourth")
        # Nor is a question that is being asked.
        await page.locator("#ask-opens").click()
        shown["text"] = "fifth"
        await asyncio.sleep(0.5)
        await expect(page.get_by_role("dialog", name="Delete it?")).to_be_visible()
        await page.get_by_role("button", name="Cancel").click()
        await expect(text).to_have_text("fifth")


async def test_what_comes_into_a_list_moves_nothing_that_is_being_read(
    chromium: Path, tmp_path: Path
) -> None:
    async with opened(make_service(tmp_path), tmp_path) as (page, shown):
        shown["rows"] = " ".join(f"{number}" for number in range(100, 40, -1))
        rows = page.locator("#rows li")
        await expect(rows).to_have_count(60)
        read = page.locator("#row-70")
        await read.get_by_role("link").focus()
        await read.evaluate(
            "(row) => { row.kept = true; row.scrollIntoView({ block: 'start' }); window.scrollBy(0, -200); }"
        )

        async def top() -> float:
            found = await read.bounding_box()
            assert found is not None
            return found["y"]

        before = await top()
        shown["rows"] = " ".join(f"{number}" for number in range(105, 45, -1) if number != 98)
        await expect(page.locator("#row-105")).to_have_count(1)
        assert await rows.evaluate_all("(rows) => rows.map((row) => row.id)") == [
            f"row-{number}" for number in range(105, 45, -1) if number != 98
        ]
        assert await read.evaluate("(row) => row.kept")  # untouched: nothing of it has changed
        await expect(read.get_by_role("link")).to_be_focused()
        assert abs(await top() - before) < 1  # browsers scroll by whole device pixels
        shown["text"] = "second"
        await expect(read).to_contain_text("second")
        await expect(read.get_by_role("link")).to_be_focused()
        assert abs(await top() - before) < 1  # browsers scroll by whole device pixels


async def test_a_refused_form_loses_nothing_and_an_accepted_one_goes_on(
    chromium: Path, tmp_path: Path
) -> None:
    service = make_service(tmp_path)
    async with opened(service, tmp_path) as (page, _):
        name, key = page.get_by_label("Name"), page.get_by_label("Key")
        await key.fill("a secret that is not typed twice")
        await name.fill("taken")
        await page.get_by_text("More", exact=True).click()
        await expect(name).to_be_hidden()
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("#f-name-error")).to_have_text("This name is taken.")
        await expect(name).to_be_focused()
        await expect(name).to_have_attribute("aria-invalid", "true")
        await expect(key).to_have_value("a secret that is not typed twice")
        await name.fill("free")
        await page.get_by_role("button", name="Save").dblclick()
        await expect(page.get_by_text("Saved <b>it</b>.")).to_be_visible()
        assert page.url.endswith("/page")
        assert [one["name"] for one in service.saved] == ["free"]


async def test_a_piece_that_came_back_to_what_it_shows_stays_so(chromium: Path, tmp_path: Path) -> None:
    service = make_service(tmp_path)
    async with opened(service, tmp_path) as (page, shown):
        shown["text"] = "calm"
        await expect(page.locator("#text")).to_have_text("calm")
        await page.locator("#note").focus()
        for text in ("for a moment", "calm"):
            shown["text"] = text
            await asyncio.sleep(0.4)
        await page.get_by_label("Name").focus()
        await asyncio.sleep(0.2)
        await expect(page.locator("#text")).to_have_text("calm")


async def test_a_page_one_goes_back_to_can_be_sent_again(chromium: Path, tmp_path: Path) -> None:
    service = make_service(tmp_path)
    async with opened(service, tmp_path) as (page, _):
        # Browsers may keep a page as it was left: with a form that was sent.
        await page.locator("form[action='/save']").last.evaluate(
            "form => form.setAttribute('aria-busy', 'true')"
        )
        await page.get_by_role("button", name="Save").click()
        await asyncio.sleep(0.2)
        assert service.saved == []
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
        await page.get_by_role("button", name="Save").click()
        await expect(page).to_have_url(re.compile("/page$"))
        assert len(service.saved) == 1


async def test_who_signed_in_again_elsewhere_sends_the_form_again(chromium: Path, tmp_path: Path) -> None:
    service = make_service(tmp_path)
    async with opened(service, tmp_path) as (page, _):
        await page.get_by_label("Name").fill("a long story")
        service.clock.now += 13 * 3600
        await page.get_by_role("button", name="Save").click()
        async with page.context.expect_page() as opening:
            await page.get_by_role("link", name="Sign in").click()
        other = await opening.value
        await other.get_by_label("API key").fill(KEYS["ada"])
        await other.get_by_role("button", name="Sign in").click()
        await expect(other.get_by_role("button", name="Sign out")).to_be_visible()
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("You have signed in anew")).to_be_visible()
        assert service.saved == []
        await expect(page.get_by_label("Name")).to_have_value("a long story")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved <b>it</b>.")).to_be_visible()
        assert [one["name"] for one in service.saved] == ["a long story"]


async def test_who_was_signed_out_meanwhile_is_told_and_keeps_what_was_entered(
    chromium: Path, tmp_path: Path
) -> None:
    service = make_service(tmp_path)
    async with opened(service, tmp_path) as (page, _):
        await page.get_by_label("Name").fill("a long story")
        service.clock.now += 13 * 3600
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("You are not signed in, or no longer.")).to_be_visible()
        await expect(page.get_by_role("link", name="Sign in")).to_have_attribute("href", "/login")
        await expect(page.get_by_label("Name")).to_have_value("a long story")


async def test_no_name_makes_a_page_wider_than_its_window(chromium: Path, tmp_path: Path) -> None:
    service = make_service(tmp_path)
    (tmp_path / "long.html").write_text("""{% extends "base.html" %}{% import "parts.html" as parts %}
{% block title %}{{ name }}{% endblock %}{% block content %}
{{ parts.breadcrumb([("Home", "/"), (name, "/page"), (name, none)]) }}{{ parts.head(name, name) }}
{% call parts.table("Names", ["Name", "Name", ""]) %}<tr><td data-label="Name"><a href="/page">{{ name }}</a></td>
<td data-label="Name"><div>{{ name }}</div></td><td class="actions-cell"><a href="/page">Edit</a></td></tr>{% endcall %}
<ul class="plain-list"><li class="row"><a href="/page">1</a><span>{{ name }}</span><span>{{ name }}</span></li></ul>
{% endblock %}""")

    @service.app.get("/long")
    async def long(request: Request, user: PageUser = Depends(service.site.user)) -> Response:  # noqa: B008
        return service.site.render(request, "long.html", user, name="W" * 100)

    async with opened(service, tmp_path) as (page, _):
        await page.goto("/long")
        for width in (1280, 800, 360):
            await page.set_viewport_size({"width": width, "height": 800})
            wide = await page.evaluate(
                "[...document.querySelectorAll('td, li, h1, p')].map(one => one.getBoundingClientRect().right)"
            )
            assert max(wide) <= width


async def test_everything_works_without_script(chromium: Path, tmp_path: Path) -> None:
    service = make_service(tmp_path)
    async with opened(service, tmp_path) as (page, _):
        browser = page.context.browser
        assert browser is not None
        plain = await browser.new_context(
            java_script_enabled=False, base_url=page.url.removesuffix("/board"),
            storage_state=await page.context.storage_state(),
        )  # fmt: skip
        without = await plain.new_page()
        await without.goto("/board")
        await without.get_by_label("Name").fill("free")
        await without.get_by_role("button", name="Save").click()
        await expect(without.get_by_text("Saved <b>it</b>.")).to_be_visible()
        await without.goto("/board")
        await without.locator("#ask-opens").click()
        await expect(without).to_have_url(re.compile("/elsewhere$"))
        await without.get_by_role("button", name="Sign out").click()
        await expect(without.get_by_role("heading", name="Sign in")).to_be_visible()
