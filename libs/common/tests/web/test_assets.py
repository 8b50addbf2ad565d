"""Assets are kept by browsers for as long as they are the same, and no longer."""

import re
from importlib.resources import files

from pages_under_test import Service

from offhook.web.assets import assets


async def test_what_a_page_names_is_served_for_ever(service: Service) -> None:
    browser = service.browser()
    page = (await browser.get("/login")).text
    named = set(re.findall(r'(?:href|src)="(/assets/[^"]+)"', page))
    assert {url.rpartition("/")[2] for url in named} == {"style.css", "script.js", "icon.svg"}
    for url in named:
        answer = await browser.get(url)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = await browser.get(url, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_page_of_another_release_gets_what_there_is_and_does_not_keep_it(service: Service) -> None:
    answer = await service.browser().get("/assets/0123456789ab/style.css")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


async def test_nothing_else_is_served(service: Service) -> None:
    browser = service.browser()
    for name in ("nothing.css", "..%2f..%2fsite.py", "%2e%2e/site.py", ""):
        assert (await browser.get(f"/assets/{assets().version}/{name}")).status_code == 404


def test_pages_need_nothing_from_elsewhere_and_nothing_inline() -> None:
    folder = files("offhook.web")
    templates = "".join(path.read_text() for path in (folder / "templates").iterdir())
    assert not re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", templates)
    for text in (templates, *((folder / "assets" / name).read_text() for name in ("style.css", "script.js"))):
        addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text))
        assert not addresses
