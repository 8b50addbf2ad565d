"""The vocabulary of `telephony.call-commands.v1`: what number-sync shall do to a call at its provider."""

from typing import Any, ClassVar

from pydantic import Field

from offhook.events.calls import CallEventData, Party


class Originate(CallEventData):
    """Dial. At most once: the run id is the claim. `metadata` is for the agent."""

    TYPE: ClassVar[str] = "command.originate.v1"
    workflow_id: str
    user_id: str
    configuration_id: str
    provider: str
    from_number: str
    to_number: str
    ring_timeout_s: int = Field(default=60, ge=5, le=600)
    metadata: dict[str, Any] = Field(default_factory=dict)


class HangUp(CallEventData):
    """End the call. `provider_call_id` is None when the sender does not know it; number-sync then looks in its own record."""

    TYPE: ClassVar[str] = "command.hangup.v1"
    configuration_id: str
    provider: str
    provider_call_id: str | None
    requested_by: Party
    reason: str = ""
