"""An event of a call leaves a span where it is sent and one where it is handled, however long it is on its way."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from offhook.bus import PoisonError
from offhook.bus.errors import BusUnavailable, OutletError
from offhook.bus.outlet import Outlet
from offhook.bus.testing import MemoryBus, memory_bus
from offhook.events import Event, EventData, HangupRequested, Party, new_event
from offhook.telemetry import tracing
from offhook.telemetry.testing import recorded_spans
from offhook.topics import CALL_EVENTS, CALL_STATES, WEBHOOK_AUDIT

SEND = f"send {CALL_EVENTS.name}"
PROCESS = f"process {CALL_EVENTS.name}"


def event(run: str = "run-1", **more: Any) -> Event[HangupRequested]:
    data = HangupRequested(workflow_run_id=run, requested_by=Party.AGENT, reason="done")
    return new_event(data, source="/test", time=datetime.now(UTC), subject=run, **more)


class Handler:
    """Keeps what it is given; fails as often as it is told."""

    def __init__(self) -> None:
        self.given: list[Event[EventData]] = []
        self.failures = 0
        self.poison = ""

    async def __call__(self, events: Sequence[Event[EventData]]) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not now, says +14155551234")
        for one in events:
            if one.id == self.poison:
                raise PoisonError(one, "bad")
        self.given += events


async def handled(bus: MemoryBus, handler: Handler, *events: Event[EventData], **options: Any) -> None:
    bus.consume(CALL_EVENTS, group="test", handler=handler, first_retry_s=0.01, **options)
    for one in events:
        await bus.publish(CALL_EVENTS, one)
    await bus.start()
    await bus.settle()


async def test_what_is_handled_hangs_below_what_was_sent_below_what_caused_it() -> None:
    with recorded_spans() as spans:
        async with memory_bus(service="gateway") as bus:
            handler = Handler()
            with tracing.call_span("cause", "run-1"):
                told = event()
                await handled(bus, handler, told)
        (cause,), (sent,), (processed,) = spans.named("cause"), spans.named(SEND), spans.named(PROCESS)
        assert spans.parent_of(sent) is cause
        assert spans.parent_of(processed) is sent
        assert (sent.kind, processed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
        for span, operation in ((sent, "send"), (processed, "process")):
            assert span.attributes is not None
            assert span.attributes["messaging.system"] == "kafka"
            assert span.attributes["messaging.operation.type"] == operation
            assert span.attributes["messaging.destination.name"] == CALL_EVENTS.name
            assert span.attributes["messaging.kafka.message.key"] == "run-1"
            assert span.attributes["messaging.message.id"] == told.id
            assert span.attributes["offhook.event_type"] == told.type
        assert processed.attributes is not None
        assert processed.attributes["messaging.consumer.group.name"] == "test"
        # What follows from the event goes on below its handling.
        assert processed.context is not None
        assert handler.given[0].traceparent == tracing.format_traceparent(processed.context)


async def test_each_event_of_a_batch_is_handled_in_its_own_calls_trace() -> None:
    with recorded_spans() as spans:
        async with memory_bus() as bus:
            await handled(bus, Handler(), event("run-1"), event("run-2"), event("run-3"))
        processed = spans.named(PROCESS)
        assert {f"{one.context.trace_id:032x}" for one in processed if one.context} == {
            tracing.call_trace_id(run) for run in ("run-1", "run-2", "run-3")
        }
        assert all(spans.parent_of(one) in spans.named(SEND) for one in processed)


async def test_an_event_brings_its_own_place_in_the_trace_but_not_in_another_calls() -> None:
    with recorded_spans() as spans, tracing.call_span("mine", "run-1") as mine:
        traceparent = tracing.traceparent_of(mine)
        async with memory_bus() as bus:
            await handled(bus, Handler(), event(traceparent=traceparent))
            await bus.publish(CALL_EVENTS, event("run-2", traceparent=traceparent))
        own, other = spans.named(SEND)
        assert own.parent is not None
        assert own.parent.span_id == mine.get_span_context().span_id
        assert other.parent == tracing.call_span_context("run-2")


async def test_a_failure_is_seen_once_by_its_kind_and_not_by_its_words() -> None:
    with recorded_spans() as spans:
        async with memory_bus() as bus:
            handler = Handler()
            handler.failures = 3
            await handled(bus, handler, event())
        failed, done = spans.named(PROCESS)
        assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "RuntimeError")
        assert done.status.status_code is StatusCode.UNSET
        assert "4155551234" not in str([span.to_json() for span in spans.all()])


async def test_poison_is_an_error_of_the_event_that_it_is() -> None:
    with recorded_spans() as spans:
        async with memory_bus() as bus:
            handler, bad = Handler(), event("run-2")
            handler.poison = bad.id
            await handled(bus, handler, event("run-1"), bad)
        told = {one.attributes["messaging.message.id"]: one for one in spans.named(PROCESS) if one.attributes}
        assert told.pop(bad.id).status.description == "poison"
        assert [one.status.status_code for one in told.values()] == [StatusCode.UNSET]


async def test_only_events_of_calls_are_traced_and_only_by_consumers_that_want_it() -> None:
    with recorded_spans() as spans:
        async with memory_bus() as bus:
            await bus.publish(WEBHOOK_AUDIT, event())
            await bus.publish(CALL_STATES, event())
            assert spans.all() == []
            await handled(bus, Handler(), event(), traced=False)
        assert [span.name for span in spans.all()] == [SEND]


async def test_while_tracing_is_off_the_context_travels_and_nothing_is_made() -> None:
    with recorded_spans() as spans:
        pass
    async with memory_bus() as bus:
        handler = Handler()
        await handled(bus, handler, event())
    assert handler.given[0].traceparent == tracing.call_traceparent("run-1")
    assert spans.all() == []


async def test_the_spool_keeps_an_events_place_in_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded_spans() as spans:
        async with memory_bus() as bus:
            outlet = Outlet(bus, tmp_path, ack_timeout_s=0.05)
            await outlet.start()

            async def away(_: Any) -> Any:
                raise BusUnavailable("Kafka is away")

            with monkeypatch.context() as outage:
                outage.setattr(bus, "send", away)
                with tracing.call_span("cause", "run-1"):
                    assert await outlet.emit(CALL_EVENTS, event()) == "spool"
                await outlet.stop()
        # Another process, later.
        async with memory_bus() as bus:
            later = Outlet(bus, tmp_path)
            handler = Handler()
            bus.consume(CALL_EVENTS, group="test", handler=handler)
            await bus.start()
            await later.start()
            async with asyncio.timeout(60):
                while not handler.given:
                    await asyncio.sleep(0.01)
            await later.stop()
            await bus.settle()
        (cause,), (sent,), (processed,) = spans.named("cause"), spans.named(SEND), spans.named(PROCESS)
        assert spans.parent_of(sent) is cause
        assert spans.parent_of(processed) is sent
        assert sent.attributes is not None
        assert sent.attributes["offhook.destination"] == "spool"


async def test_an_event_that_is_nowhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded_spans() as spans:
        async with memory_bus() as bus:
            outlet = Outlet(bus, tmp_path, max_bytes=64, ack_timeout_s=0.05)
            await outlet.start()

            async def away(_: Any) -> Any:
                raise BusUnavailable("Kafka is away")

            monkeypatch.setattr(bus, "send", away)
            with pytest.raises(OutletError):
                await outlet.emit(CALL_EVENTS, event())
            await outlet.stop()
        (sent,) = spans.named(SEND)
        assert (sent.status.status_code, sent.status.description) == (StatusCode.ERROR, "OutletFull")
