"""Problems are pages for people, problems for programs, and never tell what is nobody's business."""

import pytest
from pages_under_test import KEYS, Service

POLICY = "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'; object-src 'none'"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422, 429, 500, 503])
async def test_people_get_a_page_and_programs_a_problem(service: Service, status: int) -> None:
    browser = await service.signed_in()
    page = await browser.get(f"/fails/{status}")
    assert page.status_code == status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    assert "Sign out" in page.text
    assert "<i>" not in page.text
    assert "secret of the house" not in page.text
    if status != 500:
        assert f"Told &lt;i&gt;so&lt;/i&gt; with {status}." in page.text
        assert page.headers["retry-after"] == "7"
    program = await service.browser(headers={"accept": "*/*"}).get(f"/fails/{status}")
    assert program.status_code == status
    assert program.headers["content-type"] == "application/problem+json"


async def test_an_address_nobody_serves_is_a_page_too(service: Service) -> None:
    answer = await service.browser().get("/<script>alert(1)</script>")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text or "Not Found" in answer.text
    assert "<script>alert" not in answer.text


async def test_the_api_speaks_problems_whoever_asks(service: Service) -> None:
    browser = service.browser()
    for answer in (await browser.get("/api/v1/things"), await browser.get("/api/v1/nothing")):
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await browser.get("/api/v1/things")).status_code == 401


async def test_a_body_that_is_too_long_gets_a_page(service: Service) -> None:
    browser = await service.signed_in()
    answer = await browser.post("/save", data={"csrf": service.csrf(browser), "name": "x" * 70_000})
    assert answer.status_code == 413
    assert "Too much at once" in answer.text


async def test_a_page_that_needs_a_key_leads_people_to_the_login(service: Service) -> None:
    answer = await service.browser().get("/fails/401")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/fails/401")
    posted = await service.browser().post("/save", data={"name": "x"})
    assert (posted.status_code, posted.headers["location"]) == (303, "/login")


async def test_every_page_says_what_browsers_may_do_with_it(service: Service) -> None:
    browser = await service.signed_in()
    for path in ("/page", "/fails/404"):
        headers = (await browser.get(path)).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
    login = (await service.browser().get("/login")).headers
    assert login["content-security-policy"] == POLICY


async def test_the_api_takes_the_cookie_and_then_asks_for_the_token(service: Service) -> None:
    browser = await service.signed_in()
    browser.headers["accept"] = "application/json"
    assert (await browser.get("/api/v1/things")).json() == "ada"
    assert (await browser.post("/api/v1/things")).status_code == 403
    for token, status in ((service.csrf(browser), 200), ("wrong", 403), ("", 403)):
        answer = await browser.post("/api/v1/things", headers={"x-csrf-token": token})
        assert answer.status_code == status
    program = service.browser(headers={"authorization": f"Bearer {KEYS['bob']}"})
    assert (await program.post("/api/v1/things")).json() == "bob"


async def test_no_cache_keeps_what_the_api_tells_a_user(service: Service) -> None:
    answer = await (await service.signed_in()).get("/api/v1/things")
    assert answer.headers["cache-control"] == "no-store"
