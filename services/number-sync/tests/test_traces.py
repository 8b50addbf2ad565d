"""An order is a span below the command that gave it, and each time the provider is asked one below that."""

from collections.abc import Iterator

import pytest
from counting_provider import Answer, CountingProvider, counting_provider
from dialling import Desk, make_worker, working
from opentelemetry.trace import SpanKind

from number_sync.database import Database
from offhook.telemetry import tracing
from offhook.telemetry.testing import recorded_spans

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


@on_sqlite
async def test_every_attempt_is_seen_with_the_status_of_its_answer(
    database: Database, provider: CountingProvider
) -> None:
    desk = await Desk(database).open()
    provider.to_hang_up = [Answer(500)]
    worker = make_worker(database, provider.url)
    with recorded_spans() as seen:
        async with working(worker):
            await worker.record_commands([desk.hang_up("run1", "CA1")])
            await desk.closed("run1")
        asked, orders = seen.named("hang-up"), seen.named("order hangup")
        root = tracing.call_span_context("run1")
        assert all(
            one.parent is not None and one.parent.trace_id == root.trace_id for one in (*asked, *orders)
        )
        assert [seen.parent_of(one) for one in asked] == orders
        assert {one.kind for one in asked} == {SpanKind.CLIENT}
        told = [dict(one.attributes or {}) for one in asked]
    assert [one["offhook.attempt"] for one in told] == [1, 2]
    assert told[0]["http.response.status_code"] == 500
    assert (asked[0].status.description, told[0]["error.type"]) == ("unavailable", "unavailable")
    assert told[1]["http.response.status_code"] == 200
    assert [(one.attributes or {})["offhook.outcome"] for one in orders] == ["again", "done"]


@on_sqlite
async def test_what_is_told_of_an_order_goes_on_below_it(
    database: Database, provider: CountingProvider
) -> None:
    desk = await Desk(database).open()
    worker = make_worker(database, provider.url)
    with recorded_spans() as seen:
        async with working(worker):
            await worker.record_commands([desk.originate("run1")])
            await desk.closed("run1")
        (order,) = seen.named("order originate")
        (told,) = await desk.told_events("run1")
        assert order.context is not None
        assert told.traceparent == tracing.format_traceparent(order.context)
