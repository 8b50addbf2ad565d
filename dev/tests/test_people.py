"""Keys and logins of people, through the edge of a running installation: two services, one answer."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from installation import Installation

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

NUMBER_SYNC: Final = "/api/v1/workflows"
CALL_TRACKER: Final = "/api/v1/calls"
API_TIMEOUT_S: Final = 20


async def offhook(installation: Installation, *arguments: str) -> str:
    """What an operator's command prints."""
    environment = {
        "PATH": os.environ["PATH"],
        "OFFHOOK_DATABASE_URL": installation.stack.database_url("number-sync"),
    }
    command = [str(Path(sys.executable).parent / "offhook"), *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def client(installation: Installation, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=installation.stack.address.http_url, timeout=30, trust_env=False, **options
    )


async def until(asking: httpx.AsyncClient, status: int) -> None:
    """Wait until both services answer so."""
    async with asyncio.timeout(60):
        for path in (NUMBER_SYNC, CALL_TRACKER):
            while (await asking.get(path)).status_code != status:
                await asyncio.sleep(0.05)


async def test_a_key_from_the_command_line_works_everywhere_until_it_is_revoked(
    installation: Installation,
) -> None:
    key = (await offhook(installation, "keys", "create", "--user", "carla")).strip()
    async with (
        client(installation, headers={"Authorization": f"Bearer {key}"}) as program,
        client(installation, headers={"Accept": "text/html"}) as browser,
    ):
        await until(program, 200)
        assert (await browser.get("/")).headers["location"] == "/telephony-configurations"
        assert (await browser.get("/workflows")).headers["location"] == "/login?next=/workflows"
        signed_in = await browser.post("/login", data={"key": key, "next": "/workflows"})
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/workflows")
        assert "carla" in (await browser.get("/workflows")).text
        # The cookie is as good as the key at both services; what changes something needs the page's token as well.
        await until(browser, 200)
        for path in (NUMBER_SYNC, CALL_TRACKER):
            assert (await browser.post(path, json={})).status_code == 403
        (listed,) = [
            line for line in (await offhook(installation, "keys", "list")).splitlines() if "carla" in line
        ]
        await offhook(installation, "keys", "revoke", listed.split()[0])
        await until(program, 401)
        await until(browser, 401)
        assert (await browser.get("/workflows")).status_code == 303
    for name in installation.stack.programs:
        assert key not in installation.stack.programs[name].log.read_text(errors="replace")


async def test_the_login_s_cookie_travels_by_https_only_where_it_came_by_https(
    installation: Installation,
) -> None:
    address = installation.stack.address
    key = {"key": address.api_key}
    async with client(installation) as plain, httpx.AsyncClient(verify=False, trust_env=False) as encrypted:
        over_http = await plain.post("/login", data=key)
        over_https = await encrypted.post(address.http_url.replace("http:", "https:") + "/login", data=key)
    assert "Secure" not in over_http.headers["set-cookie"]
    assert "; Secure" in over_https.headers["set-cookie"]


async def test_a_live_page_is_not_cut_where_an_answer_of_the_api_would_be(installation: Installation) -> None:
    headers = {"Authorization": f"Bearer {installation.stack.address.api_key}", "Accept": "text/event-stream"}
    began = time.monotonic()
    async with (
        client(installation, headers=headers) as page,
        page.stream("GET", "/telephony-configurations/live") as stream,
    ):
        assert stream.status_code == 200
        async for _ in stream.aiter_lines():
            if time.monotonic() - began > API_TIMEOUT_S + 5:
                break
        else:
            pytest.fail(f"the stream ended after {time.monotonic() - began:.0f} s")
