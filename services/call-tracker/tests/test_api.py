"""The calls API, on the whole service over an in-memory bus and a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from events_of_calls import SESSION_KEY, Call
from fastapi import FastAPI
from pydantic import SecretStr

from call_tracker import actions
from call_tracker.app import build, utc_now
from call_tracker.settings import TrackerSettings
from offhook.bus.testing import MemoryBus, memory_bus
from offhook.events import (
    CallRequested,
    Event,
    EventData,
    HangUp,
    HangupRequested,
    Observe,
    Originate,
    Party,
    Transfer,
    TransferRequested,
    WebhookAudited,
    new_event,
)
from offhook.identities import transfer_id
from offhook.records import CallState, ConfigurationRecord, DiallingRules, NumberRecord, WorkflowRecord
from offhook.security.api_keys import setting_entry
from offhook.topics import (
    CALL_COMMANDS,
    CALL_EVENTS,
    CALL_STATES,
    CONFIGURATIONS,
    DEAD_LETTERS,
    NUMBERS,
    WORKFLOWS,
    Topic,
)

A = "+14155550100"
ORDER = {"workflow_id": "workflow-1", "to": "+14155550199"}


class Service:
    def __init__(self, app: FastAPI, bus: MemoryBus) -> None:
        self.app, self.bus = app, bus
        self.mine = self._client("key-1")
        self.theirs = self._client("key-2")
        self.nobody = self._client("wrong")

    def _client(self, key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://tracker/api/v1",
            headers={"Authorization": f"Bearer {key}"},
        )

    async def tell(self, *events: Event[EventData]) -> None:
        """Publish events, and wait until they are stored and what follows is published."""
        await self.bus.publish_many(CALL_EVENTS, events)
        await self.bus.settle()

    async def told(self, topic: Topic, count: int) -> list[EventData]:
        """The first `count` events on a topic."""
        async with asyncio.timeout(60):
            while len(self.bus.log(topic)) < count:
                await asyncio.sleep(0.01)
        return [event.data for event in self.bus.log(topic)]


def record(data: EventData, key: str) -> Event[EventData]:
    return new_event(data, source="/number-sync", time=utc_now(), subject=key)


def configuration(**more: Any) -> Event[EventData]:
    held = {
        "configuration_id": "conf-1",
        "user_id": "user-1",
        "provider": "twilio",
        "name": "c",
        "account": "AC1",
        "sealed_credentials": "",
        "verification": "verified",
    }
    return record(ConfigurationRecord(**{**held, **more}), "conf-1")


async def furnish(bus: MemoryBus) -> None:
    number = NumberRecord(number_id="n1", configuration_id="conf-1", user_id="user-1", e164=A)
    workflow = WorkflowRecord(workflow_id="workflow-1", user_id="user-1", name="w", agent_url="ws://agent")
    await bus.put(CONFIGURATIONS, "conf-1", configuration())
    await bus.put(NUMBERS, "n1", record(number, "n1"))
    await bus.put(WORKFLOWS, "workflow-1", record(workflow, "workflow-1"))


@asynccontextmanager
async def serving(settings: TrackerSettings, bus: MemoryBus) -> AsyncIterator[Service]:
    app = build(settings, bus)
    async with app.router.lifespan_context(app):
        yield Service(app, bus)


def settings_for(
    database_url: str, tmp_path: Path, redis_url: str = "redis://127.0.0.1:1/0", **more: Any
) -> TrackerSettings:
    keys = ",".join(setting_entry(user, key) for user, key in (("user-1", "key-1"), ("user-2", "key-2")))
    return TrackerSettings(
        database_url=SecretStr(database_url),
        api_keys=SecretStr(keys),
        session_key=SecretStr(SESSION_KEY),
        state_dir=tmp_path,
        batch_wait_s=0.001,
        redis_url=redis_url,
        **more,
    )


@pytest.fixture
async def service(database_url: str, tmp_path: Path, redis_url: str) -> AsyncIterator[Service]:
    async with memory_bus(service="call-tracker") as bus:
        await furnish(bus)
        async with serving(settings_for(database_url, tmp_path, redis_url), bus) as service:
            yield service


async def call_of(service: Service, run: str) -> dict[str, Any]:
    answer = await service.mine.get(f"/calls/{run}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_call_is_accepted_recorded_and_ordered(service: Service) -> None:
    answer = await service.mine.post("/calls", json=ORDER | {"metadata": {"order": [1, "a"]}})
    assert answer.status_code == 202
    accepted = answer.json()
    run = accepted["workflow_run_id"]
    assert accepted["status"] == "initiated"
    assert answer.headers["location"] == f"/api/v1/calls/{run}"
    (command,) = await service.told(CALL_COMMANDS, 1)
    assert isinstance(command, Originate)
    assert (command.workflow_run_id, command.from_number, command.to_number) == (run, A, "+14155550199")
    assert command.metadata == {"order": [1, "a"]}
    (requested,) = await service.told(CALL_EVENTS, 1)
    assert isinstance(requested, CallRequested)
    assert requested.account == "AC1"
    (state,) = await service.told(CALL_STATES, 1)
    assert isinstance(state, CallState)
    await service.bus.settle()
    found = await call_of(service, run)
    assert (found["statuses"], found["metadata"]) == (["initiated"], {"order": [1, "a"]})
    assert [event["type"] for event in found["events"]] == ["offhook.call.requested.v1"]


async def test_a_call_is_followed_to_its_end(service: Service) -> None:
    await service.tell(*Call().twilio_outbound())
    found = await call_of(service, "run-1")
    assert found["statuses"] == ["initiated", "ringing", "answered", "completed"]
    assert (found["end_reason"], found["ended_by"]) == ("callee-hung-up", "callee")
    assert len(found["events"]) == len(Call().twilio_outbound())
    assert set(found["events"][0]) == {"id", "type", "source", "time", "data"}
    assert found["events"][0]["data"]["to_number"] == "+14155550199"
    told = {key: value for key, value in found.items() if not key.startswith("events")}
    async with asyncio.timeout(60):
        while (await service.told(CALL_STATES, 1))[-1].model_dump(mode="json") != told:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/calls", "/calls/run-1"])
async def test_without_a_key_nothing_is_shown(service: Service, path: str) -> None:
    answer = await service.nobody.get(path)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


async def test_somebody_elses_call_does_not_exist(service: Service) -> None:
    await service.tell(Call().received())
    assert (await service.theirs.get("/calls/run-1")).status_code == 404
    assert (await service.theirs.post("/calls/run-1/hangup")).status_code == 404
    assert (await service.theirs.get("/calls")).json() == {"calls": [], "next_cursor": None}
    assert (await service.theirs.post("/calls", json=ORDER)).json()["reason"] == "unknown-workflow"
    assert (await service.mine.get("/calls/no%00id")).status_code == 404


async def test_what_a_foreign_account_said_about_a_run_is_not_shown_to_its_user(service: Service) -> None:
    call, foreign = Call(), Call(account="AC666", call_id="CA666")
    await service.tell(call.received(), foreign.status("completed"), call.status("ringing"))
    found = await call_of(service, "run-1")
    assert found["status"] == "ringing"
    assert [event["data"].get("account") for event in found["events"]] == ["AC1", "AC1"]


async def test_the_same_key_and_body_are_the_same_call(service: Service) -> None:
    key = {"Idempotency-Key": "order-7"}
    first = await service.mine.post("/calls", json=ORDER, headers=key)
    again = await service.mine.post(
        "/calls", json={"to": ORDER["to"], "workflow_id": ORDER["workflow_id"]}, headers=key
    )
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    await service.told(CALL_COMMANDS, 1)
    other = await service.mine.post("/calls", json=ORDER | {"to": "+14155550198"}, headers=key)
    assert (other.status_code, other.json()["reason"]) == (422, "idempotency-key-reused")
    assert len((await service.mine.get("/calls")).json()["calls"]) == 1


async def test_a_repeated_request_has_its_answer_although_the_configuration_was_paused_since(
    service: Service,
) -> None:
    key = {"Idempotency-Key": "order-7"}
    first = await service.mine.post("/calls", json=ORDER, headers=key)
    await service.bus.put(CONFIGURATIONS, "conf-1", configuration(paused=True))
    await service.bus.settle()
    assert (await service.mine.post("/calls", json=ORDER, headers=key)).json() == first.json()
    fresh = await service.mine.post("/calls", json=ORDER)
    assert (fresh.status_code, fresh.json()["reason"]) == (409, "configuration-paused")


async def test_concurrent_requests_with_one_key_dial_once(service: Service) -> None:
    key = {"Idempotency-Key": "order-7"}
    answers = await asyncio.gather(*(service.mine.post("/calls", json=ORDER, headers=key) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["workflow_run_id"] for answer in answers}) == 1
    assert len(await service.told(CALL_COMMANDS, 1)) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"to": "12345"}, 422),
        ({"to": None}, 422),
        ({"workflow_id": "../etc"}, 422),
        ({"surprise": 1}, 422),
        ({"metadata": {"a": "x" * 5000}}, 422),
        ({"metadata": ["not", "an", "object"]}, 422),
        ({"from": "+14155559999"}, 422),
        ({"configuration_id": "nobody's"}, 422),
    ],
)
async def test_a_refused_call_says_why_and_leaves_nothing_behind(
    service: Service, change: dict[str, Any], status: int
) -> None:
    answer = await service.mine.post("/calls", json=ORDER | change, headers={"Idempotency-Key": "k"})
    assert answer.status_code == status
    problem = answer.json()
    assert problem["status"] == status
    assert problem.get("reason") or problem.get("errors")
    assert (await service.mine.get("/calls")).json()["calls"] == []
    assert (
        await service.mine.post("/calls", json=ORDER, headers={"Idempotency-Key": "k"})
    ).status_code == 202


async def test_calls_are_listed_in_pages_and_by_what_they_are(service: Service) -> None:
    calls = [Call(run=f"run-{number}", call_id=f"CA{number}") for number in range(5)]
    await service.tell(*(call.received(at=number) for number, call in enumerate(calls)))
    await service.tell(calls[0].status("completed", 60))
    for path in ("/calls", "/calls/run-0"):
        assert (await service.mine.get(path)).headers["cache-control"] == "no-store"
    first = (await service.mine.get("/calls?limit=3")).json()
    assert [call["workflow_run_id"] for call in first["calls"]] == ["run-4", "run-3", "run-2"]
    rest = (await service.mine.get("/calls", params={"cursor": first["next_cursor"]})).json()
    assert [call["workflow_run_id"] for call in rest["calls"]] == ["run-1", "run-0"]
    assert rest["next_cursor"] is None
    ended = (
        await service.mine.get("/calls?active=false&status=completed&provider=twilio&direction=inbound")
    ).json()
    assert [call["workflow_run_id"] for call in ended["calls"]] == ["run-0"]
    for nonsense in (
        "cursor=%F0%9F%98%80",
        "cursor=MTo=",
        "cursor=AAAA",
        "limit=0",
        "limit=9999",
        "status=wrong",
    ):
        assert (await service.mine.get(f"/calls?{nonsense}")).status_code == 422, nonsense


async def test_a_hang_up_becomes_a_command_and_names_the_operator_as_the_cause(service: Service) -> None:
    call = Call()
    await service.tell(call.received())
    answer = await service.mine.post("/calls/run-1/hangup")
    assert (answer.status_code, answer.json()) == (202, {"workflow_run_id": "run-1", "status": "initiated"})
    (command,) = await service.told(CALL_COMMANDS, 1)
    assert isinstance(command, HangUp)
    assert (command.provider_call_id, command.configuration_id, command.requested_by) == (
        "CA1",
        "conf-1",
        Party.OPERATOR,
    )
    events = await service.told(CALL_EVENTS, 2)
    assert isinstance(events[-1], HangupRequested)
    # The provider's clock is today's; the made-up call's is not.
    await service.tell(
        new_event(call.status("completed").data, source="/test", time=utc_now(), subject="run-1")
    )
    assert (await call_of(service, "run-1"))["end_reason"] == "operator-hung-up"
    late = await service.mine.post("/calls/run-1/hangup")
    assert (late.status_code, late.json()["reason"]) == (409, "call-ended")


async def test_a_call_says_how_long_it_may_ring_and_last_and_whether_machines_are_told_apart(
    service: Service,
) -> None:
    wishes = {"ring_timeout_s": 20, "time_limit_s": 600, "machine_detection": "detect-message-end"}
    assert (await service.mine.post("/calls", json=ORDER | wishes)).status_code == 202
    (command,) = await service.told(CALL_COMMANDS, 1)
    (requested,) = await service.told(CALL_EVENTS, 1)
    assert isinstance(command, Originate)
    assert isinstance(requested, CallRequested)
    for told in (command, requested):
        assert (told.ring_timeout_s, told.time_limit_s, told.machine_detection) == (
            20,
            600,
            "detect-message-end",
        )


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"verification": "refused"}, 409, "configuration-unverified"),
        ({"dialling_rules": DiallingRules(countries=("GB",))}, 409, "country-not-allowed"),
        ({"dialling_rules": DiallingRules(denied_prefixes=("+1415",))}, 409, "number-not-allowed"),
        ({"max_concurrent_calls": 0}, 429, "limit-reached"),
    ],
)
async def test_a_configuration_that_does_not_allow_the_call_is_a_reason(
    service: Service, change: dict[str, Any], status: int, reason: str
) -> None:
    await service.bus.put(CONFIGURATIONS, "conf-1", configuration(**change))
    await service.bus.settle()
    answer = await service.mine.post("/calls", json=ORDER)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert service.bus.log(CALL_COMMANDS) == []


async def test_a_limit_of_calls_at_a_time_is_free_again_when_one_has_ended(
    database_url: str, tmp_path: Path, redis_url: str
) -> None:
    settings = settings_for(database_url, tmp_path, redis_url, user_max_concurrent_calls=1)
    async with memory_bus(service="call-tracker") as bus:
        await furnish(bus)
        async with serving(settings, bus) as service:
            key = {"Idempotency-Key": "k"}
            twins = await asyncio.gather(
                *(service.mine.post("/calls", json=ORDER, headers=key) for _ in range(4))
            )
            assert {answer.status_code for answer in twins} == {202}
            run = twins[0].json()["workflow_run_id"]
            full = await service.mine.post("/calls", json=ORDER, headers={"Idempotency-Key": "other"})
            assert (full.status_code, full.json()["reason"]) == (429, "limit-reached")
            assert int(full.headers["retry-after"]) >= 1
            assert "1 calls at a time" in full.json()["detail"]
            await service.tell(Call(run=run).dial_failed())
            free = await service.mine.post("/calls", json=ORDER, headers={"Idempotency-Key": "other"})
            assert free.status_code == 202


async def test_a_transfer_is_told_and_ordered_once_the_call_is_answered(service: Service) -> None:
    call = Call()
    target = {"to": "+14155550123", "mode": "cold"}
    await service.tell(call.received())
    early = await service.mine.post("/calls/run-1/transfer", json=target)
    assert (early.status_code, early.json()["reason"]) == (409, "not-answered")
    await service.tell(call.status("answered"))
    assert (await service.theirs.post("/calls/run-1/transfer", json=target)).status_code == 404
    wrong = await service.mine.post("/calls/run-1/transfer", json={"to": "123"})
    assert (wrong.status_code, wrong.json()["reason"]) == (422, "not-e164")
    answer = await service.mine.post("/calls/run-1/transfer", json=target)
    assert (answer.status_code, answer.json()) == (202, {"workflow_run_id": "run-1", "status": "answered"})
    (command,) = await service.told(CALL_COMMANDS, 1)
    assert isinstance(command, Transfer)
    assert (command.to_number, command.mode, command.requested_by, command.provider_call_id) == (
        "+14155550123", "cold", Party.OPERATOR, "CA1",
    )  # fmt: skip
    wish = (await service.told(CALL_EVENTS, 3))[-1]
    assert isinstance(wish, TransferRequested)
    assert wish.transfer_id == transfer_id(service.bus.log(CALL_COMMANDS)[0].id)


async def test_a_call_can_be_looked_up_at_the_provider_also_after_its_end(service: Service) -> None:
    await service.tell(*Call().twilio_outbound())
    assert (await service.theirs.post("/calls/run-1/observe")).status_code == 404
    assert (await service.mine.post("/calls/run-1/observe")).status_code == 202
    (command,) = await service.told(CALL_COMMANDS, 1)
    assert isinstance(command, Observe)
    assert (command.provider_call_id, command.to_number, command.reason) == (
        "CA1",
        "+14155550199",
        "operator",
    )


async def test_what_cannot_be_stored_goes_to_the_dead_letters_and_the_rest_of_its_batch_is_stored(
    service: Service,
) -> None:
    audit = WebhookAudited(
        provider="twilio", account=None, workflow_run_id=None, provider_call_id=None, method="GET", path="/",
        kind="unknown", verified=False, reason=None, status_code=403, elapsed_ms=1.0,
    )  # fmt: skip
    stray = new_event(audit, source="/test", time=utc_now(), subject="run-1")
    await service.tell(Call().received(), stray, Call().event(Call().received().data, event_id="a\x00b"))
    assert (await call_of(service, "run-1"))["status"] == "initiated"
    assert len(service.bus.records(DEAD_LETTERS)) == 2


async def test_what_was_not_published_before_the_end_of_a_process_is_published_by_the_next(
    database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(database_url, tmp_path)
    async with memory_bus(service="call-tracker") as bus:
        await furnish(bus)
        async with serving(settings, bus) as service:
            accepted = (await service.mine.post("/calls", json=ORDER)).json()
    cluster = bus.cluster
    async with memory_bus(service="call-tracker", cluster=cluster) as bus, serving(settings, bus) as service:
        (command,) = await service.told(CALL_COMMANDS, 1)
        assert isinstance(command, Originate)
        assert command.workflow_run_id == accepted["workflow_run_id"]


async def test_health_readiness_and_metrics_are_served(service: Service) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(service.app), base_url="http://tracker"
    ) as plain:
        assert (await plain.get("/healthz")).status_code == 200
        assert (await plain.get("/readyz")).json() == {"ready": True, "problems": []}
        assert "offhook_calls_active" in (await plain.get("/metrics")).text


async def test_a_workflow_that_was_made_a_moment_ago_can_be_called(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "PATIENCE_S", 60.0)
    asked = asyncio.create_task(service.mine.post("/calls", json=ORDER | {"workflow_id": "workflow-2"}))
    await asyncio.sleep(0.2)
    workflow = WorkflowRecord(workflow_id="workflow-2", user_id="user-1", name="w", agent_url="ws://agent")
    await service.bus.put(WORKFLOWS, "workflow-2", record(workflow, "workflow-2"))
    assert (await asked).status_code == 202
