"""The vocabulary of `telephony.call-notices.v1`: what the bridge that holds a call shall tell its agent.

Every bridge reads all of it and heeds what is about its own calls; a notice for a call that nobody holds is lost.
"""

from typing import ClassVar

from offhook.events.calls import AnsweredBy, CallEventData, MessageEnd, TransferResult


class AnsweredByNotice(CallEventData):
    """Who answered, as the provider found out. `account` is whose word it is: it is not about a call of another one.
    `message_end`: the machine's greeting is over; it may be told later than that it is a machine."""

    TYPE: ClassVar[str] = "notice.answered-by.v1"
    provider: str
    account: str
    result: AnsweredBy
    message_end: MessageEnd | None = None


class TransferNotice(CallEventData):
    """A transfer came to nothing before the caller left the agent. `reason`: the `code` of `CommandFailed`."""

    TYPE: ClassVar[str] = "notice.transfer.v1"
    result: TransferResult
    reason: str = ""


class DigitsNotice(CallEventData):
    """Keys that the provider was to press were not pressed, or nobody knows. `reason`: the `code` of `CommandFailed`."""

    TYPE: ClassVar[str] = "notice.digits.v1"
    reason: str


class HangUpNotice(CallEventData):
    """The provider has not ended the call when it was asked to: the bridge ends the stream instead. `configuration_id` is
    what the order names: it is not about a call that runs through another one."""

    TYPE: ClassVar[str] = "notice.hangup.v1"
    configuration_id: str | None = None
    reason: str
