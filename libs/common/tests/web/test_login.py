"""Signing in takes a key, is limited, and leads nowhere else."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pages_under_test import KEYS, Clock, Service, make_service
from starlette.requests import Request
from structlog.testing import capture_logs

from offhook.web import login
from offhook.web.login import TRIES, LoginLimit, client_address
from offhook_dev.redis import RedisServer


async def test_whoever_is_not_signed_in_is_led_to_the_login_and_back(service: Service) -> None:
    browser = service.browser()
    sent = await browser.get("/page?a=1&b=%C3%A9")
    assert sent.status_code == 303
    assert sent.headers["location"] == "/login?next=/page%3Fa%3D1%26b%3D%25C3%25A9"
    form = await browser.get(sent.headers["location"])
    assert 'name="next" value="/page?a=1&amp;b=%C3%A9"' in form.text
    back = await browser.post("/login", data={"key": f" {KEYS['ada']}\n", "next": "/page?a=1&b=%C3%A9"})
    assert (back.status_code, back.headers["location"]) == (303, "/page?a=1&b=%C3%A9")
    assert "Hello ada" in (await browser.get(back.headers["location"])).text


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(service: Service) -> None:
    answer = await service.browser().post("/login", data={"key": KEYS["ada"]})
    attributes = answer.headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=lax" in attributes
    assert "path=/" in attributes
    assert "secure" not in attributes
    proxied = service.browser(headers={"x-forwarded-proto": "https,http"})
    assert "; Secure" in (await proxied.post("/login", data={"key": KEYS["ada"]})).headers["set-cookie"]
    # A gateway behind a tunnel writes over what the tunnel said.
    hidden = service.browser(headers={"x-forwarded-proto": "http", "origin": "https://offhook.test"})
    assert "; Secure" in (await hidden.post("/login", data={"key": KEYS["ada"]})).headers["set-cookie"]


async def test_a_wrong_key_is_refused_without_being_repeated_anywhere(service: Service) -> None:
    with capture_logs() as logs:
        answer = await service.browser().post("/login", data={"key": "ohk_almost-a-key", "next": "/page"})
    assert answer.status_code == 401
    assert "offhook_session" not in answer.cookies
    assert "was revoked" in answer.text
    assert 'value="/page"' in answer.text
    assert "ohk_almost-a-key" not in answer.text + str(logs)


async def test_a_key_in_the_address_signs_nobody_in(service: Service) -> None:
    browser = service.browser()
    await browser.get(f"/login?key={KEYS['ada']}")
    assert (await browser.get("/page")).status_code == 303


@pytest.mark.parametrize(
    "there",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
        "javascript:alert(1)", "/login?next=/login", "/logout", " /page", "/page\r\nSet-Cookie: a=b", "evil", "",
        "/" + "a" * 3000, "http:/evil.example", "/page\u2028x",
    ],
)  # fmt: skip
async def test_after_the_login_nobody_is_led_elsewhere(service: Service, there: str) -> None:
    browser = service.browser()
    assert (
        'name="next" value="/telephony-configurations"'
        in (await browser.get("/login", params={"next": there})).text
    )
    answer = await browser.post("/login", data={"key": KEYS["ada"], "next": there})
    assert answer.headers["location"] == "/telephony-configurations"
    assert len(answer.headers.get_list("set-cookie")) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "http://offhook.test"}, 303),
        ({"origin": "http://offhook.test"}, 303),
        ({}, 303),
    ],
)
async def test_no_other_site_can_sign_somebody_in(
    service: Service, headers: dict[str, str], status: int
) -> None:
    answer = await service.browser().post("/login", data={"key": KEYS["bob"]}, headers=headers)
    assert answer.status_code == status


async def test_whoever_is_signed_in_needs_no_login_page(service: Service) -> None:
    browser = await service.signed_in()
    assert (await browser.get("/login?next=/page")).headers["location"] == "/page"
    assert (await browser.get("/")).headers["location"] == "/telephony-configurations"


async def test_a_password_for_a_proxy_in_front_signs_nobody_out(service: Service) -> None:
    browser = await service.signed_in()
    assert (await browser.get("/page", headers={"authorization": "Basic YTpi"})).status_code == 200
    assert (await browser.get("/page", headers={"authorization": "Bearer wrong"})).status_code == 303


async def test_signing_out_takes_the_page_s_own_form(service: Service) -> None:
    browser = await service.signed_in()
    assert (await browser.get("/logout")).status_code == 405
    assert (await browser.post("/logout", data={"csrf": ""})).status_code == 403
    assert (await browser.get("/page")).status_code == 200
    left = await browser.post("/logout", data={"csrf": service.csrf(browser)})
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert (await browser.get("/page")).status_code == 303


async def test_an_address_that_tries_too_often_has_to_wait_and_others_do_not(service: Service) -> None:
    guesser = service.browser(headers={"x-forwarded-for": "10.0.0.1, 203.0.113.5"})
    for _ in range(TRIES):
        assert (await guesser.post("/login", data={"key": "wrong"})).status_code == 401
    refused = await guesser.post("/login", data={"key": KEYS["ada"]})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) == 300
    assert "Try again in 5 minutes" in refused.text
    other = service.browser(headers={"x-forwarded-for": "203.0.113.5, 198.51.100.7"})
    assert (await other.post("/login", data={"key": KEYS["ada"]})).status_code == 303


async def test_many_tries_at_once_are_as_limited_as_one_after_the_other(service: Service) -> None:
    browser = service.browser()
    answers = await asyncio.gather(*(browser.post("/login", data={"key": str(n)}) for n in range(3 * TRIES)))
    assert sum(answer.status_code == 401 for answer in answers) == TRIES


async def test_tries_of_all_addresses_together_are_limited(tmp_path: Path) -> None:
    service = make_service(tmp_path, LoginLimit(None, clock=Clock(), in_total=5))
    answers = [
        await service.browser(client=(f"203.0.113.{n}", 1)).post("/login", data={"key": "wrong"})
        for n in range(7)
    ]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2


async def test_one_address_cannot_use_up_everybody_s_tries(tmp_path: Path) -> None:
    service = make_service(tmp_path, LoginLimit(None, clock=Clock(), tries=3, in_total=5))
    for _ in range(50):
        await service.browser(client=("203.0.113.5", 1)).post("/login", data={"key": "wrong"})
    other = await service.browser(client=("198.51.100.7", 1)).post("/login", data={"key": "wrong"})
    assert other.status_code == 401


async def test_nobody_with_a_key_is_kept_out_by_those_who_try_from_many_addresses(tmp_path: Path) -> None:
    service = make_service(tmp_path, LoginLimit(None, clock=Clock(), in_total=5))
    for n in range(7):
        await service.browser(client=(f"203.0.113.{n}", 1)).post("/login", data={"key": "wrong"})
    other = await service.browser(client=("198.51.100.7", 1)).post("/login", data={"key": KEYS["ada"]})
    assert other.status_code == 303


async def test_tries_that_succeed_are_not_counted_and_the_count_ends_with_its_window() -> None:
    clock = Clock()
    limit = LoginLimit(None, clock=clock, tries=2)
    for _ in range(10):
        assert await limit.count("a") == 0
        await limit.give_back("a")
    assert [await limit.count("a") > 0 for _ in range(3)] == [False, False, True]
    clock.now += 300
    assert await limit.count("a") == 0


@pytest.mark.real
async def test_processes_count_together_in_redis_and_each_alone_while_it_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_REDIS_TIMEOUT_S", 5)
    redis = RedisServer(tmp_path)
    await redis.start()
    clock = Clock()
    limits = [LoginLimit(redis.url, clock=clock, tries=2) for _ in range(2)]
    try:
        assert [await limits[n % 2].count("a") > 0 for n in range(3)] == [False, False, True]
        await redis.stop()
        assert [await limits[0].count("a") > 0 for _ in range(3)] == [False, False, True]
        assert await limits[1].count("a") == 0
    finally:
        await asyncio.gather(*(limit.close() for limit in limits))
        await redis.stop()


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.5", "203.0.113.5"),
        ("10.1.2.3", "203.0.113.5", "203.0.113.5"),
        # Through a tunnel whose client runs beside the gateway.
        ("10.1.2.3", "198.51.100.1, 203.0.113.5, 127.0.0.1", "203.0.113.5"),
        ("10.1.2.3", "nonsense, 10.1.2.4", "10.1.2.4"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::ffff:203.0.113.5", "203.0.113.5"),
        (None, "", "unknown"),
    ],
)
def test_the_address_is_what_our_own_proxy_saw(peer: str | None, forwarded: str, counted: str) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "client": peer and (peer, 1),
        "headers": [(b"x-forwarded-for", forwarded.encode())],
    }
    assert client_address(Request(scope)) == counted


def test_only_the_last_line_of_forwarded_for_is_believed() -> None:
    lines = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-for", b"203.0.113.5")]
    scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": lines}
    assert client_address(Request(scope)) == "203.0.113.5"
