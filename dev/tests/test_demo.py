"""The whole system: four calls over real Kafka, and the same four while call-tracker is killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carrier_sim import CarrierSim
from carrier_sim.provision import read
from offhook_dev.edge import make_certificate
from offhook_dev.ports import free_port
from offhook_dev.scenario import STATUSES, Scenario
from offhook_dev.simulated import PATIENCE, credentials, write_simulation
from offhook_dev.stack import Stack

pytestmark = [pytest.mark.real]


def run_demo(var: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "offhook_dev", "demo"],
        env={**os.environ, "OFFHOOK_VAR": str(var), "OFFHOOK_CARRIER_PATIENCE": str(PATIENCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_mentioning(text: str) -> list[str]:
    """Command lines of live processes that contain `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if (text in command or text in environment) and int(entry.name) != os.getpid():
                found.append(command)
    return found


def nothing_is_left_of(text: str) -> None:
    """What was killed may need a moment to be gone."""
    deadline = time.monotonic() + 20
    while left := processes_mentioning(text):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_the_demo_makes_four_right_calls_and_leaves_nothing_running(tmp_path: Path) -> None:
    process = run_demo(tmp_path)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["ok"] is True
    assert sorted((call["provider"], call["direction"]) for call in report["calls"]) == [
        ("twilio", "inbound"), ("twilio", "outbound"), ("vonage", "inbound"), ("vonage", "outbound"),
    ]  # fmt: skip
    for call in report["calls"]:
        assert call["statuses"] == STATUSES
        assert call["protocol_violations"] == 0
        assert call["caller_audio_ms"] > 1500
        assert call["agent_audio_ms"] > 1000
        assert call["instructions_ms"] > 0
        assert call["response_ms"] > 0
        assert call["end_reason"]
    assert report["kafka"]["events"] > 20
    nothing_is_left_of(str(tmp_path))


def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    process = run_demo(tmp_path)
    deadline = asyncio.run(_log_appears(tmp_path / "demo" / "stack" / "logs" / "call-tracker.log"))
    assert deadline, "the stack never started"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 130, output
    nothing_is_left_of(str(tmp_path))


async def _log_appears(path: Path) -> bool:
    for _ in range(1800):
        if path.exists() and path.stat().st_size:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_killing_call_tracker_during_the_calls_leaves_complete_records(tmp_path: Path) -> None:
    port = free_port()
    certificate = make_certificate(tmp_path / "stack")
    simulation = read(write_simulation(tmp_path, f"https://localhost:{port}"))
    config = simulation.config(home=tmp_path / "sim", trust=certificate.authority, patience=PATIENCE)
    async with CarrierSim(config) as sim:
        simulation.provision(sim)
        stack = Stack(
            tmp_path / "stack",
            port=port,
            certificate=certificate,
            carriers={"twilio": sim.base_url, "vonage": sim.base_url},
            carrier_ca=sim.ca_pem,
        )
        async with stack:
            scenario = Scenario(stack, sim)
            await scenario.set_up(credentials(tmp_path))
            talking = asyncio.Event()
            both, live = {"twilio", "vonage"}, set[str]()

            def changed() -> None:
                answered = {call.provider for call in scenario.calls if call.statuses[-1:] == ["answered"]}
                if answered == both:
                    talking.set()

            async def kill_and_start_again() -> None:
                await talking.wait()
                stack.programs["call-tracker"].kill()
                live.update(call.provider for call in scenario.calls if call.report is None)
                await asyncio.sleep(2.0)
                await stack.programs["call-tracker"].start()

            async with asyncio.TaskGroup() as group:
                group.create_task(kill_and_start_again())
                group.create_task(scenario.run(changed))
    assert live == both
    for call in scenario.calls:
        assert call.problems == [], (call.provider, call.direction)
