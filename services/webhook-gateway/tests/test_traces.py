"""What a request leaves in the trace of a call: only what was proven, and only of the call that it is about."""

import pytest
from opentelemetry.trace import SpanKind

from offhook.telemetry import spans, tracing
from offhook.telemetry.testing import recorded_spans
from offhook.topics import CALL_EVENTS


async def test_instructions_last_from_the_request_until_they_are_durable_and_link_it(rig):
    with recorded_spans() as seen:
        rig.twilio_connect(await rig.twilio())
    (span,) = seen.named(spans.INSTRUCTIONS)
    (request,) = [one for one in seen.all() if one.kind is SpanKind.SERVER]
    assert span.parent == tracing.call_span_context(rig.twilio_run)
    assert [link.context for link in span.links] == [request.context]
    assert request.start_time <= span.start_time
    assert dict(span.attributes) == {
        "offhook.workflow_run_id": rig.twilio_run,
        "offhook.provider": "twilio",
        "offhook.verified": True,
        "offhook.repeated": False,
        "offhook.instructions": "connect",
        "offhook.reason": "",
        "offhook.attempt": 1,
        "offhook.transfer": "",
    }
    sent = seen.named(f"{spans.SEND} {CALL_EVENTS.name}")
    assert len(sent) == 3
    assert all(seen.parent_of(one) is span and one.end_time <= span.end_time for one in sent)


async def test_a_callback_is_a_span_with_the_providers_word(rig):
    with recorded_spans() as seen:
        await rig.twilio(rig.status("run-1"), CallStatus="ringing")
    (span,) = seen.named(spans.STATUS)
    assert span.parent == tracing.call_span_context("run-1")
    assert span.attributes["offhook.status"] == "ringing"
    assert len(span.links) == 1


@pytest.mark.parametrize("how", [{"signature": "AAAA"}, {"AccountSid": "AC" + "f" * 32}])
async def test_what_was_not_proven_is_in_no_calls_trace(rig, how):
    with recorded_spans() as seen:
        await rig.twilio(rig.webhook("run-1"), **how)
        await rig.twilio(rig.status("run-1"), **how)
    assert {one.kind for one in seen.all()} == {SpanKind.SERVER}
    for request in seen.all():
        assert request.context.trace_id != tracing.call_span_context("run-1").trace_id
        assert request.attributes["offhook.verified"] is False
        assert request.attributes["offhook.reason"] in ("signature-mismatch", "unknown-account")
        assert "?" not in request.name


async def test_a_call_of_somebody_else_gets_no_span_from_a_stranger(rig):
    with recorded_spans() as seen:
        await rig.twilio(
            rig.webhook("run-1", "w1", "u1"),
            Direction="outbound-api",
            AccountSid=rig.other_sid,
            token=rig.other_token,
        )
        await rig.twilio(rig.webhook("run-of-somebody-else"), Direction="inbound")
    assert {one.kind for one in seen.all()} == {SpanKind.SERVER}


async def test_a_sender_does_not_choose_the_trace(rig):
    mine = tracing.call_traceparent(rig.twilio_run)
    with recorded_spans() as seen:
        await rig.twilio(headers={"traceparent": mine})
    (request,) = [one for one in seen.all() if one.kind is SpanKind.SERVER]
    assert request.parent is None
    assert request.context.trace_id != tracing.call_span_context(rig.twilio_run).trace_id


async def test_no_number_is_in_any_span(rig):
    with recorded_spans() as seen:
        await rig.twilio(method="GET")
        await rig.twilio(rig.status("run-1"))
    told = "".join(one.to_json() for one in seen.all())
    for number in (rig.caller, rig.number):
        assert number.lstrip("+") not in told
