"""The webhook log and the dead letters, on the whole service over an in-memory bus and a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from events_of_calls import SESSION_KEY, Call
from fastapi import FastAPI
from pydantic import SecretStr

from call_tracker.app import build, utc_now
from call_tracker.dead_letters.letters import letter_of
from call_tracker.settings import TrackerSettings
from call_tracker.store import Database
from call_tracker.viewers import Viewer
from call_tracker.webhook_log import WebhookFilter, WebhookLog
from offhook.bus import BusUnavailable
from offhook.bus.dead_letters import DeadLetter
from offhook.bus.testing import MemoryBus, memory_bus
from offhook.events import Event, EventData, WebhookAudited, WebhookReplay, new_event
from offhook.records import ConfigurationRecord, PublicUrlRecord
from offhook.security.api_keys import setting_entry
from offhook.topics import (
    CALL_EVENTS,
    CONFIGURATIONS,
    DEAD_LETTERS,
    SETTINGS,
    WEBHOOK_AUDIT,
    WEBHOOK_REPLAYS,
)

HTML = {"accept": "text/html"}


class Service:
    def __init__(self, app: FastAPI, bus: MemoryBus) -> None:
        self.app, self.bus = app, bus
        self.mine, self.theirs, self.operator = (self.client(f"key-{name}") for name in "123")

    def client(self, key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://tracker",
            headers={"Authorization": f"Bearer {key}"},
        )

    async def audit(self, **fields: Any) -> str:
        """Tell of one request; returns its id."""
        event = audited(**fields)
        await self.bus.publish(WEBHOOK_AUDIT, event)
        await self.bus.settle()
        return event.id

    async def bury(
        self, value: bytes = b"{}", *, run: str = "run-1", offset: int = 7, reason: str = "it is broken"
    ) -> str:
        """Put one record of the topic of call events into the dead letters; returns the letter's id."""
        about = DeadLetter(
            CALL_EVENTS.name, 3, offset, 1_700_000_000_000, "call-tracker", "call-tracker", reason, utc_now()
        )
        headers = about.headers([("ce_type", b"offhook.call.status.v1"), ("odd", b"\xff\x00")])
        await self.bus.republish(DEAD_LETTERS, run.encode(), value, headers)
        await self.bus.settle()
        return letter_of(self.bus.records(DEAD_LETTERS)[-1]).id

    async def get(self, path: str, who: httpx.AsyncClient | None = None) -> Any:
        answer = await (who or self.mine).get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


def audited(at: datetime | None = None, **fields: Any) -> Event[EventData]:
    given: dict[str, Any] = {
        "provider": "twilio", "account": "AC1", "workflow_run_id": None, "provider_call_id": None,
        "method": "POST", "path": "/api/v1/telephony/status-callback/run-1", "kind": "status", "verified": False,
        "reason": "signature-mismatch", "status_code": 403, "elapsed_ms": 1.5,
    }  # fmt: skip
    data = WebhookAudited(**(given | fields))
    return new_event(data, source="/webhook-gateway", time=at or utc_now(), subject="AC1")


def configuration(name: str, user: str, account: str, **more: Any) -> ConfigurationRecord:
    return ConfigurationRecord(
        configuration_id=name, user_id=user, provider="twilio", name=f"Name of {name}", account=account,
        sealed_credentials="", **more,
    )  # fmt: skip


@asynccontextmanager
async def running(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    keys = ",".join(setting_entry(f"user-{one}", f"key-{one}") for one in "123")
    settings = TrackerSettings(
        database_url=SecretStr(database_url),
        api_keys=SecretStr(keys),
        session_key=SecretStr(SESSION_KEY),
        state_dir=tmp_path,
        batch_wait_s=0.001,
        redis_url="redis://127.0.0.1:1/0",
        operators="user-3, somebody",
    )
    async with memory_bus(service="call-tracker") as bus:
        for record in (
            configuration("c1", "user-1", "AC1", verification="verified"),
            configuration("c2", "user-2", "AC1"),
            configuration("c3", "user-1", "AC3"),
        ):
            name = record.configuration_id
            await bus.put(CONFIGURATIONS, name, new_event(record, source="/t", time=utc_now(), subject=name))
        url = PublicUrlRecord(url="https://wrong.example.com")
        event = new_event(url, source="/t", time=utc_now(), subject=PublicUrlRecord.KEY)
        await bus.put(SETTINGS, PublicUrlRecord.KEY, event)
        app = build(settings, bus)
        async with app.router.lifespan_context(app):
            yield Service(app, bus)


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with running(database_url, tmp_path) as service:
        yield service


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Service]:
    """On SQLite, for what looks the same on every database."""
    async with running(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}", tmp_path) as service:
        yield service


# --- webhooks


async def test_the_log_is_listed_newest_first_page_by_page_and_filtered(service: Service) -> None:
    now = utc_now()
    events = [
        audited(
            now - timedelta(seconds=n),
            verified=n % 2 == 0,
            reason=None if n % 2 == 0 else "replayed",
            elapsed_ms=float(n),
        )
        for n in range(5)
    ]
    await service.bus.publish_many(WEBHOOK_AUDIT, [*events, events[0]])
    await service.bus.settle()
    first = await service.get("/api/v1/webhooks?limit=3")
    rest = await service.get(f"/api/v1/webhooks?limit=3&cursor={first['next_cursor']}")
    listed = [one["elapsed_ms"] for one in first["webhooks"] + rest["webhooks"]]
    assert (listed, rest["next_cursor"]) == ([0, 1, 2, 3, 4], None)
    for query, expected in (
        ("verified=false", [1, 3]),
        ("reason=replayed&provider=twilio&account=AC1", [1, 3]),
        ("since=" + (now - timedelta(seconds=1.5)).isoformat().replace("+00:00", "Z"), [0, 1]),
        ("workflow_run_id=another", []),
    ):
        found = (await service.get(f"/api/v1/webhooks?{query}"))["webhooks"]
        assert [one["elapsed_ms"] for one in found] == expected, query


async def test_requests_are_seen_by_who_proved_to_hold_the_account_and_by_operators(service: Service) -> None:
    one = await service.audit()
    unproven = await service.audit(account="AC3")
    unknown = await service.audit(account="AC9")
    seen = {
        name: {entry["id"] for entry in (await service.get("/api/v1/webhooks", who))["webhooks"]}
        for name, who in (("mine", service.mine), ("theirs", service.theirs), ("operator", service.operator))
    }
    assert seen == {"mine": {one, unproven}, "theirs": set(), "operator": {one, unproven, unknown}}
    for path in ("/api/v1/webhooks/{}", "/webhooks/{}"):
        assert (await service.theirs.get(path.format(one))).status_code == 404
    assert (await service.theirs.post(f"/api/v1/webhooks/{one}/replay")).status_code == 404


async def test_a_refused_request_is_explained_in_words_to_act_on(quick: Service) -> None:
    entry = await quick.audit(
        near_misses=("other-url https://right.example.com/api/v1/telephony/status-callback/run-1",),
        tried_urls=("https://wrong.example.com/api/v1/telephony/status-callback/run-1",),
    )
    said = (await quick.get(f"/api/v1/webhooks/{entry}"))["explanation"]
    assert "OFFHOOK_PUBLIC_URL to https://right.example.com" in said["remedy"]
    page = (await quick.mine.get(f"/webhooks/{entry}", headers=HTML)).text
    assert "set OFFHOOK_PUBLIC_URL to https://right.example.com" in page
    assert "https://wrong.example.com/api/v1/telephony/status-callback/run-1" in page
    listed = (await quick.mine.get("/webhooks?verified=no&since=2026-01-01T00:00", headers=HTML)).text
    assert "The public URL is not the one the provider calls" in listed
    none = (await quick.mine.get("/webhooks?until=2020-01-01T00:00", headers=HTML)).text
    assert "No webhook fits this filter" in none


async def test_a_kept_request_is_handed_to_the_gateway_and_its_result_shown(service: Service) -> None:
    kept = await service.audit(sealed_request="v1.k1.sealed")
    not_kept = await service.audit()
    assert (await service.mine.post(f"/api/v1/webhooks/{kept}/replay")).status_code == 202
    refused = await service.mine.post(f"/api/v1/webhooks/{not_kept}/replay")
    assert (refused.status_code, refused.json()["reason"]) == (409, "not-kept")
    async with asyncio.timeout(10):
        while not service.bus.log(WEBHOOK_REPLAYS):
            await asyncio.sleep(0.01)
    (asked,) = service.bus.log(WEBHOOK_REPLAYS)
    assert asked.data == WebhookReplay(audit_id=kept, sealed_request="v1.k1.sealed", requested_by="user-1")
    detail = await service.get(f"/api/v1/webhooks/{kept}")
    assert (detail["replay_requested_by"], detail["replays"]) == ("user-1", [])
    assert "sealed" not in str(detail)
    await service.audit(replay_of=kept, requested_by="user-1", verified=True, reason=None, status_code=200)
    detail = await service.get(f"/api/v1/webhooks/{kept}")
    assert [one["explanation"]["title"] for one in detail["replays"]] == ["Verified now"]
    page = (await service.mine.get(f"/webhooks/{kept}", headers=HTML)).text
    assert "the record of the call follows" in page


async def test_a_call_that_could_not_be_understood_says_so_and_can_be_tried_again(quick: Service) -> None:
    real = {"kind": "call", "verified": True, "status_code": 200}
    kept = await quick.audit(**real, reason="malformed", sealed_request="v1.k1.sealed")
    page = (await quick.mine.get(f"/webhooks/{kept}", headers=HTML)).text
    assert "Verified, but not taken" in page
    assert "a caller heard an apology" in page
    assert "Replay…" in page
    served = await quick.audit(**real, reason=None)
    assert 'id="replay"' not in (await quick.mine.get(f"/webhooks/{served}", headers=HTML)).text


async def test_a_flood_of_refused_requests_pushes_out_no_verified_ones(database_url: str) -> None:
    database = Database(database_url)
    await database.migrate()
    log, now = WebhookLog(database, utc_now), utc_now()
    try:
        await log.add([audited(now - timedelta(seconds=n)) for n in range(50)])
        await log.add([audited(now - timedelta(minutes=1), verified=True, reason=None)])
        await log.add([audited(now - timedelta(days=8), verified=True, reason=None)])
        while await log.forget(timedelta(days=7), 10):
            pass
        everything = Viewer("o", True, frozenset())
        left, _ = await log.page(everything, WebhookFilter(), limit=100)
        assert [one.data.verified for one in left].count(True) == 1
        assert len(left) == 11
        assert min(one.at for one in left if not one.data.verified) == now - timedelta(seconds=9)
    finally:
        await database.close()


# --- dead letters


async def test_a_dead_letter_is_sent_again_as_it_was_once_and_never_twice(service: Service) -> None:
    await service.bus.publish_many(CALL_EVENTS, [Call().requested()])
    await service.bus.settle()
    letter = await service.bury(b"not json")
    before = len(service.bus.records(CALL_EVENTS))
    answer = await service.mine.post(f"/api/v1/dead-letters/{letter}/replay")
    assert answer.json() == {"id": letter, "topic": CALL_EVENTS.name}
    again = await service.mine.post(f"/api/v1/dead-letters/{letter}/replay")
    assert (again.status_code, again.json()["reason"]) == (409, "already-replayed")
    records = service.bus.records(CALL_EVENTS)
    assert len(records) == before + 1
    (sent,) = (record for record in records if record.value == b"not json")
    assert (sent.key, list(sent.headers)) == (
        b"run-1",
        [("ce_type", b"offhook.call.status.v1"), ("odd", b"\xff\x00"), ("replay_of", letter.encode())],
    )
    # It is still no event, so it comes back, and says whose replay it was.
    await service.bus.settle()
    detail = await service.get(f"/api/v1/dead-letters/{letter}")
    assert (detail["state"], detail["replayed_by"]) == ("replayed", "user-1")
    back = await service.get(f"/api/v1/dead-letters/{detail['came_back_as']}")
    assert (back["replay_of"], back["state"]) == (letter, "waiting")
    page = (await service.mine.get(f"/dead-letters/{letter}", headers=HTML)).text
    assert "could not be handled this time either" in page


async def test_letters_are_seen_by_the_user_of_their_call_and_by_operators(service: Service) -> None:
    await service.bus.publish_many(CALL_EVENTS, [Call().requested()])
    await service.bus.settle()
    mine = await service.bury(offset=1)
    foreign = await service.bury(b'{"account": "AC-of-somebody-else"}', offset=2)
    nobodys = await service.bury(run="run-9", offset=3)
    seen = [
        {one["id"] for one in (await service.get("/api/v1/dead-letters", who))["dead_letters"]}
        for who in (service.mine, service.theirs, service.operator)
    ]
    assert seen == [{mine}, set(), {mine, foreign, nobodys}]
    for who, letter in ((service.theirs, mine), (service.mine, foreign)):
        assert (await who.get(f"/api/v1/dead-letters/{letter}")).status_code == 404
        assert (await who.post(f"/api/v1/dead-letters/{letter}/replay")).status_code == 404


async def test_all_letters_of_a_reason_are_sent_again_in_their_order(service: Service) -> None:
    for offset in range(3):
        await service.bury(str(offset).encode(), offset=offset)
    await service.bury(b"other", offset=9, reason="another reason")
    body = {"reason": "it is broken", "topic": CALL_EVENTS.name}
    answer = await service.operator.post("/api/v1/dead-letters/replay", json=body)
    assert answer.json()["replayed"] == 3
    sent = [record.value for record in service.bus.records(CALL_EVENTS)]
    assert sent == [b"0", b"1", b"2"]


async def test_whatever_lies_in_the_topic_becomes_a_letter_and_nothing_is_buried_twice(
    service: Service,
) -> None:
    await service.bus.republish(DEAD_LETTERS, None, None, [])
    await service.bus.republish(
        DEAD_LETTERS, b"\xff" * 5000, b"\x00" * 300_000, [("dl_topic", b"x\x00y"), ("a", b"b")]
    )
    huge = [
        ("dl_topic", b"t\x00"),
        *((f"dl_{name}", b"9" * 30) for name in ("partition", "offset", "timestamp")),
    ]
    named = [
        ("dl_group", b"g"),
        ("dl_service", b"s"),
        ("dl_reason", b"\x00\xff"),
        ("dl_time", b"0001-01-01T00:00:00+23:00"),
    ]
    await service.bus.republish(DEAD_LETTERS, b"k", b"\xed\xa0\x80", [*huge, *named])
    await service.bus.settle()
    found = (await service.get("/api/v1/dead-letters", service.operator))["dead_letters"]
    assert len(found) == 3
    assert len(service.bus.records(DEAD_LETTERS)) == 3
    for letter in found:
        assert not letter["replayable"]
        assert (await service.operator.get(f"/dead-letters/{letter['id']}", headers=HTML)).status_code == 200
        answer = await service.operator.post(f"/api/v1/dead-letters/{letter['id']}/replay")
        assert answer.json()["reason"] == "not-replayable"


async def test_a_letter_that_kafka_does_not_take_waits_on(
    quick: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await quick.bury()

    async def refuse(*args: Any) -> None:
        raise BusUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(quick.bus, "republish", refuse)
        assert (await quick.operator.post(f"/api/v1/dead-letters/{letter}/replay")).status_code == 503
    assert (await quick.operator.post(f"/api/v1/dead-letters/{letter}/replay")).status_code == 200


async def test_a_letter_of_a_compacted_topic_is_never_sent_again(quick: Service) -> None:
    about = DeadLetter(CONFIGURATIONS.name, 0, 1, 1, "g", "s", "r", utc_now())
    await quick.bus.republish(DEAD_LETTERS, b"c1", b"{}", about.headers([]))
    await quick.bus.settle()
    (letter,) = (await quick.get("/api/v1/dead-letters", quick.operator))["dead_letters"]
    assert not letter["replayable"]


async def test_the_pages_list_what_waits_and_ask_before_they_send(quick: Service) -> None:
    letter = await quick.bury(b'{"sip_code": 486}', reason="<b>odd</b>")
    page = (await quick.operator.get("/dead-letters", headers=HTML)).text
    assert "&lt;b&gt;odd&lt;/b&gt;" in page
    assert "Replay all…" in page
    detail = (await quick.operator.get(f"/dead-letters/{letter}", headers=HTML)).text
    assert "&#34;sip_code&#34;: 486" in detail
    assert (
        "Replay this dead letter?"
        in (await quick.operator.get(f"/dead-letters/{letter}/replay", headers=HTML)).text
    )
    form = {"content-type": "application/x-www-form-urlencoded"}
    sent = await quick.operator.post(f"/dead-letters/{letter}/replay", headers=form)
    assert (sent.status_code, sent.headers["location"]) == (303, f"/dead-letters/{letter}")
    assert "Replayed" in (await quick.operator.get(f"/dead-letters/{letter}", headers=HTML)).text


async def test_nonsense_in_addresses_and_filters_is_refused_and_reaches_no_database(service: Service) -> None:
    for path, status in (
        ("/api/v1/webhooks/a%00b", 404), ("/api/v1/dead-letters/a%00b", 404), ("/webhooks/a%00b", 404),
        ("/api/v1/webhooks?reason=a%00b", 422), ("/api/v1/dead-letters?reason=a%00b", 422),
        ("/webhooks?reason=a%00b&verified=maybe&run=%20", 200), ("/dead-letters?state=x&topic=%00", 200),
        ("/api/v1/webhooks?cursor=nonsense", 422), ("/webhooks?after=nonsense", 422),
        ("/api/v1/webhooks?since=2026-01-01T00:00:00", 422),
    ):  # fmt: skip
        answer = await service.operator.get(path, headers=HTML)
        assert answer.status_code == status, (path, answer.text)
