"""What every service's HTTP side does: health, metrics, problems, bounds."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel, SecretStr

from offhook.http import Problem, create_app
from offhook.tasks import EndlessTasks
from offhook.telemetry import metrics


@dataclass
class FakeHealth:
    ready: bool = True
    problems: list[str] = field(default_factory=list)


@dataclass
class FakeBus:
    state: FakeHealth = field(default_factory=FakeHealth)

    def health(self) -> FakeHealth:
        return self.state


class Account(BaseModel):
    name: str
    auth_token: SecretStr
    limits: dict[str, int] = {}


def app_of(**options: Any) -> FastAPI:
    app = create_app("number-sync", **options)

    @app.post("/accounts/{account_id}")
    async def create(account_id: int, account: Account) -> dict[str, str]:
        return {"name": account.name}

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @app.get("/problem")
    async def problem() -> None:
        raise Problem(409, "A call with this key exists.", code="idempotency-key-reused")

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("password=hunter2")

    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://x")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_of(max_body_bytes=1000)) as client:
        yield client


async def test_health_says_only_that_the_process_lives() -> None:
    app = app_of(bus=FakeBus(FakeHealth(ready=False, problems=["Kafka is away"])))
    async with client_of(app) as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_the_interface_is_described_without_a_page_that_loads_script_from_elsewhere() -> None:
    async with client_of(app_of()) as client:
        assert "/problem" in (await client.get("/openapi.json")).json()["paths"]
        for page in ("/docs", "/docs/oauth2-redirect", "/redoc"):
            assert (await client.get(page)).status_code == 404


async def test_a_process_whose_endless_task_has_ended_is_started_again() -> None:
    async def broken() -> None:
        raise KeyError("x")

    tasks = EndlessTasks()
    async with client_of(app_of(endless=tasks)) as client:
        assert (await client.get("/healthz")).json()["status"] == "ok"
        tasks.start(broken(), "pump")
        while not tasks.problems():
            await asyncio.sleep(0)
        sentence = "pump has stopped: restart the process"
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
        assert (alive.status_code, alive.json()["problems"]) == (503, [sentence])
        assert (ready.status_code, ready.json()["problems"]) == (503, [sentence])


async def test_readiness_lists_what_is_missing() -> None:
    bus = FakeBus()
    found: list[str] = []
    app = app_of(bus=bus, checks=[lambda: found])
    async with client_of(app) as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "problems": []})
        bus.state = FakeHealth(ready=False, problems=["directory telephony.numbers.v1 is catching up"])
        found.append("the store is away")
        app.state.readiness.draining = True
        not_ready = await client.get("/readyz")
        assert not_ready.status_code == 503
        assert not_ready.json()["problems"] == [
            "draining: the process is about to end",
            "directory telephony.numbers.v1 is catching up",
            "the store is away",
        ]


async def test_a_start_is_over_once_and_for_all() -> None:
    bus = FakeBus(FakeHealth(ready=False, problems=["directory telephony.numbers.v1 is still being read"]))
    app = app_of(bus=bus, checks=[lambda: ["no public URL is known"]])
    app.state.readiness.starting = True
    async with client_of(app) as client:
        before = await client.get("/startupz")
        assert before.status_code == 503
        assert "directory telephony.numbers.v1 is still being read" in before.json()["problems"]
        # A consumer that has stopped, and what only readiness asks for, are no reason to start the process again.
        app.state.readiness.starting = False
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/startupz")).json() == {"started": True, "problems": []}
        bus.state = FakeHealth(ready=False, problems=["telephony.call-events.v1 is blown"])
        app.state.readiness.draining = True
        assert (await client.get("/startupz")).status_code == 200


async def test_what_a_start_waits_for_is_told_before_anything_else_is_asked() -> None:
    app = app_of(bus=FakeBus(FakeHealth(ready=False)), checks=[lambda: 1 / 0])
    readiness = app.state.readiness
    readiness.starting = True
    assert readiness.problems() == ("the process is starting",)
    readiness.waiting_for = "the database does not answer"
    assert readiness.problems() == ("the database does not answer",)
    assert not readiness.has_started


async def test_a_bus_that_is_not_ready_without_saying_why_still_counts() -> None:
    async with client_of(app_of(bus=FakeBus(FakeHealth(ready=False)))) as client:
        assert (await client.get("/readyz")).json()["problems"] == ["the bus is not ready"]


async def test_requests_are_counted_by_route_template(client: httpx.AsyncClient) -> None:
    labels = ("POST", "/accounts/{account_id}", "422")
    before = metrics.HTTP_REQUESTS.labels(*labels)._value.get()
    await client.post("/accounts/1", json={})
    await client.post("/accounts/2", json={})
    text = (await client.get("/metrics")).text
    expected = 'offhook_http_requests_total{method="POST",route="/accounts/{account_id}",status="422"}'
    assert f"{expected} {before + 2}" in text
    assert "/accounts/1" not in text


async def test_metrics_are_those_of_the_service(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "offhook_commands_total" in answer.text
    assert "offhook_media_sessions" not in answer.text


async def test_a_validation_error_names_the_field_and_repeats_no_value(client: httpx.AsyncClient) -> None:
    body = {"name": 1, "auth_token": {"nested": "s3cr3t-value"}, "limits": {"calls": "many"}}
    answer = await client.post("/accounts/abc", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "s3cr3t-value" not in answer.text
    assert "abc" not in answer.text
    found = {".".join(map(str, error["location"])): error["message"] for error in answer.json()["errors"]}
    assert found["body.auth_token"] == "is not valid"
    assert found["body.name"] == "Input should be a valid string"
    assert "path.account_id" in found


async def test_bad_json_is_a_problem_that_does_not_repeat_it(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/accounts/1", content=b'{"auth_token": "s3cr3t-value', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert "s3cr3t-value" not in answer.text


async def test_a_problem_has_its_own_members(client: httpx.AsyncClient) -> None:
    assert (await client.get("/problem")).json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "A call with this key exists.",
        "code": "idempotency-key-reused",
    }


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/raw", 405)])
async def test_unknown_paths_and_methods_are_problems_too(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unforeseen_error_tells_a_stranger_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/broken")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_within_the_limit_passes(client: httpx.AsyncClient) -> None:
    assert (await client.post("/raw", content=b"x" * 1000)).json() == 1000


async def test_a_body_announced_as_too_long_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/raw", content=b"x" * 1001)
    assert answer.status_code == 413
    assert answer.json()["detail"] == "The body may have at most 1000 bytes."


async def test_a_body_that_turns_out_too_long_is_refused(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    for path in ("/raw", "/accounts/1"):
        answer = await client.post(path, content=chunks(), headers={"content-type": "application/json"})
        assert answer.status_code == 413


async def test_a_length_that_is_no_number_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/raw", content=b"", headers={"content-length": "-1"})).status_code == 413
