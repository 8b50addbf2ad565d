"""The URLs that bring a call back for its next instructions. Pure: built here, read here.

A call can need instructions many times: after its audio was lost, after a deploy. Each answer therefore names
the number of the next connect (`connect=2`), so that

* every request for instructions is different from the one before, even where the provider sends the same
fields again
  (Twilio's `<Redirect>`): its media token differs, too;
* a retry of one request is answered with the same token: the provider can use only one of the two answers.

A call that comes back from a transfer counts anew: `after` names the transfer, in all URLs that follow.

Events about the media leg (Vonage) go to the status URL; it carries what new instructions need, because the
event does not name the caller's leg. Nothing here is secret or trusted: the request that brings it back is
verified, and owner, workflow and call are checked again.
"""

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args
from urllib.parse import parse_qs, urlencode, urlsplit

from offhook.events import TransferResult
from offhook.identities import DERIVED_RUN, is_id, status_path, webhook_path

_MAX_URL: Final = 2048
_MAX_QUERY: Final = 1024
_MAX_CALL_ID: Final = 128
_TRANSFER_WORDS: Final = frozenset({"cold", *get_args(TransferResult)})


@dataclass(frozen=True, slots=True)
class MediaLeg:
    """What the status URL of a media leg says about its call. `attempt` is the number of the next connect."""

    workflow_id: str
    user_id: str
    attempt: int
    after: str = ""


@dataclass(frozen=True, slots=True)
class Transferred:
    """The call was transferred (`identities.transfer_path`): `word` is `cold`, or what became of it. `transfer_id` tells
    it from the call's other transfers."""

    word: Literal["cold"] | TransferResult
    provider_call_id: str
    transfer_id: str


@dataclass(frozen=True, slots=True)
class Continuation:
    """What one of our own URLs says about the call it is for."""

    workflow_id: str
    user_id: str
    workflow_run_id: str
    attempt: int
    after: str = ""
    transferred: Transferred | None = None


def continue_url(
    origin: str, workflow_id: str, user_id: str, workflow_run_id: str, attempt: int, after: str = ""
) -> str:
    """Where the provider asks for instructions after connect number `attempt` ended."""
    query = urlencode({"connect": attempt + 1, **({"after": after} if after else {})})
    return f"{origin}{webhook_path(workflow_id, user_id, workflow_run_id)}?{query}"


def media_leg_url(origin: str, leg: MediaLeg, workflow_run_id: str) -> str:
    """Where the provider reports on the media leg."""
    said = {"workflow_id": leg.workflow_id, "user_id": leg.user_id, "connect": leg.attempt}
    query = urlencode({**said, **({"after": leg.after} if leg.after else {})})
    return f"{origin}{status_path(workflow_run_id)}?{query}"


def attempt_of(query: str) -> int:
    """The number of the connect a raw query asks for; 1 where it says nothing or nonsense."""
    return _attempt(_fields(query).get("connect", ""))


def after_of(query: str) -> str:
    """The transfer a raw query's call comes back from; '' where it says nothing or nonsense."""
    after = _fields(query).get("after", "")
    return after if is_id(after) else ""


def transferred_of(query: str) -> Transferred | None:
    """Read back what `identities.transfer_path` says; None when it is not one."""
    fields = _fields(query)
    word, call, after = (fields.get(name, "") for name in ("transfer", "call", "after"))
    if word not in _TRANSFER_WORDS or not call or len(call) > _MAX_CALL_ID or not is_id(after):
        return None
    return Transferred(cast(TransferResult, word), call, after)


def media_leg_of(query: str) -> MediaLeg | None:
    """Read a status URL's raw query back; None when it is not one of `media_leg_url`."""
    fields = _fields(query)
    workflow_id, user_id = fields.get("workflow_id", ""), fields.get("user_id", "")
    if not (is_id(workflow_id) and is_id(user_id)):
        return None
    return MediaLeg(workflow_id, user_id, _attempt(fields.get("connect", "")), after_of(query))


def continuation_of(url: str) -> Continuation | None:
    """Read back a URL that a provider could not get instructions from, as its fallback request names it.

    None when it is not a URL of one call (the inbound URL, or none of ours).
    """
    if len(url) > _MAX_URL:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    segments = parts.path.split("/")
    match segments[-4:]:
        case ["webhook", workflow_id, user_id, run] if is_id(workflow_id) and is_id(user_id) and is_id(run):
            if parts.path == webhook_path(workflow_id, user_id, run):
                return continuation(workflow_id, user_id, run, parts.query)
    run = segments[-1]
    leg = media_leg_of(parts.query)
    if leg is None or not is_id(run) or run == DERIVED_RUN or parts.path != status_path(run):
        return None
    return Continuation(leg.workflow_id, leg.user_id, run, leg.attempt, leg.after)


def continuation(workflow_id: str, user_id: str, workflow_run_id: str, query: str) -> Continuation:
    """What a request for instructions says that has this raw query."""
    return Continuation(
        workflow_id, user_id, workflow_run_id, attempt_of(query), after_of(query), transferred_of(query)
    )


def _fields(query: str) -> dict[str, str]:
    if not query or len(query) > _MAX_QUERY:
        return {}
    return {name: values[0] for name, values in parse_qs(query).items()}


def _attempt(text: str) -> int:
    if 0 < len(text) <= 6 and text.isascii() and text.isdigit():
        return max(1, int(text))
    return 1
