"""The vocabulary of `telephony.call-commands.v1`: what number-sync shall do to a call at its provider."""

from typing import Any, ClassVar

from pydantic import Field

from offhook.events.calls import CallEventData, MachineDetection, Party, TransferMode


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
    time_limit_s: int | None = Field(default=None, ge=10, le=86_400)
    machine_detection: MachineDetection = "off"
    transfer_of: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class HangUp(CallEventData):
    """End the call. `provider_call_id` is None when the sender does not know it; number-sync then looks in its own record."""

    TYPE: ClassVar[str] = "command.hangup.v1"
    configuration_id: str
    provider: str
    provider_call_id: str | None
    requested_by: Party
    reason: str = ""


class Observe(CallEventData):
    """Ask the provider what became of the call, and tell it as an event. Numbers and time find a call whose id is not known.

    `requested_at` is when the call began, ISO 8601; `reason` why it is asked: `silence`, `start`, `cost`, `operator`.
    """

    TYPE: ClassVar[str] = "command.observe.v1"
    configuration_id: str
    provider: str
    provider_call_id: str | None
    from_number: str | None = None
    to_number: str | None = None
    requested_at: str | None = None
    reason: str = "silence"


class Transfer(CallEventData):
    """Connect the far end with `to_number` (E.164). `cold`: at once; `warm`: the agent talks with that party first.

    `own_number` is our end's, which that party is shown (None: the default caller ID); `far_number` the far end's, for the
    agent of a warm transfer.
    """

    TYPE: ClassVar[str] = "command.transfer.v1"
    workflow_id: str
    user_id: str
    configuration_id: str
    provider: str
    provider_call_id: str | None
    to_number: str
    mode: TransferMode
    requested_by: Party
    own_number: str | None = None
    far_number: str | None = None
    ring_timeout_s: int = Field(default=30, ge=5, le=600)


class SendDigits(CallEventData):
    """Press keys (`0-9 * #`, `w` waits half a second) through the provider's API."""

    TYPE: ClassVar[str] = "command.send-digits.v1"
    configuration_id: str
    provider: str
    provider_call_id: str | None
    digits: str = Field(pattern=r"^[0-9*#wW]{1,32}$")
