"""The vocabulary of `telephony.webhook-audit.v1`: every request that claimed to come from a provider."""

from typing import ClassVar, Literal

from offhook.events.envelope import EventData


class WebhookAudited(EventData):
    """One webhook. Holds no body, no token and no phone number; `path` has no query string.

    `reason` of a refused request is one of the words of `offhook.providers.base.SignatureFault` or the gateway's own
    (`unknown-account`, `replayed`, …); of a verified one None, or the word why its call was not connected.
    """

    TYPE: ClassVar[str] = "webhook.audited.v1"
    provider: str
    account: str | None
    workflow_run_id: str | None
    provider_call_id: str | None
    method: str
    path: str
    kind: Literal["call", "status", "media", "fallback", "unknown"]
    verified: bool
    reason: str | None
    tried_urls: tuple[str, ...] = ()
    status_code: int
    elapsed_ms: float
    repeated: bool = False
    remote: str | None = None
