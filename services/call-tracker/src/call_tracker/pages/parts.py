"""What the pages are made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from call_tracker.actions import Actions
from call_tracker.holdings import Directories
from call_tracker.recording.serving import Recordings
from call_tracker.store import Outbox, Store
from call_tracker.store.store import Clock
from call_tracker.viewers import Viewers
from call_tracker.webhook_log import WebhookLog

TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class PageParts:
    """The domain, as the pages need it. `trace_url_template` has `{trace_id}` in it, `logs_url_template` that or
    `{workflow_run_id}`; None: traces, or logs, are not linked."""

    store: Store
    outbox: Outbox
    holdings: Directories
    actions: Actions
    clock: Clock
    recordings: Recordings
    webhooks: WebhookLog
    viewers: Viewers
    trace_url_template: str | None = None
    logs_url_template: str | None = None
