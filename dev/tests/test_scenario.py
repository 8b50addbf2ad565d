"""What the demo's set-up does with what is there already."""

from pathlib import Path
from typing import Any

import pytest

from offhook_dev.scenario import ApiError, Scenario
from offhook_dev.simulated import NUMBERS
from offhook_dev.stack import Address

CREDENTIALS: dict[str, dict[str, str]] = {provider: {} for provider in NUMBERS}


class Kept:
    """A stack of an earlier start, and its API: what somebody has stored."""

    def __init__(self, names: dict[str, str], agent_url: str = "ws://127.0.0.1:40001") -> None:
        self.address = Address("", "", "", "", "ws://127.0.0.1:40002", Path())
        self.workflow = {"name": "Demo", "workflow_id": "w", "agent_url": agent_url}
        self.configurations = [{"configuration_id": name, "name": name} for name in names.values()]
        self.numbers = {name: [{"number": NUMBERS[provider]}] for provider, name in names.items()}

    async def caught_up(self, *_: Any, **__: Any) -> None: ...

    async def get(self, path: str) -> dict[str, Any]:
        match path.split("/")[1:]:
            case ["workflows"]:
                return {"workflows": [self.workflow]}
            case ["telephony-configurations"]:
                return {"configurations": self.configurations}
            case [_, identity, _]:
                return {"phone_numbers": self.numbers[identity]}
        raise AssertionError(path)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        match path.split("/")[1:]:
            case ["telephony-configurations"]:
                made = {"configuration_id": body["name"], "name": body["name"]}
                self.configurations.append(made)
                self.numbers[body["name"]] = []
                return made
            case [_, identity, _]:
                if any(body["number"] == each["number"] for held in self.numbers.values() for each in held):
                    raise ApiError("409: another configuration has this number")
                self.numbers[identity].append({"number": body["number"]})
                return {}
        raise AssertionError(path)

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/workflows/w"
        self.workflow |= body
        return dict(self.workflow)


async def set_up(kept: Kept, *, agent_moved: bool = False) -> Scenario:
    scenario = Scenario(kept)
    await scenario.api.close()
    scenario.api = kept  # type: ignore[assignment]
    await scenario.set_up(CREDENTIALS, agent_moved=agent_moved)
    return scenario


async def test_a_configuration_that_somebody_has_renamed_is_found_by_its_number() -> None:
    kept = Kept({"twilio": "My Twilio", "vonage": "vonage (simulated)"})
    scenario = await set_up(kept)
    assert len(kept.configurations) == 2
    assert scenario.configurations == {"twilio": "My Twilio", "vonage": "vonage (simulated)"}


async def test_what_an_interrupted_start_has_not_set_up_is_set_up() -> None:
    kept = Kept({"twilio": "twilio (simulated)"})
    kept.numbers["twilio (simulated)"].clear()
    await set_up(kept)
    assert kept.numbers == {f"{name} (simulated)": [{"number": number}] for name, number in NUMBERS.items()}


@pytest.mark.parametrize(
    ("agent_url", "agent_moved", "then"),
    [
        ("ws://127.0.0.1:40001", True, "ws://127.0.0.1:40002"),
        ("ws://127.0.0.1:40001", False, "ws://127.0.0.1:40001"),
        ("wss://agent.example.com/calls", True, "wss://agent.example.com/calls"),
    ],
)
async def test_the_workflow_follows_the_demos_agent_and_keeps_anybody_elses(
    agent_url: str, agent_moved: bool, then: str
) -> None:
    kept = Kept({provider: provider for provider in NUMBERS}, agent_url)
    await set_up(kept, agent_moved=agent_moved)
    assert kept.workflow["agent_url"] == then
