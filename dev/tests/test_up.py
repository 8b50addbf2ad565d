"""`make up`, `make down`: a stack that is kept, in the background of a terminal."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from offhook_dev import up
from offhook_dev.ports import free_port
from offhook_dev.simulated import NUMBERS, PERSON
from offhook_dev.stack import Stack

pytestmark = [pytest.mark.real]


class Terminal:
    """Where somebody types the commands."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self._env = {**os.environ, "OFFHOOK_VAR": str(var), "OFFHOOK_PORT": str(free_port())}

    def types(self, command: str, *, exits: int = 0, **env: str) -> str:
        """What `make <command>` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "offhook_dev", command],
            env=self._env | env,
            capture_output=True,
            text=True,
            timeout=400,  # more than the command gives itself
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == exits, said
        return " ".join(said.split())

    @property
    def state(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.var / "stack" / "state.json").read_text())
        return found


def heard_by_a_caller(terminal: Terminal) -> int:
    """How many milliseconds of audio somebody hears who calls the simulated Twilio number."""
    home = terminal.var / "stack"
    command = [
        *(
            str(Path(sys.executable).with_name("carrier-sim")),
            "call",
            "--json",
            "--sim",
            terminal.state["simulator"],
        ),
        *("--ca", str(home / "carrier-sim" / "ca.pem"), "--from", PERSON, "--to", NUMBERS["twilio"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    heard: int = json.loads(done.stdout)["agent_audio_ms"]
    return heard


async def test_what_is_stopped_and_started_again_takes_calls_as_before(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    try:
        first = terminal.types("up")
        assert terminal.state["api_key"] in first
        before = terminal.state
        refused = terminal.types("up", exits=1, OFFHOOK_PUBLIC_URL="https://voice.example.com")
        assert "make down" in refused
        assert "stopped" in terminal.types("down")
        assert "nothing is running" in terminal.types("status")
        terminal.types("up")
        assert terminal.state["agent_url"] == before["agent_url"]
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            key = {"Authorization": f"Bearer {terminal.state['api_key']}"}
            answer = await client.get(terminal.state["http_url"] + "/api/v1/workflows", headers=key)
        assert [each["agent_url"] for each in answer.json()["workflows"]] == [before["agent_url"]]
        assert await asyncio.to_thread(heard_by_a_caller, terminal) > 0
    finally:
        terminal.types("down")


async def test_a_stack_that_is_told_to_end_while_it_starts_does_not_start_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = asyncio.Event()

    class StartsForEver(Stack):
        async def start(self) -> None:
            starting.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(up, "Stack", StartsForEver)
    supervising = asyncio.create_task(
        up.supervise(tmp_path, free_port(), "https://voice.example.com", tunnel=None)
    )
    async with asyncio.timeout(60):
        await starting.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await supervising
