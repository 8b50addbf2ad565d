"""Exemplars: what leads from the slow bucket of a histogram to the trace of a call that is in it.

A bucket keeps the last one, so they need memory for each bucket and not for each call; making one costs a hash.
They are given only where they lead somewhere: while traces are recorded, and for calls whose trace is kept.
"""

from offhook.telemetry import tracing


def of_call(workflow_run_id: str | None) -> dict[str, str] | None:
    """The exemplar of a call, for `observe(…, exemplar)`; None where there is no trace to be led to."""
    if workflow_run_id is None or not tracing.keeps(workflow_run_id):
        return None
    return {"trace_id": tracing.call_trace_id(workflow_run_id)}
