"""The vocabulary of `telephony.call-notices.v1`: what the bridge that holds a call shall tell its agent.

Every bridge reads all of it and heeds what is about its own calls; a notice for a call that nobody holds is lost.
"""

from typing import ClassVar

from offhook.events.calls import AnsweredBy, CallEventData, TransferResult


class AnsweredByNotice(CallEventData):
    """Who answered, as the provider found out. `account` is whose word it is: it is not about a call of another one."""

    TYPE: ClassVar[str] = "notice.answered-by.v1"
    provider: str
    account: str
    result: AnsweredBy


class TransferNotice(CallEventData):
    """A transfer came to nothing before the caller left the agent."""

    TYPE: ClassVar[str] = "notice.transfer.v1"
    result: TransferResult
