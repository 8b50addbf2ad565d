"""What an entry of the webhook log says, in words an operator can act on. Pure.

The gateway tells words (`reason`, `near_misses`); sentences and remedies are made here, when somebody looks. A word that
this version does not know is shown as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from offhook.events import NearMiss, WebhookAudited, read_near_miss

Kind = Literal["good", "info", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`kind` says how bad it is; `remedy` what to do, where there is something to do."""

    kind: Kind
    title: str
    sentence: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else is known. `name_of` gives the name of a configuration the reader may see, None of any other."""

    public_url: str | None = None
    name_of: Callable[[str], str | None] = lambda _: None


def explain(entry: WebhookAudited, around: Surroundings) -> Explanation:
    """The explanation of one entry."""
    if entry.replay_of is not None:
        return _of_a_replay(entry, around)
    if entry.verified:
        return _of_a_real_one(entry)
    for text in entry.near_misses:
        found = _of_a_near_miss(text, entry, around)
        if found is not None:
            return found
    return _of_a_refusal(entry, around)


# --- verified

# Not "the provider": whoever has the account's secret can sign for any host.
_SIGNED_BY: Final = "whoever has the account's secret, which is the provider as a rule, signed that address."
SERVED: Final[dict[str, tuple[str, str | None]]] = {
    "number-unknown": (
        "The call was for a number that no configuration of this account has, so the caller heard an apology.",
        "Add the number to the configuration, or import the account's numbers.",
    ),
    "number-inactive": (
        "The number is inactive, so the caller heard the fallback words.",
        "Activate the number on its page.",
    ),
    "number-without-workflow": (
        "No workflow answers the number, so the caller heard an apology.",
        "Give the number a workflow on its page.",
    ),
    "configuration-paused": (
        "The configuration is paused, so the caller heard the fallback words.",
        "Resume the configuration on its page.",
    ),
    "workflow-unknown": (
        "The workflow the call belongs to does not exist any more.",
        "Give the number another workflow.",
    ),
    "foreign-tenant": ("The address names a workflow or a user that this account does not belong to.", None),
    "foreign-call": ("The address names a call that is another one's. It got no instructions.", None),
    "outbound-fallback": ("The provider could not use the instructions of a call that was dialled.", None),
    "no-public-url": (
        "This installation knows no public URL, so the audio could not be connected.",
        "Set OFFHOOK_PUBLIC_URL (number-sync) to where this installation is reached from the internet.",
    ),
    "ended": ("The call had been ended on purpose, so it was hung up.", None),
    "call-over": ("The provider had reported the end of the call before.", None),
    "no-agent": (
        "No agent could be reached, so the caller heard the fallback words.",
        "Try the workflow on its page: it says what the agent answers.",
    ),
    "reconnect-limit": (
        "The call had connected too often within a minute, so the caller heard the fallback words.",
        "Look at the bridges: the audio of this call was lost again and again.",
    ),
    "limit-reached": (
        "The user or the configuration had as many calls as it may have, so the caller heard busy.",
        "Raise the limit, if it is too low.",
    ),
    "no-run": ("It was about no call of ours (a leg of its own, or a call placed elsewhere); nothing was to be done.", None),
    "malformed": (
        "The provider sent something that could not be understood. It was not taken in; a caller heard an apology.",
        "If it goes on, tell the developers; afterwards the request can be replayed.",
    ),
    "not-durable": (
        "What it says could neither be given to Kafka nor kept on disk, so it was not acknowledged. Providers try again.",
        "Look at Kafka, and at the disk of the gateway.",
    ),
}  # fmt: skip
"""The gateway's words for real requests whose calls were not connected: what happened, and what to do."""


def _of_a_real_one(entry: WebhookAudited) -> Explanation:
    again = " The provider had sent it before: this was its retry." if entry.repeated else ""
    if entry.reason is None:
        return Explanation("good", "Verified", f"The request was real, and was answered.{again}")
    sentence, remedy = SERVED.get(
        entry.reason, (f"The request was real, but its call was not connected: {entry.reason}.", None)
    )
    kind: Kind = "bad" if entry.status_code >= 400 else ("info" if remedy is None else "warning")
    taken = entry.status_code < 400 and entry.reason != "malformed"
    title = "Verified, but not connected" if taken else "Verified, but not taken"
    if entry.reason == "no-run":
        title = "Verified"
    return Explanation(kind, title, sentence + again, remedy)


# --- refused, and something near it would have been right


def _of_a_near_miss(text: str, entry: WebhookAudited, around: Surroundings) -> Explanation | None:
    word, about = read_near_miss(text)
    if word in (NearMiss.OTHER_URL, NearMiss.FORWARDED_URL, NearMiss.FORMER_URL):
        return _another_address(word, about, entry, around)
    if word == NearMiss.SLASH:
        return Explanation(
            "bad", "A slash at the end of the address was changed",
            f"The provider signed {about or 'the address with, or without, a slash at its end'}; it arrived as {entry.path}.",
            "Have the proxy in front pass the path on untouched, or correct the address at the provider.",
        )  # fmt: skip
    if word == NearMiss.QUERY_DROPPED:
        return Explanation(
            "bad", "Something added a query to the address",
            "The provider signed the address without a query, but it arrived with one.",
            "Have the proxy in front pass the address on untouched.",
        )  # fmt: skip
    if word == NearMiss.QUERY_ENCODING:
        return Explanation(
            "bad", "A proxy rewrote the query",
            "The signature fits the query with other percent-encoding: something in between decodes and encodes it.",
            "Have the proxy in front pass the query on untouched (nginx: proxy_pass without a path).",
        )  # fmt: skip
    if word == NearMiss.OTHER_CREDENTIALS:
        name = around.name_of(about)
        whose = f"the configuration {name}" if name else "another configuration"
        return Explanation(
            "bad", "Signed with another account's secret",
            f"The request names the account {entry.account or 'unknown'}, but it was signed with the secret of {whose}.",
            "Check which account the number belongs to, and the account id and secret of both configurations: they may have"
            " been mixed up. A sub-account signs with its own secret.",
        )  # fmt: skip
    if word == NearMiss.BODY_CHANGED:
        return Explanation(
            "bad", "Something changed the body on its way",
            "The signature fits the body with other spaces, line ends or charset: a proxy or firewall in between rewrites it.",
            "Have it pass bodies of /api/v1/telephony/ on untouched.",
        )  # fmt: skip
    if word == NearMiss.CLOCK:
        return _another_time(about)
    return None


def _another_address(word: str, url: str, entry: WebhookAudited, around: Surroundings) -> Explanation:
    parts = urlsplit(url)
    signed = f"{parts.scheme}://{parts.netloc}"
    known = around.public_url
    here = f"this installation is known as {known}" if known else "this installation knows no public URL"
    if known is not None and signed == known:
        return Explanation(
            "info", "The public URL was another one then",
            f"The provider signed {url}. That is the public URL now; when the request came, it was another one.",
            "Replay the request: it will be verified.",
        )  # fmt: skip
    if parts.path and parts.path.rstrip("/") != entry.path.rstrip("/"):
        return Explanation(
            "bad", "A proxy rewrote the path",
            f"The provider signed {url}, but it arrived here as {entry.path}.",
            "Have the proxy in front pass the path on untouched.",
        )  # fmt: skip
    if word == NearMiss.FORMER_URL:
        return Explanation(
            "bad", "The provider still calls a former public URL",
            f"The provider signed {url}; {here}.",
            f"Numbers are moved by themselves: look at their state."
            f" Until then, add {signed} to OFFHOOK_EXTRA_ORIGINS of the gateway. If the former one is right after all,"
            f" set OFFHOOK_PUBLIC_URL to {signed} : {_SIGNED_BY}",
        )  # fmt: skip
    title = "The public URL is not the one the provider calls"
    if known is not None and urlsplit(known).hostname == parts.hostname:
        differs = "scheme" if urlsplit(known).scheme != parts.scheme else "port"
        title = f"The public URL has another {differs} than the one the provider calls"
    return Explanation(
        "bad", title, f"The provider signed {url}, but {here}.",
        f"If that is an address of yours, set OFFHOOK_PUBLIC_URL to {signed} : {_SIGNED_BY} If both lead here, add it to"
        " OFFHOOK_EXTRA_ORIGINS of the gateway instead.",
    )  # fmt: skip


def _another_time(seconds: str) -> Explanation:
    try:
        off_s = int(seconds)
    except ValueError:
        off_s = 0
    if off_s < 0:
        return Explanation(
            "bad", "The clock here is ahead, or the request is old",
            f"The token was issued {_span(-off_s)} before it arrived, and counts for 5 minutes.",
            "Check the clock of the gateway's machine (NTP). If it is right, somebody kept the request back, or sends it again.",
        )  # fmt: skip
    return Explanation(
        "bad", "The clock here is behind",
        f"The token was issued {_span(off_s)} after it arrived, by the clock of this machine.",
        "Set the clock of the gateway's machine right (NTP).",
    )  # fmt: skip


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} minutes"
    return f"{round(seconds / 3600, 1):g} hours"


# --- refused, and nothing that was tried fits

_REFUSED: Final[dict[str, tuple[str, str, str | None]]] = {
    "signature-missing": (
        "No signature",
        "The request had no signature at all, so it proves nothing.",
        "If it is the provider's: switch signed webhooks on at the provider, and have the proxy in front pass the"
        " Authorization and X-Twilio-Signature headers on. If not, somebody is trying this address.",
    ),
    "signature-malformed": (
        "Not a signature",
        "What stood where the signature belongs is none.",
        "If it is the provider's: look for a proxy that rewrites headers.",
    ),
    "signature-mismatch": (
        "The signature fits nothing that is known",
        "The signature fits none of the public URLs with the secret that is stored, and none of the usual changes on the way.",
        "Compare the secret (auth token, signature secret) of the configuration with the provider's. If it is right, the"
        " request was not the provider's.",
    ),
    "body-hash-mismatch": (
        "The body is not the one that was signed",
        "The signature is the provider's, but it is for another body.",
        "Look for a proxy or firewall that changes bodies. If there is none, somebody changed the request.",
    ),
    "wrong-account": (
        "Signed for another account",
        "The request is signed, but names another account (or API key) than the configuration.",
        "Compare account id, application id and API key of the configuration with the provider's.",
    ),
    "wrong-issuer": ("Not issued by the provider", "The token names another issuer than the provider.", None),
    "token-too-old": (
        "Too old",
        "The token was issued longer ago than it counts.",
        "Check the clock of the gateway's machine. If it is right, somebody sends a kept request again.",
    ),
    "token-from-the-future": (
        "From the future",
        "The token was issued later than it is here.",
        "Set the clock of the gateway's machine right (NTP).",
    ),
    "unknown-account": (
        "An account that nobody has configured",
        "No configuration has the account that the request names.",
        "Add a configuration of this account, or correct the account id in the one that is meant.",
    ),
    "credentials-unreadable": (
        "The stored credentials cannot be opened",
        "The gateway's key ring does not open the credentials of this configuration, so nothing could be verified.",
        "Give the gateway the same OFFHOOK_KEYRING as number-sync.",
    ),
    "replayed": (
        "A token was used twice",
        "The token of this request had been used for another one before, or longer ago than the provider retries.",
        "Nothing, if it happens once: it was refused. If it goes on, somebody sends captured requests again.",
    ),
    "unknown-provider": (
        "No provider that is known",
        "Nothing in the request says that it comes from a telephony provider.",
        None,
    ),
    "malformed": ("Not to be understood", "The request could not be read.", None),
    "body-too-large": ("Too large", "The body was larger than a provider's ever is.", None),
    "body-too-slow": (
        "Too slow",
        "The body did not arrive in time.",
        "If it is the provider's: look at the network in front, and at how busy the gateway is.",
    ),
    "url-too-long": ("Too long", "The address was longer than a provider's ever is.", None),
}  # fmt: skip


def _of_a_refusal(entry: WebhookAudited, around: Surroundings) -> Explanation:
    reason = entry.reason or "unknown"
    title, sentence, remedy = _REFUSED.get(
        reason, (f"Refused: {reason}", f"The gateway refused it with the word “{reason}”.", None)
    )
    if NearMiss.NOT_LOOKED in entry.near_misses:
        sentence += " Nobody looked closer: it was too large, or too many were refused at once."
    return Explanation("bad", title, sentence, remedy)


# --- replays

_REPLAYED: Final[dict[str, tuple[Kind, str, str]]] = {
    "instructions-not-served": (
        "info",
        "Verified now",
        "The request asked for instructions, and its call is long gone: none were served. An inbound call that nobody had"
        " heard of is known by it now.",
    ),
    "cannot-be-opened": (
        "bad",
        "The kept request cannot be opened",
        "The key it was sealed with is no longer in the gateway's OFFHOOK_KEYRING.",
    ),
    "no-run": ("info", "Verified now", "It is about no call of ours; nothing was to be done."),
    "malformed": ("bad", "Verified, but not to be understood", "What it says still cannot be understood."),
}


def _of_a_replay(entry: WebhookAudited, around: Surroundings) -> Explanation:
    reason = entry.reason
    if reason is None and entry.verified:
        return Explanation(
            "good",
            "Verified now",
            "The replay was verified, and what it says was told: the record of the call follows.",
        )
    if reason in _REPLAYED:
        kind, title, sentence = _REPLAYED[reason]
        return Explanation(kind, title, sentence)
    refusal = _of_a_refusal(entry, around)
    return Explanation("bad", "Refused again", f"{refusal.title}: {refusal.sentence}", refusal.remedy)
