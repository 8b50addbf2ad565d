"""What is told of calls that have ended: a log line at once, and the root span of the call's trace when it has settled.

The first that is known of an end is often not the whole of it: the provider says `completed`, and who ended the call, or
that it was put through, comes with another event a moment later. A span cannot be changed once it is exported, so the
root span waits for that moment.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from call_tracker.causes import fault_of
from offhook.records import CallState
from offhook.telemetry.tracing import Tracing

SETTLE_S: Final = 3.0

log = structlog.get_logger(__name__)


class Ends:
    """Calls that ended a moment ago. `public_url` is where the installation is reached, if anybody knows."""

    def __init__(
        self, tracing: Tracing, public_url: Callable[[], str | None], *, settle_s: float = SETTLE_S
    ) -> None:
        self._tracing = tracing
        self._public_url = public_url
        self._settle_s = settle_s
        self._settling: dict[str, CallState] = {}

    def ended(self, record: CallState) -> None:
        """A call has ended, by what is known now."""
        self._log("call ended", record)
        self._settling[record.workflow_run_id] = record
        asyncio.get_running_loop().call_later(self._settle_s, self._settled, record.workflow_run_id)

    def changed(self, record: CallState) -> None:
        """More is known of a call; perhaps it is one that has just ended."""
        before = self._settling.get(record.workflow_run_id)
        if before is None:
            return
        self._settling[record.workflow_run_id] = record
        if (before.end_reason, before.ended_by) != (record.end_reason, record.ended_by):
            self._log("call end corrected", record)

    def flush(self) -> None:
        """The process ends: tell the rest as it is."""
        for run in list(self._settling):
            self._settled(run)

    def _settled(self, run: str) -> None:
        record = self._settling.pop(run, None)
        if record is None or record.ended_at is None:
            return
        reason = record.end_reason or "unknown"
        fault = fault_of(reason, record.ended_by, record.end_detail)
        known = {
            "offhook.user_id": record.user_id,
            "offhook.workflow_id": record.workflow_id,
            "offhook.provider": record.provider,
            "offhook.provider_call_id": record.provider_call_id,
            "offhook.direction": record.direction,
            "offhook.status": record.status.value,
            "offhook.end_reason": record.end_reason,
            "offhook.ended_by": record.ended_by.value if record.ended_by else None,
            "offhook.fault": fault,
            "offhook.talk_ms": record.talk_ms,
            "offhook.reconciled": record.reconciled,
            "offhook.call_url": self._call_url(run),
        }
        ended_ns = _nanoseconds(record.ended_at)
        self._tracing.emit_call_span(
            run,
            began_ns=_nanoseconds(record.requested_at) if record.requested_at else ended_ns,
            ended_ns=ended_ns,
            attributes={name: value for name, value in known.items() if value is not None},
            error=None if fault == "none" else reason,
        )

    def _log(self, event: str, record: CallState) -> None:
        log.info(
            event,
            workflow_run_id=record.workflow_run_id,
            user_id=record.user_id,
            status=record.status.value,
            end_reason=record.end_reason,
            ended_by=record.ended_by.value if record.ended_by else None,
            talk_ms=record.talk_ms,
            call_url=self._call_url(record.workflow_run_id),
        )

    def _call_url(self, run: str) -> str | None:
        """The page of the call."""
        base = self._public_url()
        return None if base is None else f"{base}/calls/{run}"


def _nanoseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1_000_000) * 1000
