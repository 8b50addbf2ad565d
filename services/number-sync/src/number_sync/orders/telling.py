"""What is told of a call: through the outbox, in the transaction that made it true."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import outbox
from number_sync.publishing import SOURCE
from offhook.events import Event, EventData, new_event
from offhook.events.calls import CallEventData
from offhook.identities import derived_id
from offhook.telemetry.tracing import current_in_call
from offhook.topics import CALL_EVENTS, CALL_NOTICES, Topic


async def tell(
    connection: AsyncConnection,
    data: CallEventData,
    identity: tuple[str, ...] | str,
    *,
    traceparent: str | None,
    now: int,
) -> None:
    """`identity` is the event's id, or what gives it one: what is told again under it is the same event. `now` in ms
    since 1970."""
    await _append(connection, CALL_EVENTS, data, identity, traceparent, now)


async def notify(
    connection: AsyncConnection,
    data: CallEventData,
    identity: tuple[str, ...],
    *,
    traceparent: str | None,
    now: int,
) -> None:
    """Have the agent of a call told, if a bridge has the call."""
    await _append(connection, CALL_NOTICES, data, identity, traceparent, now)


async def _append(
    connection: AsyncConnection,
    topic: Topic,
    data: CallEventData,
    identity: tuple[str, ...] | str,
    traceparent: str | None,
    now: int,
) -> None:
    event: Event[EventData] = new_event(
        data,
        source=SOURCE,
        time=datetime.fromtimestamp(now / 1000, UTC),
        subject=data.workflow_run_id,
        event_id=identity if isinstance(identity, str) else derived_id("number-sync", *identity),
        traceparent=current_in_call(data.workflow_run_id) or traceparent,
    )
    await outbox.append(connection, topic, data.workflow_run_id, event)
