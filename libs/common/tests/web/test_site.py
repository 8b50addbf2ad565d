"""Pages: rendered for one user, with a notice that is shown once and cannot be made up."""

from pathlib import Path

import pytest
from pages_under_test import Service, make_service

from offhook.security.sessions import LIFETIME_S
from offhook.web.site import safe_href


async def test_a_notice_is_shown_once_and_as_text(service: Service) -> None:
    browser = await service.signed_in()
    await browser.post("/save", data={"csrf": service.csrf(browser), "name": "x"})
    first, second = await browser.get("/page"), await browser.get("/page")
    assert "Saved &lt;b&gt;it&lt;/b&gt;." in first.text
    assert 'class="notice"' not in second.text


@pytest.mark.parametrize("value", ["Saved.", "U2F2ZWQu.AAAA", ".", "é", "x" * 5000, ""])
async def test_nobody_else_can_put_a_notice_on_our_pages(service: Service, value: str) -> None:
    browser = await service.signed_in()
    page = await browser.get(
        "/page", headers={"cookie": f"offhook_notice={value}"} if value.isascii() else {}
    )
    assert 'class="notice"' not in page.text


async def test_a_session_ends_after_twelve_hours(service: Service) -> None:
    browser = await service.signed_in()
    service.clock.now += LIFETIME_S - 1
    assert (await browser.get("/page")).status_code == 200
    service.clock.now += 1
    assert (await browser.get("/page")).status_code == 303


@pytest.mark.parametrize("url", ["https://evil.example", "//evil.example", "/x\r\nSet-Cookie: a=b"])
def test_a_redirect_stays_on_this_site(tmp_path: Path, url: str) -> None:
    answer = make_service(tmp_path).site.redirect(url, notice="line\r\nSet-Cookie: evil=1")
    assert answer.headers["location"] == "/"
    assert [name for name, _ in answer.raw_headers].count(b"set-cookie") == 1
    assert b"evil" not in dict(answer.raw_headers)[b"set-cookie"]


async def test_the_navigation_shows_where_one_is(service: Service) -> None:
    browser = await service.signed_in()
    text = (await browser.get("/page")).text
    assert 'href="/workflows"' in text
    assert 'href="/calls"' in text  # also where another service serves it
    assert "aria-current" not in text
    assert 'href="/workflows"' not in (await service.browser().get("/login")).text


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", " JaVaScRiPt:alert(1)", "data:text/html,x", "x", "\tjavascript:"]
)
def test_a_link_can_only_open_a_page(url: str) -> None:
    assert safe_href(url) == "#"


@pytest.mark.parametrize("url", ["/a", "?b", "#c", "https://x.example", "tel:+14155550100"])
def test_links_to_pages_stay(url: str) -> None:
    assert safe_href(url) == url
