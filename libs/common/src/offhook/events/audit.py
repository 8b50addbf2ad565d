"""The vocabulary of `telephony.webhook-audit.v1`: every request that claimed to come from a provider."""

from enum import StrEnum
from typing import ClassVar, Literal

from offhook.events.envelope import EventData


class NearMiss(StrEnum):
    """What would have made a refused request a real one. In `near_misses` each stands first, and after a space, where
    there is one, what it is about: a URL without query, seconds, the id of a configuration."""

    OTHER_URL = (
        "other-url"  # a form of the URL whose signature fits: its host, scheme, port or path is another one
    )
    FORMER_URL = "former-url"  # the same, and it was the public URL once
    FORWARDED_URL = "forwarded-url"  # the same, and a proxy's header (or Host) names it
    QUERY_DROPPED = "query-dropped"  # the signature fits the URL without its query
    QUERY_ENCODING = "query-encoding"  # it fits the query with other percent-encoding
    SLASH = "trailing-slash"  # it fits the path with, or without, a slash at its end
    OTHER_CREDENTIALS = "other-credentials"  # it fits another configuration's secret (its id follows)
    BODY_CHANGED = (
        "body-changed"  # it fits the body as it was before somebody changed line ends, spaces or charset
    )
    CLOCK = "clock"  # it fits when our clock is moved by so many seconds
    NOT_LOOKED = "not-looked"  # too many refused requests at once: nobody looked


def near_miss(kind: NearMiss, about: str | int | None = None) -> str:
    """As it stands in `near_misses`."""
    return kind.value if about is None else f"{kind.value} {about}"


def read_near_miss(text: str) -> tuple[str, str]:
    """The word, and what it is about ('' if nothing). Words of a newer gateway may be unknown here."""
    word, _, about = text.partition(" ")
    return word, about


class WebhookAudited(EventData):
    """One webhook. Holds no token and no phone number in clear; `path` has no query string.

    `reason` of a refused request is one of the words of `offhook.providers.base.SignatureFault` or the gateway's own
    (`unknown-account`, `replayed`, …); of a verified one None, or the word why its call was not connected.
    `signed_url` is the form of the URL that verified, without query; `near_misses` name what would have verified instead
    (see `webhook_gateway.diagnosis`). `sealed_request` (refused requests only, bounded) is the whole request, sealed by
    the gateway's key ring with context `webhook`: it can be replayed, and read by nobody else. `repeated`: the provider
    had sent the same request before. An entry about a replay names the refused entry in `replay_of`, and who asked for it
    in `requested_by`; its `reason` is then what became of it.
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
    replay_of: str | None = None
    requested_by: str | None = None


class WebhookReplay(EventData):
    """A refused request that shall be tried again, as it was then (topic `telephony.webhook-replays.v1`)."""

    TYPE: ClassVar[str] = "webhook.replay.v1"
    audit_id: str
    sealed_request: str
    requested_by: str
