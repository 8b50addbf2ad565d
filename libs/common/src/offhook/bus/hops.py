"""What is seen of an event on its way through Kafka: a span for the sending, a span for the handling, in its call's trace.

    whoever tells ─ `send <topic>` ── (record, spool) ── `process <topic>` ─ what follows from it

The record carries the sending span as its `traceparent`, through the spool and through restarts, so the handling hangs
below it wherever and whenever it happens. Only events of calls are traced; those of a batch each have a span of their own,
since each is another call's. While tracing is off nothing here costs more than a look.

Attributes are OpenTelemetry's: https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
"""

from collections.abc import Container, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Final

from opentelemetry.trace import Span, SpanKind

from offhook.events import Event, EventData
from offhook.telemetry import spans, tracing
from offhook.topics import CALL_COMMANDS, CALL_EVENTS, CALL_NOTICES, Topic

TRACED: Final = frozenset({CALL_EVENTS.name, CALL_COMMANDS.name, CALL_NOTICES.name})
"""Topics whose events are traced: what happens to calls and what is asked of them, not what is derived from that."""


def begin_sending(
    topic: Topic, event: Event[EventData], *, client: str
) -> tuple[Event[EventData], Span | None]:
    """The event as it shall travel, and its span (None: it is not traced), which you must hand to `end_sending`."""
    if not tracing.enabled() or topic.name not in TRACED or not event.subject:
        return event, None
    span = tracing.begin_call_span(
        f"{spans.SEND} {topic.name}",
        event.subject,
        kind=SpanKind.PRODUCER,
        attributes={**_message("send", topic, event), "messaging.client.id": client},
        traceparent=event.traceparent,
    )
    return replace(event, traceparent=tracing.traceparent_of(span)), span


def end_sending(
    span: Span | None, *, destination: str | None = None, error: BaseException | None = None
) -> None:
    """The event is durable at `destination`, or nowhere because of `error`."""
    if span is None:
        return
    if destination is not None:
        span.set_attribute("offhook.destination", destination)
    if error is not None:
        tracing.failed(span, type(error).__name__)
    span.end()


def begin_handling(
    topic: Topic, group: str, records: Sequence[Any], events: MutableMapping[int, Event[EventData]]
) -> Mapping[int, Span]:
    """A span for each event of a batch, which you must hand to `end_handling`. `events` are by their place in `records`;
    they are exchanged for ones below which everything that follows from them hangs.
    """
    if not tracing.enabled() or topic.name not in TRACED:
        return {}
    begun: dict[int, Span] = {}
    for index, event in events.items():
        if not event.subject:
            continue
        record = records[index]
        begun[index] = tracing.begin_call_span(
            f"{spans.PROCESS} {topic.name}",
            event.subject,
            kind=SpanKind.CONSUMER,
            attributes={
                **_message("process", topic, event),
                "messaging.consumer.group.name": group,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
                "offhook.batch_size": len(records),
            },
            traceparent=event.traceparent,
        )
    for index, span in begun.items():
        events[index] = replace(events[index], traceparent=tracing.traceparent_of(span))
    return begun


def end_handling(
    begun: Mapping[int, Span], *, poison: Container[int] = (), error: BaseException | None = None
) -> None:
    """The batch is done, but for what is `poison`; or it failed as a whole with `error`."""
    for index, span in begun.items():
        if error is not None:
            tracing.failed(span, type(error).__name__)
        elif index in poison:
            tracing.failed(span, "poison")
        span.end()


def heard(topic: Topic, event: Event[EventData]) -> Span:
    """A span for an event that a listener heard and has a use for; you must `end` it."""
    return tracing.begin_call_span(
        f"{spans.PROCESS} {topic.name}",
        event.subject,
        kind=SpanKind.CONSUMER,
        attributes=_message("process", topic, event),
        traceparent=event.traceparent,
    )


def _message(operation: str, topic: Topic, event: Event[EventData]) -> dict[str, str]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic.name,
        "messaging.message.id": event.id,
        "messaging.kafka.message.key": event.subject,
        "offhook.event_type": event.type,
    }
