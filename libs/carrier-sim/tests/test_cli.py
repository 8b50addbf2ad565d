"""The command: it serves until Ctrl-C, calls from the terminal, and says in one sentence what is wrong."""

import asyncio
import json
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import aiohttp
import pytest
import yaml
from customer import Customer, until, xml

from carrier_sim import CarrierSim

FILE = {
    "twilio": {
        "accounts": [
            {
                "account_sid": "AC" + "2" * 32,
                "auth_token": "token",
                "numbers": [{"number": "+14155550100", "voice_url": "to be set"}],
            }
        ]
    },
    "callees": {"default": {"outcome": "busy"}, "+14155550143": {"caller": [{"say": 1}, "hang_up"]}},
    "faults": {"duplicate": 0.5, "seed": 3},
}


@pytest.fixture
def simulation(tmp_path: Path, sim: CarrierSim, customer: Customer) -> Path:
    customer.answers["/voice"] = lambda _: xml("<Response><Say>Hello.</Say></Response>")
    FILE["twilio"]["accounts"][0]["numbers"][0]["voice_url"] = customer.url("/voice")  # type: ignore[index,call-overload]
    path = tmp_path / "sim.yaml"
    path.write_text(yaml.safe_dump(FILE))
    return path


async def run(*arguments: str | Path) -> Process:
    command = [sys.executable, "-m", "carrier_sim.cli", *map(str, arguments)]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)


async def test_call_prints_the_report_and_succeeds_when_nothing_is_objected_to(
    simulation: Path, sim: CarrierSim, tmp_path: Path
) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("- stay_until_hung_up")
    common = ("call", "--config", simulation, "--from", "+14155550199", "--to", "+14155550100")
    process = await run(*common, "--trust", sim.ca_pem, "--script", script)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert "no violations" in out.decode()
    process = await run(*common, "--script", script, "--json")
    out, _ = await process.communicate()
    assert process.returncode == 1
    assert [v["code"] for v in json.loads(out)["violations"]] == ["11237"]


async def test_serve_is_controlled_over_http_and_ends_on_ctrl_c(
    simulation: Path, sim: CarrierSim, tmp_path: Path
) -> None:
    process = await run("serve", "--config", simulation, "--home", tmp_path / "home", "--trust", sim.ca_pem)
    assert process.stdout is not None
    first = (await process.stdout.readline()).decode()
    match = re.search(r"https://[\d.]+:\d+", first)
    assert match, first
    arguments = ("--from", "+14155550199", "--to", "+14155550100", "--ca", tmp_path / "home" / "ca.pem")
    called = await run("call", "--sim", match[0], *arguments, "--heard", tmp_path / "heard.wav")
    out, err = await asyncio.wait_for(called.communicate(), 60)
    assert "carrier said" in out.decode(), err.decode()
    assert (tmp_path / "heard.wav").read_bytes()[:4] == b"RIFF"
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert (await process.stderr.read() if process.stderr else b"") == b""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1]", "a mapping is expected at the top"),
        ("twillio: {}", "twillio"),
        ("callees: {default: {caller: [shout]}}", "unknown step 'shout'"),
        ("tls: false", "tls=False needs allow_plain=True"),
    ],
)
async def test_a_bad_file_is_one_clear_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "sim.yaml"
    path.write_text(text)
    process = await run("serve", "--config", path)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert sentence in err.decode()
    assert "Traceback" not in err.decode()


async def test_the_control_api_places_calls_waits_for_reports_and_switches_faults(
    sim: CarrierSim, customer: Customer
) -> None:
    account = sim.twilio.add_account("AC" + "3" * 32, "token")
    account.add_number("+14155550100", voice_url=customer.url("/voice"), status_callback=customer.url("/s"))
    customer.answers["/voice"] = lambda _: xml("<Response><Pause length='30'/></Response>")
    async with aiohttp.ClientSession(sim.base_url) as session:

        async def ask(method: str, path: str, **more: object) -> tuple[int, dict[str, object]]:
            async with session.request(method, path, ssl=False, **more) as answer:  # type: ignore[arg-type]
                return answer.status, await answer.json(content_type=None) if answer.status != 204 else {}

        status, faults = await ask("PUT", "/_sim/faults", json={"duplicate": 1.0})
        assert (status, faults["duplicate"]) == (200, 1.0)
        call = {"provider": "twilio", "from": "+14155550199", "to": "+14155550100", "wait": False}
        status, placed = await ask("POST", "/_sim/calls", json=call)
        assert status == 202
        identity = placed["provider_call_id"]
        assert (await ask("GET", f"/_sim/reports/{identity}"))[0] == 504
        assert (await ask("POST", f"/_sim/calls/{identity}/hang-up"))[0] == 204
        status, report = await ask("GET", f"/_sim/reports/{identity}?wait_s=10")
        assert (status, report["ended_by"]) == (200, "caller")
        assert len(customer.at("/s")) == 2
        assert (await ask("POST", "/_sim/calls", json=call | {"to": "+1999"}))[0] == 404
        assert (await ask("POST", "/_sim/calls", json=call | {"provider": "x"}))[0] == 422
        assert (await ask("PUT", "/_sim/callees/default", json={"outcome": "busy"}))[0] == 204


async def test_call_ends_on_ctrl_c(simulation: Path, sim: CarrierSim, customer: Customer) -> None:
    customer.answers["/voice"] = lambda _: xml("<Response><Pause length='60'/></Response>")
    arguments = ("--from", "+14155550199", "--to", "+14155550100", "--trust", sim.ca_pem)
    process = await run("call", "--config", simulation, *arguments)
    await until(lambda: bool(customer.received))
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert b"Traceback" not in err
