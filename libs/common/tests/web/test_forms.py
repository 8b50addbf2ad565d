"""Forms are bounded, decoded once, and believed only from the user's own pages."""

from urllib.parse import quote

import pytest
from pages_under_test import KEYS, Service

from offhook.web.forms import MAX_FIELDS, local_path

TYPE = {"content-type": "application/x-www-form-urlencoded"}


async def test_a_form_of_the_user_s_own_page_is_believed(service: Service) -> None:
    browser = await service.signed_in()
    token = service.csrf(browser)
    assert token in (await browser.get("/page")).text
    answer = await browser.post(
        "/save", data={"csrf": token, "name": "a\r\nb", "many": ["1", "2", "3"], "no": ""}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/page")
    assert service.saved == [{"name": "a\nb", "many": ["1", "2", "3"], "no": ""}]


async def test_the_token_may_come_as_a_header_too(service: Service) -> None:
    browser = await service.signed_in()
    headers = {"x-csrf-token": service.csrf(browser)}
    assert (await browser.post("/save", data={"name": "x"}, headers=headers)).status_code == 303


@pytest.mark.parametrize("token", [None, "", "wrong", "é" * 40])
async def test_a_form_without_the_token_changes_nothing(service: Service, token: str | None) -> None:
    browser = await service.signed_in()
    fields = {"name": "x"} | ({} if token is None else {"csrf": token})
    answer = await browser.post("/save", data=fields)
    assert answer.status_code == 403
    assert "reload the page" in answer.text
    assert service.saved == []


async def test_another_session_s_token_is_worth_nothing_even_of_the_same_user(service: Service) -> None:
    ada, ada_elsewhere, bob = [await service.signed_in(user) for user in ("ada", "ada", "bob")]
    for other in (ada_elsewhere, bob):
        answer = await ada.post("/save", data={"csrf": service.csrf(other), "name": "x"})
        assert answer.status_code == 403


async def test_a_program_with_a_key_needs_no_token_and_gets_none(service: Service) -> None:
    program = service.browser(headers={"authorization": f"Bearer {KEYS['ada']}"})
    assert (await program.post("/save", data={"name": "x"})).status_code == 303
    wrong = await service.signed_in(headers={"authorization": "Bearer wrong"})
    assert (await wrong.post("/save", data={"csrf": service.csrf(wrong), "name": "x"})).status_code == 303
    assert len(service.saved) == 1


async def test_a_form_has_bounds(service: Service) -> None:
    browser = await service.signed_in()
    headers = TYPE | {"x-csrf-token": service.csrf(browser)}

    async def sent(body: str | bytes, **more: str) -> int:
        return (await browser.post("/save", content=body, headers=headers | more)).status_code

    assert await sent("&".join(f"f{n}=" for n in range(MAX_FIELDS))) == 303
    assert await sent("&".join(f"f{n}=" for n in range(MAX_FIELDS + 1))) == 413
    assert await sent("name=" + "x" * 70_000) == 413
    assert await sent("name=%ff%fe") == 422
    assert await sent("name=%00") == 422
    assert await sent(b"name=\xff") == 422
    assert await sent("name=x", **{"content-type": "multipart/form-data; boundary=x"}) == 415
    assert await sent("{}", **{"content-type": "application/json"}) == 415


async def test_a_refused_form_is_shown_again_with_what_was_entered(service: Service) -> None:
    browser = await service.signed_in()
    answer = await browser.post("/save", data={"csrf": service.csrf(browser), "name": "taken"})
    assert answer.status_code == 422
    assert 'value="taken"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert '<a href="#f-name">This name is taken.</a>' in answer.text


async def test_the_script_is_told_the_same_as_json(service: Service) -> None:
    browser = await service.signed_in(headers={"accept": "text/html"})
    script = {"accept": "application/json"}
    fields = {"csrf": service.csrf(browser), "name": "taken"}
    refused = await browser.post("/save", data=fields, headers=script)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["errors"] == [{"location": ["body", "name"], "message": "This name is taken."}]
    saved = await browser.post("/save", data=fields | {"name": "free"}, headers=script)
    assert (saved.status_code, saved.json()) == (200, {"location": "/page"})
    assert "Saved &lt;b&gt;it" in (await browser.get("/page")).text
    browser.cookies.clear()
    left = await browser.post("/save", data=fields, headers=script)
    assert (left.status_code, left.json()["location"]) == (401, "/login")


@pytest.mark.parametrize(
    "path", ["/", "/page", "/page?a=%2F%2Fevil", "/a/../b", "/p#x", "/é", "/loginx", "/?next=//evil"]
)
def test_a_path_of_this_site_is_one(path: str) -> None:
    assert local_path(path) == path
    assert local_path(quote("//evil"), "/d") == "/d"
