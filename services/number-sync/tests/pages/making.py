"""Things the page tests begin with, made over the API."""

from typing import Any

from running_number_sync import TWILIO, Service

C = "/telephony-configurations"


async def a_configuration(service: Service, user: str = "ada", **more: Any) -> str:
    """The page of a new configuration."""
    body = {"name": "Main", "provider": "twilio", "credentials": TWILIO, **more}
    answer = await service.as_user(user).post(C, json=body)
    assert answer.status_code == 201, answer.text
    return f"{C}/{answer.json()['configuration_id']}"


async def a_number(service: Service, configuration: str, number: str, user: str = "ada", **more: Any) -> str:
    """The page of a new number."""
    answer = await service.as_user(user).post(
        f"{configuration}/phone-numbers", json={"number": number, **more}
    )
    assert answer.status_code == 201, answer.text
    return f"{configuration}/phone-numbers/{answer.json()['number_id']}"


async def a_workflow(service: Service, user: str = "ada", **more: Any) -> str:
    """The page of a new workflow."""
    body = {"name": "Desk", "agent_url": "wss://agent.example.com/call", **more}
    answer = await service.as_user(user).post("/workflows", json=body)
    assert answer.status_code == 201, answer.text
    return f"/workflows/{answer.json()['workflow_id']}"


def id_of(page: str) -> str:
    return page.rsplit("/", 1)[1]
