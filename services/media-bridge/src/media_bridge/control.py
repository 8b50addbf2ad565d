"""What an agent asks of its call beside speaking: transfers and pressed keys. Bounded; nothing here waits.

A transfer is a wish: number-sync carries it out at the provider, which then takes the stream away. Until that has
happened, or has failed, or a minute has passed, a second one is not begun. Keys go through the provider's API where
there is one for that, else as tones in the caller's ear, in turn with what the agent says.
"""

from dataclasses import replace
from typing import Final, Literal

from media_bridge.agent_links import CallDescription
from media_bridge.conversation import Conversation
from media_bridge.facts import SessionFacts
from offhook.agentlink import pcm
from offhook.audio import tone
from offhook.events import AnsweredByNotice, DigitsNotice, EventData, TransferNotice

PENDING_S: Final = 60.0
"""How long a transfer that shows no effect keeps another one from being asked for."""

MAX_TRANSFERS: Final = 20
MAX_KEYS: Final = 1000
_PROVIDERS_KEYS: Final = frozenset("0123456789*#w")


class CallControl:
    """The wishes of one session's agents, and the news for them. Times are a monotonic clock's, in seconds.

    `transfer_of`: the run whose caller waits to be put through to this call. `transfer`: what became of the transfer
    this call comes back from.
    """

    def __init__(
        self,
        facts: SessionFacts,
        conversation: Conversation,
        *,
        dtmf_out: Literal["rest", "in-band"],
        own_number: str = "",
        far_number: str = "",
        transfer_of: str = "",
        transfer: pcm.TransferOutcome | None = None,
        answered_by: pcm.AnswerResult | None = None,
        message_end: pcm.MessageEnd | None = None,
    ) -> None:
        self.transfer_of = transfer_of
        self._facts = facts
        self._conversation = conversation
        self._dtmf_out = dtmf_out
        self._numbers = (own_number, far_number)
        self._transfer = transfer
        self._answered_by = answered_by
        self._message_end = message_end
        self._asked_at: float | None = None
        self._transfers = 0
        self._keys = 0

    def transferring(self, now: float) -> bool:
        """Whether a transfer was asked for of which nothing has been heard."""
        return self._asked_at is not None and now - self._asked_at < PENDING_S

    def transfer(self, to: str, mode: Literal["cold", "warm"], now: float) -> pcm.Rejected | None:
        if self.transferring(now):
            return pcm.Rejected("transfer-pending", "a transfer is under way; wait for its result")
        if self._transfers >= MAX_TRANSFERS:
            return pcm.Rejected(
                "too-many-transfers", f"{MAX_TRANSFERS} transfers were asked for in this session"
            )
        self._transfers += 1
        self._asked_at = now
        own, far = self._numbers
        self._facts.transfer_requested(to, mode, self._transfers, own_number=own, far_number=far)
        return None

    def press(self, digits: str, now: float) -> pcm.Rejected | None:
        if self._keys + len(digits) > MAX_KEYS:
            return pcm.Rejected("too-many-keys", f"{MAX_KEYS} keys were pressed in this session")
        if self._dtmf_out == "rest" and not _PROVIDERS_KEYS.issuperset(digits):
            return pcm.Rejected("unsupported", "the carrier of this call knows the keys 0-9, * and # only")
        if self._dtmf_out == "in-band" and not self._conversation.press(digits, now):
            return pcm.Rejected(
                "audio-overflow", f"{tone.dtmf_ms(digits)} ms of tones do not fit behind what is waiting"
            )
        self._keys += len(digits)
        self._facts.digits_pressed(digits, self._dtmf_out, self._keys)
        return None

    def take_notice(self, notice: EventData) -> None:
        """Tell the agent; what cannot be told now stands in the next agent's beginning."""
        if isinstance(notice, AnsweredByNotice):
            if not self._facts.is_of(notice.provider, notice.account):
                return
            known = self._answered_by, self._message_end
            self._answered_by = notice.result
            # That the greeting is over is not taken back by what was told before it and comes after it.
            self._message_end = notice.message_end or self._message_end
            if (self._answered_by, self._message_end) != known:
                self._conversation.tell_answered_by(self._answered_by, self._message_end)
        elif isinstance(notice, TransferNotice):
            self._asked_at = None
            if not self._conversation.tell_transfer(notice.result, notice.reason):
                self._transfer = notice.result
        elif isinstance(notice, DigitsNotice):
            self._conversation.tell_digits_failed(notice.reason)

    def describe(self, call: CallDescription) -> CallDescription:
        """The call as the next agent shall be told of it. What became of a transfer is told once."""
        transfer, self._transfer = self._transfer, None
        return replace(call, transfer=transfer, answered_by=self._answered_by, message_end=self._message_end)
