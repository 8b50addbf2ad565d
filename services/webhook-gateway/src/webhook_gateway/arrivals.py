"""A request on its way through the gateway: what it asks for, what is proven, what came of it."""

from dataclasses import dataclass
from typing import Literal

from offhook.providers.base import HttpAnswer, HttpRequest, ProviderAdapter
from webhook_gateway.refusals import Refusal
from webhook_gateway.verification import Proven

Kind = Literal["call", "status", "fallback"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for. `workflow_run_id` is None on the inbound paths; workflow and user only on the
    webhook path."""

    kind: Kind
    workflow_run_id: str | None = None
    workflow_id: str | None = None
    user_id: str | None = None


@dataclass(slots=True)
class Outcome:
    """The answer, and what is to be remembered about the request."""

    answer: HttpAnswer
    reason: str | None = None
    verified: bool = False
    provider: str = "unknown"
    account: str | None = None
    workflow_run_id: str | None = None
    provider_call_id: str | None = None
    tried: tuple[str, ...] = ()
    repeated: bool = False
    signed_url: str | None = None
    refusal: Refusal | None = None
    retry_key: str | None = None
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A proven request on its way through."""

    adapter: ProviderAdapter
    request: HttpRequest
    proven: Proven
    request_digest: str
    started: float
