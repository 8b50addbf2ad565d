"""The vocabulary of `telephony.webhook-audit.v1`: every request that claimed to come from a provider."""

from typing import ClassVar, Literal

from offhook.events.envelope import EventData


class WebhookAudited(EventData):
    """One webhook. Holds no token and no phone number in clear; `path` has no query string.

    `reason` of a refused request is one of the words of `offhook.providers.base.SignatureFault` or the gateway's own
    (`unknown-account`, `replayed`, …); of a verified one None, or the word why its call was not connected.
    `signed_url` is the form of the URL that verified, without query; `near_misses` name what would have verified instead
    (see `webhook_gateway.diagnosis`). `sealed_request` (refused requests only, bounded) is the whole request, sealed by
    the gateway's key ring with context `webhook`: it can be replayed, and read by nobody else.
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
    signed_url: str | None = None
    near_misses: tuple[str, ...] = ()
    sealed_request: str | None = None


class WebhookReplay(EventData):
    """A refused request that shall be tried again, as it was then (topic `telephony.webhook-replays.v1`)."""

    TYPE: ClassVar[str] = "webhook.replay.v1"
    audit_id: str
    sealed_request: str
    requested_by: str
