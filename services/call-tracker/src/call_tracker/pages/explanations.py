"""Why a call ended, in words: one sentence for the top of its page, and what to do where something went wrong. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from call_tracker.pages.wording import duration, parsed, readable, since_ms
from call_tracker.webhook_log.explanation import SERVED
from offhook.events import TERMINAL_STATUSES, CallStatus, Party
from offhook.records import CallState

Kind = Literal["good", "info", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`short` names the end in lists. `happened` and `remedy` are sentences; without a remedy there is nothing to do."""

    short: str
    kind: Kind
    happened: str
    remedy: str | None = None


EXPLANATIONS: Final[Mapping[str, Explanation]] = {
    "caller-hung-up": Explanation("Caller hung up", "good", "The caller ended the conversation."),
    "callee-hung-up": Explanation("Callee hung up", "good", "The called party ended the conversation."),
    "agent-hung-up": Explanation("Agent hung up", "good", "The agent ended the conversation."),
    "operator-hung-up": Explanation(
        "Ended by request", "good", "Somebody asked for the end of the call, through the API or on its page."
    ),
    "platform-hung-up": Explanation(
        "Ended by Offhook",
        "warning",
        "Offhook ended the call itself, for instance because it had reached its time limit.",
        "Look at the last events below: one of them names the reason. Raise the limit if calls may be longer.",
    ),
    "transferred": Explanation(
        "Transferred", "good", "The call was put through to somebody else, and ended after that."
    ),
    "time-limit": Explanation(
        "Time limit",
        "warning",
        "The call had reached the longest time it was allowed to last.",
        "Give the call a longer time limit if that was too early.",
    ),
    "agent-unreachable": Explanation(
        "No agent",
        "bad",
        "No agent took the call, or the agent was lost and none came back. The other side heard the workflow's message"
        " for this case.",
        "Open the workflow and press Try: it says whether the agent can be reached at its URL. Look at the agent's own"
        " log at the time of the call, and check that it has room for one more call.",
    ),
    "hung-up": Explanation("Hung up", "good", "The call was answered and ended. Nobody said by whom."),
    "refused": Explanation(
        "Refused by Offhook",
        "bad",
        "Offhook refused the call before it was connected: the number is unknown, inactive or has no workflow, its"
        " configuration is paused, or a limit was reached.",
        "Check that the number is active and has a workflow, that its configuration is not paused, and how many calls at"
        " once the configuration allows. The events below name the reason.",
    ),
    "busy": Explanation(
        "Busy", "info", "The called party was in another call.", "Call again in some minutes."
    ),
    "no-answer": Explanation(
        "No answer",
        "info",
        "It rang, and nobody answered in time.",
        "Call again at another time of the day. If people answer late, raise the ring timeout of the call.",
    ),
    "rejected": Explanation(
        "Declined",
        "info",
        "The called party, or a blocklist on their side, declined the call.",
        "If this happens often with one caller ID, it may be marked as unwanted: use another number of yours, or have"
        " the number registered with your provider (branded calling, STIR/SHAKEN).",
    ),
    "canceled": Explanation("Given up", "info", "The call was given up before anybody answered it."),
    "invalid-number": Explanation(
        "Invalid number",
        "bad",
        "The number does not exist, is out of service, or cannot be called.",
        "Check the number, with its country code, and take it off your list if it is out of service.",
    ),
    "carrier-failure": Explanation(
        "Carrier failure",
        "bad",
        "The provider, or a carrier behind it, could not put the call through or lost it.",
        "Try again: failures of carriers pass. If it stays, look for the call by its provider call id in the provider's"
        " console, check that your account may call this country, and give the provider the id and the SIP code.",
    ),
    "dial-failed": Explanation(
        "Not dialled",
        "bad",
        "The provider did not accept the call, so nothing was dialled.",
        "The failed command among the events below has the provider's own words. Most often the caller ID is not a"
        " number of the account, the account may not call this country, or its balance is used up.",
    ),
    "lost": Explanation(
        "Lost sight of",
        "warning",
        "The provider was asked and knows no such call. What became of it, nobody can say.",
        "Look for the call in the provider's console, and check that callbacks arrive: the webhook log says what came.",
    ),
}
"""Every end reason of `call_tracker.causes.END_REASONS`, and what people need to know about it."""

NOT_DIALLED: Final[Mapping[str, Explanation]] = {
    "outcome-unknown": Explanation(
        "Dial unanswered",
        "bad",
        "The provider's answer to the dial was lost, and the call could not be found there. The phone may have rung.",
        "Look for the call in the provider's console before you call again. It was not dialled a second time.",
    ),
    "expired": Explanation(
        "Not dialled",
        "bad",
        "The order to dial had become too old before it could be carried out, so nothing was dialled.",
        "Call again. If it happens often, the installation is overloaded, or Kafka or the provider was away.",
    ),
    "configuration-paused": Explanation(
        "Not dialled",
        "bad",
        "The configuration was paused before the call was dialled, so nothing was dialled.",
        "Resume the configuration, and call again.",
    ),
    "no-configuration": Explanation(
        "Not dialled",
        "bad",
        "The configuration was deleted, or its account exchanged, before the call was dialled, so nothing was dialled.",
        "Call again through a configuration that is there.",
    ),
    "credentials-unreadable": Explanation(
        "Not dialled",
        "bad",
        "The credentials of the configuration cannot be opened any more, so nothing was dialled.",
        "Enter the credentials again: the key ring has lost the key they were sealed with.",
    ),
    "credentials": Explanation(
        "Not dialled",
        "bad",
        "The provider did not accept the credentials, so nothing was dialled.",
        "Open the configuration and check its credentials, and at the provider whether the account is suspended.",
    ),
    "no-public-url": Explanation(
        "Not dialled",
        "bad",
        "The installation has no public URL that the provider could ask, so nothing was dialled.",
        "Have the operator of the installation set OFFHOOK_PUBLIC_URL.",
    ),
}
"""The codes of a dial that was given up that need words of their own; any other is the provider's refusal."""

_UNKNOWN: Final = Explanation("Ended", "info", "The call has ended.")

SIP_WORDS: Final[Mapping[int, str]] = {
    200: "OK",
    400: "Bad request",
    403: "Forbidden",
    404: "Not found: no such number",
    408: "Request timeout",
    410: "Gone: the number is no longer in use",
    480: "Temporarily unavailable",
    484: "Address incomplete: the number is too short",
    486: "Busy here",
    487: "Request terminated: given up while it rang",
    488: "Not acceptable here: no common codec",
    500: "Server error at a carrier",
    502: "Bad gateway at a carrier",
    503: "Service unavailable at a carrier",
    504: "Server timeout at a carrier",
    600: "Busy everywhere",
    603: "Declined",
    604: "Does not exist anywhere",
    607: "Unwanted",
    608: "Rejected by an analytics engine",
}
"""RFC 3261 section 21, RFC 8197 (607), RFC 8688 (608)."""


def explanation(end_reason: str | None, end_detail: str | None = None) -> Explanation:
    """Why a call ended. A reason that is not in the list is named as it is."""
    if end_reason is None:
        return _UNKNOWN
    if end_reason == "dial-failed" and (said := NOT_DIALLED.get(end_detail or "")) is not None:
        return said
    known = EXPLANATIONS.get(end_reason)
    if known is not None and end_reason == "refused" and end_detail in SERVED:
        happened, remedy = SERVED[end_detail]
        return replace(known, happened=happened, remedy=remedy or known.remedy)
    return known or Explanation(end_reason.replace("-", " ").capitalize(), "info", _UNKNOWN.happened)


def sip_words(code: int) -> str:
    """A SIP code with its meaning."""
    known = SIP_WORDS.get(code)
    return f"{code} ({known})" if known else str(code)


def sentence(record: CallState, now: datetime) -> str:
    """What is happening or has happened: who ended it, after how long."""
    if record.status not in TERMINAL_STATUSES:
        return _happening(record, now)
    far = readable(record.from_number if record.direction == "inbound" else record.to_number)
    after = _after(record)
    match record.end_reason:
        case "caller-hung-up":
            return f"The caller hung up{after}."
        case "callee-hung-up":
            return f"{readable(record.to_number)} hung up{after}."
        case "agent-hung-up":
            return f"The agent hung up{after}."
        case "operator-hung-up":
            return f"The call was ended by request{after}."
        case "busy":
            return f"{far} was busy."
        case "no-answer":
            return f"{far if record.direction != 'inbound' else 'This side'} did not answer{_rang(record)}."
        case "rejected":
            return f"{far} declined the call."
        case "canceled" if record.ended_by is Party.CALLER:
            return f"The caller gave up{_rang(record)}."
        case "canceled":
            return f"The call was given up before it was answered{_rang(record)}."
        case "agent-unreachable":
            return "No agent could be reached, so the fallback message was played and the call ended."
        case "hung-up":
            return f"The call ended{after}; nobody said who hung up."
        case "platform-hung-up":
            return f"Offhook ended the call{after}."
        case "time-limit":
            return f"The call had reached its time limit and was ended{after}."
        case "transferred":
            return f"The call was put through to somebody else, and ended{after}."
        case reason:
            return explanation(reason, record.end_detail).happened


def _happening(record: CallState, now: datetime) -> str:
    match record.status:
        case CallStatus.ANSWERED:
            begun = parsed(record.answered_at)
            talked = "" if begun is None else f" for {duration(since_ms(begun, now))}"
            return f"In conversation{talked}."
        case CallStatus.RINGING:
            begun = parsed(record.ringing_at)
            rung = "" if begun is None else f" for {duration(since_ms(begun, now))}"
            return f"Ringing{rung}."
        case _:
            return (
                "The call was handed to the provider."
                if record.provider_call_id
                else "The call is being set up."
            )


def _after(record: CallState) -> str:
    return "" if record.talk_ms is None else f" after {duration(record.talk_ms)}"


def _rang(record: CallState) -> str:
    return "" if not record.ring_ms else f" after {duration(record.ring_ms)} of ringing"
