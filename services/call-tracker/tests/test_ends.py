"""What is told of an end: at once in the log, and as the root of the call's trace when no more is to be expected."""

import asyncio
from typing import Any

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from call_tracker.ends import Ends
from offhook.events import CallStatus, Party
from offhook.records import CallState
from offhook.telemetry import tracing
from offhook.telemetry.testing import RecordedSpans, recorded_spans


def record(**more: Any) -> CallState:
    known: dict[str, Any] = {
        "workflow_run_id": "run-1",
        "workflow_id": "w",
        "user_id": "anna",
        "configuration_id": "c",
        "provider": "twilio",
        "provider_call_id": "CA1",
        "direction": "inbound",
        "from_number": "+14155550100",
        "to_number": "+14155550101",
        "status": CallStatus.COMPLETED,
        "statuses": (CallStatus.COMPLETED,),
        "end_reason": "platform-hung-up",
        "ended_by": Party.PLATFORM,
        "requested_at": "2026-01-01T00:00:00.000+00:00",
        "ended_at": "2026-01-01T00:00:10.500+00:00",
    }
    return CallState(**{**known, **more})


def ends(settle_s: float = 0.01, url: str | None = "https://voice.example") -> Ends:
    return Ends(tracing._configured, lambda: url, settle_s=settle_s)


async def root(spans: RecordedSpans) -> ReadableSpan:
    async with asyncio.timeout(5):
        while not (found := spans.named("call")):
            await asyncio.sleep(0.005)
    (only,) = found
    return only


async def test_the_root_span_is_the_whole_call_and_says_where_its_page_is() -> None:
    with recorded_spans() as spans:
        ends().ended(record())
        span = await root(spans)
    assert span.context is not None
    assert span.context.span_id == tracing.call_span_context("run-1").span_id
    assert span.parent is None
    assert (span.start_time, span.end_time) == (1767225600_000_000_000, 1767225610_500_000_000)
    told = dict(span.attributes or {})
    assert told["offhook.call_url"] == "https://voice.example/calls/run-1"
    assert (told["offhook.end_reason"], told["offhook.fault"]) == ("platform-hung-up", "platform")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "platform-hung-up")
    assert "5550100" not in span.to_json()


async def test_a_call_that_we_could_not_take_is_our_fault_and_one_that_its_user_has_paused_is_not() -> None:
    for word, fault in (("no-public-url", "platform"), ("configuration-paused", "account")):
        with recorded_spans() as spans:
            ends().ended(record(end_reason="refused", end_detail=word))
            told = dict((await root(spans)).attributes or {})
        assert told["offhook.fault"] == fault


async def test_what_comes_a_moment_later_is_in_it() -> None:
    with recorded_spans() as spans, structlog.testing.capture_logs() as lines:
        told = ends(settle_s=0.2)
        told.ended(record())
        told.changed(record(talk_ms=5000))
        told.changed(record(end_reason="transferred", ended_by=Party.CALLER, talk_ms=5000))
        span = await root(spans)
        # Later still is too late, and does not make a second root.
        told.changed(record(end_reason="caller-hung-up"))
        told.flush()
    assert len(spans.named("call")) == 1
    assert (span.attributes or {})["offhook.end_reason"] == "transferred"
    assert span.status.status_code is StatusCode.UNSET
    assert [(line["event"], line["end_reason"]) for line in lines] == [
        ("call ended", "platform-hung-up"),
        ("call end corrected", "transferred"),
    ]
    assert {(line["workflow_run_id"], line["user_id"], line["call_url"]) for line in lines} == {
        ("run-1", "anna", "https://voice.example/calls/run-1")
    }


async def test_a_process_that_ends_tells_what_it_knows() -> None:
    with recorded_spans() as spans:
        told = ends(settle_s=60)
        told.ended(record())
        told.flush()
        told.flush()
        assert len(spans.named("call")) == 1


async def test_an_end_that_is_learned_twice_is_the_same_span() -> None:
    with recorded_spans() as spans:
        for _ in range(2):
            told = ends(settle_s=60)
            told.ended(record(reconciled=True))
            told.flush()
        first, second = spans.named("call")
        assert first.context == second.context


async def test_a_clock_that_is_behind_makes_no_span_that_ends_before_it_begins() -> None:
    with recorded_spans() as spans:
        ends().ended(record(ended_at="2025-12-31T23:59:59+00:00"))
        span = await root(spans)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time


async def test_without_a_known_address_there_is_no_link() -> None:
    with recorded_spans() as spans:
        ends(url=None).ended(record())
        span = await root(spans)
    assert "offhook.call_url" not in (span.attributes or {})
