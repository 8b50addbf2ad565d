"""What a browser complains about does not go unnoticed, so that tests of pages can fail."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from browser import Desk
from playwright.async_api import Browser

from offhook_dev.ports import free_port

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

STRICT = {"Content-Security-Policy": "default-src 'self'"}
PAGES = {
    "/good": ('<link rel="icon" href="data:,"><h1>All is well</h1><script src="/good.js"></script>', {}),
    "/failing-script": ('<script src="/bad.js"></script>', {}),
    "/other-host": ('<img src="http://elsewhere.example.com/pixel.png">', {}),
    "/inline-style": ('<p style="color: red">Red</p>', STRICT),
    "/no-such-script": ('<script src="/missing.js"></script>', {}),
}
SCRIPTS = {"/good.js": "document.title = 'good'", "/bad.js": "nobodyKnowsThis()"}


@pytest_asyncio.fixture(loop_scope="session")
async def origin() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        if request.path in PAGES:
            body, headers = PAGES[request.path]
            return web.Response(text=f"<!doctype html>{body}", content_type="text/html", headers=headers)
        if request.path in SCRIPTS:
            return web.Response(text=SCRIPTS[request.path], content_type="text/javascript")
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_a_page_that_is_well_causes_no_complaint(browser: Browser, origin: str) -> None:
    async with Desk(browser, origin, "browser") as desk:
        person = await desk.person()
        await person.open("/good")
        await person.heading("All is well")
        assert await person.page.title() == "good"
        assert desk.complaints == []


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/failing-script", "nobodyKnowsThis"),
        ("/other-host", "asked another host: http://elsewhere.example.com"),
        ("/inline-style", "Content Security Policy"),
        ("/no-such-script", "/missing.js was answered 404"),
    ],
)
async def test_what_a_page_must_not_do_is_a_complaint(
    browser: Browser, origin: str, path: str, complaint: str
) -> None:
    async with Desk(browser, origin, "browser") as desk:
        person = await desk.person()
        await person.open(path)
        await person.page.wait_for_load_state("load")
        assert any(complaint in one for one in desk.complaints), desk.complaints


async def test_without_script_a_violation_is_noticed_as_well(browser: Browser, origin: str) -> None:
    async with Desk(browser, origin, "browser") as desk:
        person = await desk.person(script=False)
        await person.open("/inline-style")
        assert any("Content Security Policy" in one for one in desk.complaints), desk.complaints
