"""A workflow's agent is tried for its owner, with what is stored of it."""

import asyncio
from typing import Any

import pytest
from running_number_sync import KEYRING, RunService, Service
from sqlalchemy import Row
from websockets.asyncio.server import ServerConnection, serve

from number_sync.database import Database
from number_sync.errors import BusyError
from number_sync.trials import Trials
from number_sync.workflows import Workflows
from offhook.security.keyring import Keyring, new_key

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def make(service: Service, url: str) -> str:
    body = {"name": "W", "agent_url": url, "headers": {"Authorization": "Bearer canary"}}
    made = await service.api.post("/workflows", json=body)
    assert made.status_code == 201, made.text
    return f"/workflows/{made.json()['workflow_id']}"


@on_sqlite
async def test_an_agent_is_called_with_its_headers_and_what_came_back_is_told(service: Service) -> None:
    seen: list[str | None] = []

    async def agent(socket: ServerConnection) -> None:
        assert socket.request is not None
        seen.append(socket.request.headers.get("Authorization"))
        await socket.close(1000)

    async with serve(agent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        path = await make(service, f"ws://127.0.0.1:{port}/")
        answer = await service.api.post(f"{path}/try")
        assert answer.status_code == 200, answer.text
        assert answer.json()["connected"] is True
        assert answer.json()["sentence"]
        assert "canary" not in answer.text
        assert (await service.as_user("bob").post(f"{path}/try")).status_code == 404
    assert seen == ["Bearer canary"]


@on_sqlite
async def test_an_agent_that_is_not_there_is_told_with_the_remedy(service: Service) -> None:
    answer = await service.api.post(f"{await make(service, 'ws://127.0.0.1:1/')}/try")
    assert answer.status_code == 200, answer.text
    assert answer.json()["connected"] is False
    assert answer.json()["remedy"]


@on_sqlite
async def test_an_agent_whose_headers_are_lost_is_not_called(run_service: RunService) -> None:
    async with run_service() as service:
        path = await make(service, "ws://127.0.0.1:1/")
    async with run_service(keyring=new_key("k2")) as service:
        answer = await service.api.post(f"{path}/try")
        assert answer.status_code == 409, answer.text
        assert "enter them again" in answer.json()["detail"]


async def create(workflows: Workflows, user_id: str, port: int) -> Row[Any]:
    return await workflows.create(
        user_id,
        {
            "name": "W",
            "agent_url": f"ws://127.0.0.1:{port}/",
            "agent_protocol": "pcm",
            "sample_rate": 16000,
            "headers": {},
            "record_audio": False,
            "fallback": {},
            "metadata": {},
        },
    )


@on_sqlite
async def test_only_so_many_agents_are_tried_at_a_time_and_half_of_them_for_one_user(
    database: Database,
) -> None:
    workflows = Workflows(database, Keyring.parse(KEYRING), clock=lambda: 1.0)
    called, leave = asyncio.Event(), asyncio.Event()

    async def agent(socket: ServerConnection) -> None:
        called.set()
        await leave.wait()

    async with serve(agent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        row, theirs = [await create(workflows, user, port) for user in ("ada", "bob")]
        trials = Trials(workflows, at_once=1)
        first = asyncio.create_task(trials.run("ada", row.id))
        await called.wait()
        with pytest.raises(BusyError):
            await trials.run("ada", row.id)
        leave.set()
        assert (await first).connected
        assert (await trials.run("ada", row.id)).connected
        leave.clear()
        called.clear()
        trials = Trials(workflows, at_once=2)
        first = asyncio.create_task(trials.run("ada", row.id))
        await called.wait()
        with pytest.raises(BusyError):
            await trials.run("ada", row.id)
        others = asyncio.create_task(trials.run("bob", theirs.id))
        await asyncio.sleep(0.1)
        leave.set()
        assert (await first).connected
        assert (await others).connected
