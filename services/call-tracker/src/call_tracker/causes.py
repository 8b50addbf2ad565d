"""Why a call ended, and who caused it: the documented reasons as data, and the rules that choose one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from call_tracker.facts import (
    ORIGINATE_FAILED,
    TRANSFER_ENDED,
    Facts,
    LegFacts,
    MediaSession,
    Order,
    asked_to_end,
)
from offhook.events import CallStatus, Party

END_REASONS: Final[Mapping[str, str]] = {
    "caller-hung-up": "The caller ended the conversation.",
    "callee-hung-up": "The called party ended the conversation.",
    "agent-hung-up": "The agent ended the conversation.",
    "operator-hung-up": "Somebody asked for the end through the API or a page.",
    "platform-hung-up": "Offhook ended the call.",
    "time-limit": "The call had lasted as long as it was allowed to.",
    "transferred": "The call was put through to somebody else, and ended after that.",
    "agent-unreachable": "No agent took the call, or the agent was lost and none came back; the caller heard the fallback.",
    "hung-up": "The call was answered and ended; nobody said by whom.",
    "refused": "Offhook refused the call before it was answered.",
    "busy": "The called party was busy.",
    "no-answer": "It rang and nobody answered in time.",
    "rejected": "The called party declined the call.",
    "canceled": "The call was given up before it was answered.",
    "invalid-number": "The number does not exist or cannot be called.",
    "carrier-failure": "The provider or a carrier could not put the call through, or lost it.",
    "dial-failed": "The call was not dialled, or nobody knows whether it was; the detail says why.",
    "lost": "The provider was asked and knows no such call; what became of it nobody can say.",
}
"""Every end reason with its meaning. Ended calls have one of these."""

Fault = Literal["none", "agent", "carrier", "account", "platform"]

_FAULTS: Final[Mapping[str, Fault]] = {
    "agent-unreachable": "agent",
    "carrier-failure": "carrier",
    "dial-failed": "account",
    "refused": "account",
    "lost": "carrier",
    "platform-hung-up": "platform",
}

# Refusals and dials that were given up for something nobody but the operator of the installation can mend.
_PLATFORMS_WORDS: Final = frozenset(
    {"reconnect-limit", "no-public-url", "expired", "outcome-unknown", "credentials-unreadable"}
)

DIAL_FAILED: Final = ("dial-failed", Party.PLATFORM)
DIAL_CANCELED: Final = "canceled"
"""The code of a dial that was given up because somebody had asked for the end before it."""

DETAILED: Final[Mapping[str, str]] = {"refused": "refused", "dial-failed": ORIGINATE_FAILED}
"""End reasons that have a word of their own which says why, and the fact that holds it."""

LOST_AT_CARRIER: Final = ("lost", Party.CARRIER)
LOST_BEFORE: Final = ("lost", Party.PLATFORM)
"""A call that the provider has named and forgotten; one that it has never named."""

CLOCK_SLACK_US: Final = 2_000_000
"""By so much may a provider's clock be behind ours, or cut off: Twilio tells whole seconds."""


def fault_of(reason: str, ended_by: Party | None, detail: str | None = None) -> Fault:
    """Whose fault an end is, for the figures: `account` is the user's settings and limits, `platform` is ours. `detail` is
    the word of who refused the call or gave its dialling up."""
    if reason == "lost" and ended_by is Party.PLATFORM:
        return "platform"
    if reason in DETAILED and detail in _PLATFORMS_WORDS:
        return "platform"
    return _FAULTS.get(reason, "none")


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a call as its provider knows it. `seen`: learned by asking, so `order` says nothing about when we could
    have known. `talk_s` is how long the conversation was, None when nobody answered."""

    status: CallStatus
    order: Order
    seen: bool = False
    talk_s: float | None = None
    time_limit_s: int | None = None

    @property
    def until_us(self) -> int:
        """Who asked for the end before this may have caused it."""
        if self.seen:
            return self.order.happened_us + CLOCK_SLACK_US
        # A provider's clock with whole seconds may place the end before the request that caused it.
        return max(self.order.told_us, self.order.happened_us)

    @property
    def at_limit(self) -> bool:
        """Whether it lasted as long as it was allowed to; a second less, for durations are cut off."""
        return (
            self.time_limit_s is not None and self.talk_s is not None and self.talk_s >= self.time_limit_s - 1
        )


# What a provider's word or SIP code says about a failed call. SIP: RFC 3261 section 21 (404, 410, 484, 604:
# the number; 603: declined), RFC 8197 (607 unwanted), RFC 8688 (608 rejected).
# Words: https://developer.vonage.com/en/voice/voice-api/webhook-reference (`rejected`, `failed`).
FAILURE_WORDS: Final[Mapping[str, tuple[str, Party]]] = {
    "declined": ("rejected", Party.CALLEE),
    "rejected": ("rejected", Party.CALLEE),
    "invalid_number": ("invalid-number", Party.CARRIER),
    "number_out_of_service": ("invalid-number", Party.CARRIER),
    "restricted": ("carrier-failure", Party.CARRIER),
}
FAILURE_SIP_CODES: Final[Mapping[int, tuple[str, Party]]] = {
    404: ("invalid-number", Party.CARRIER),
    410: ("invalid-number", Party.CARRIER),
    484: ("invalid-number", Party.CARRIER),
    604: ("invalid-number", Party.CARRIER),
    603: ("rejected", Party.CALLEE),
    607: ("rejected", Party.CALLEE),
    608: ("rejected", Party.CARRIER),
}

_FAR_END: Final = {"inbound": Party.CALLER, "outbound": Party.CALLEE}
_HUNG_UP: Final[Mapping[Party, str]] = {
    Party.CALLER: "caller-hung-up",
    Party.CALLEE: "callee-hung-up",
    Party.AGENT: "agent-hung-up",
    Party.OPERATOR: "operator-hung-up",
    Party.PLATFORM: "platform-hung-up",
    Party.CARRIER: "carrier-failure",
}


def cause(end: Ending, leg: LegFacts, facts: Facts, direction: str | None) -> tuple[str, Party | None]:
    """The reason and the party, for a call whose end the provider told. `leg` is its phone leg, `together`."""
    status = end.status
    told = leg.details.get(f"{status}/ended_by")
    party = Party(str(told.value)) if told is not None else None
    match status:
        case CallStatus.FAILED:
            return _named_failure(status, leg) or ("carrier-failure", party or Party.CARRIER)
        case CallStatus.BUSY:
            return _named_failure(status, leg) or _refused(facts) or ("busy", party or Party.CALLEE)
        case CallStatus.NO_ANSWER:
            return _refused(facts) or ("no-answer", party or _FAR_END.get(direction or ""))
        case CallStatus.CANCELED:
            # Only the account's owner can cancel an outbound call; if not through us, then elsewhere.
            nobody = Party.CALLER if direction == "inbound" else Party.OPERATOR
            return "canceled", party or _asked_to_end(end, facts) or nobody
        case _:
            return _cause_of_completion(end, facts, direction, party)


def _named_failure(status: CallStatus, leg: LegFacts) -> tuple[str, Party] | None:
    """What the provider's own words or the SIP code say."""
    for field in ("detail", "provider_status"):
        word = leg.details.get(f"{status}/{field}")
        if word is not None and (known := FAILURE_WORDS.get(str(word.value))) is not None:
            return known
    sip = leg.details.get(f"{status}/sip_code")
    return None if sip is None else FAILURE_SIP_CODES.get(int(sip.value))


def _refused(facts: Facts) -> tuple[str, Party] | None:
    return ("refused", Party.PLATFORM) if "refused" in facts.told else None


def _cause_of_completion(
    end: Ending, facts: Facts, direction: str | None, party: Party | None
) -> tuple[str, Party | None]:
    asked = _asked_to_end(end, facts)
    if asked is not Party.OPERATOR and _was_transferred(facts):
        # The agent has left by then. Of the two who talk, the provider tells at most the far end.
        on_line = party in (Party.CALLER, Party.CALLEE)
        return "transferred", party if on_line else _FAR_END.get(direction or "")
    if asked is None and end.at_limit:
        return "time-limit", Party.PLATFORM
    if asked is None and "agent-unreachable" in facts.told:
        # Whoever puts the phone down during the fallback's words: this is what went wrong.
        return "agent-unreachable", Party.PLATFORM
    # The provider knows best when it names one of the two on the line; else who asked for it.
    if party in (Party.CALLER, Party.CALLEE):
        return _HUNG_UP[party], party
    if asked is None and (last := _last_session(facts)) is not None and last.ended_by is Party.AGENT:
        asked = Party.AGENT  # its request was lost
    if asked is None and "refused" in facts.told:
        return ("platform-hung-up" if facts.media else "refused"), Party.PLATFORM
    who = asked or party or _FAR_END.get(direction or "")
    return ("hung-up", None) if who is None else (_HUNG_UP[who], who)


def _last_session(facts: Facts) -> MediaSession | None:
    return max(facts.media.values(), key=lambda session: (session.epoch, session.order), default=None)


def _was_transferred(facts: Facts) -> bool:
    ended = facts.latest.get(TRANSFER_ENDED)
    return ended is not None and ended.value == "completed"


def _asked_to_end(end: Ending, facts: Facts) -> Party | None:
    """Who asked first for the end, before it came."""
    requests = asked_to_end(facts, end.order.happened_us)
    return next((party for order, party in requests if order.told_us <= end.until_us), None)
