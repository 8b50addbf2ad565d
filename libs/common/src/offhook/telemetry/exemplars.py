"""Exemplars: what leads from the slow bucket of a histogram to the trace of a call that is in it.

A bucket keeps the last one, so they need memory for each bucket and not for each call; making one costs a hash.
They are given only where they lead somewhere: while traces are recorded, and for calls whose trace is kept.
"""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision

from offhook.telemetry.tracing import call_span_context


def of_call(workflow_run_id: str | None) -> dict[str, str] | None:
    """The exemplar of a call, for `observe(…, exemplar)`; None where there is no trace to be led to."""
    provider = trace.get_tracer_provider()
    if workflow_run_id is None or not isinstance(provider, TracerProvider):
        return None
    trace_id = call_span_context(workflow_run_id).trace_id
    if provider.sampler.should_sample(None, trace_id, "call").decision is not Decision.RECORD_AND_SAMPLE:
        return None
    return {"trace_id": f"{trace_id:032x}"}
