"""`offhook replay`, against the real API on a real port."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from test_request_logs import Service, running
from typer.testing import CliRunner

from call_tracker.commands import replay
from offhook.http import serve
from offhook.settings import ServiceSettings
from offhook.topics import CALL_EVENTS, WEBHOOK_REPLAYS


class Terminal:
    def __init__(self, service: Service, port: int) -> None:
        self.service, self.url = service, f"http://127.0.0.1:{port}"

    async def run(self, *words: str, key: str = "key-3", url: str | None = None) -> Result:
        env = {"OFFHOOK_API_KEY": key, "OFFHOOK_API_URL": url or self.url}
        return await asyncio.to_thread(CliRunner().invoke, replay, list(words), env=env)


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    async with running(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}", tmp_path) as service:
        # Its lifespan runs already; another would start the bus twice.
        app: Any = service.app
        stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
        settings = ServiceSettings.model_construct(listen_host="127.0.0.1", listen_port=0)

        async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                while True:
                    message = await receive()
                    await send({"type": message["type"] + ".complete"})
                    if message["type"] == "lifespan.shutdown":
                        return
            await app(scope, receive, send)

        without_lifespan.state = app.state  # type: ignore[attr-defined]
        serving = asyncio.create_task(
            serve(without_lifespan, settings, stop=stop, on_listening=listening.set_result)  # type: ignore[arg-type]
        )
        try:
            yield Terminal(service, await listening)
        finally:
            stop.set()
            await serving


async def test_what_waits_is_listed_shown_and_sent_again(terminal: Terminal) -> None:
    service = terminal.service
    assert "Nothing waits" in (await terminal.run("list")).output
    letter = await service.bury(b'{"a": 1}', reason="odd \x1b[31mred")
    kept = await service.audit(
        sealed_request="v1.k.s", near_misses=("trailing-slash https://a.example.com/x/",)
    )
    listed = await terminal.run("list")
    assert letter in listed.output
    assert kept in listed.output
    assert "\x1b" not in listed.output
    shown = await terminal.run("show", letter)
    assert '{"a": 1}' in shown.output
    assert "What to do: Have the proxy" in (await terminal.run("show", kept)).output
    done = await terminal.run("dead-letter", letter, "nothing-like-that")
    assert done.exit_code == 1
    assert f"{letter}: sent again to {CALL_EVENTS.name}" in done.output
    assert "nothing-like-that: There is no such dead letter" in done.output
    again = await terminal.run("dead-letter", letter)
    assert (again.exit_code, "replayed already" in again.output) == (1, True)


async def test_a_webhook_is_replayed_and_its_result_waited_for(terminal: Terminal) -> None:
    service = terminal.service
    kept = await service.audit(sealed_request="v1.k.s")

    async def gateway() -> None:
        while not service.bus.log(WEBHOOK_REPLAYS):
            await asyncio.sleep(0.01)
        await service.audit(
            replay_of=kept, requested_by="user-3", verified=True, reason=None, status_code=200
        )

    answering = asyncio.create_task(gateway())
    done = await terminal.run("webhook", kept, "--wait", "30")
    await answering
    assert (done.exit_code, f"{kept}: Verified now" in done.output) == (0, True)
    not_yet = await terminal.run("webhook", kept, "--wait", "0")
    assert "has not answered yet" in not_yet.output


async def test_all_of_a_reason_are_sent_again_once_each_even_if_they_fail_again(terminal: Terminal) -> None:
    service = terminal.service
    for offset in range(3):
        # No event: each comes back with the same reason.
        await service.bury(b"x", offset=offset, reason="a header is not UTF-8")
    done = await terminal.run("all", "--reason", "a header is not UTF-8")
    assert "\n3 sent again." in "\n" + done.output
    await service.bus.settle()
    none = await terminal.run("all", "--reason", "never heard of")
    assert (none.exit_code, "No dead letter" in none.output) == (1, True)


@pytest.mark.parametrize(
    ("key", "url", "said"),
    [
        ("", None, "An API key is needed"),
        ("wrong", None, "The API key is not valid"),
        ("key-3", "http://127.0.0.1:1", "does not answer"),
        ("key-3", "ftp://host", "must begin with http"),
    ],
)
async def test_what_keeps_it_from_asking_is_one_sentence(
    terminal: Terminal, key: str, url: str | None, said: str
) -> None:
    result = await terminal.run("list", key=key, url=url)
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert len(result.stderr.strip().splitlines()) == 1  # the service logs to this process, too
