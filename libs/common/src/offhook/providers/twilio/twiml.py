"""TwiML: what Twilio shall do with a call. https://www.twilio.com/docs/voice/twiml"""

import re
from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from offhook.identities import is_id
from offhook.providers.base import InstructionError
from offhook.providers.twilio.retries import with_retries

CONTENT_TYPE: Final = "text/xml"
MAX_TEXT: Final = 1000
# Name and value of a <Parameter> together stay under 500 characters:
# https://www.twilio.com/docs/voice/twiml/stream
MAX_PARAMETER: Final = 499
# What XML 1.0 cannot hold, not even escaped: https://www.w3.org/TR/xml/#charsets
_NOT_XML: Final = re.compile("[^\\t\\n\\r\\u0020-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
MAX_RING_S: Final = 600
_NUMBER: Final = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", re.ASCII)


def _element(name: str, attributes: Mapping[str, str] | None = None, content: str = "") -> str:
    """`content` is XML already."""
    opening = name + "".join(
        f" {key}={quoteattr(_NOT_XML.sub('', value))}" for key, value in (attributes or {}).items()
    )
    return f"<{opening}>{content}</{name}>" if content else f"<{opening}/>"


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("", text))


def _redirect(url: str) -> str:
    return _element("Redirect", {"method": "POST"}, _text(with_retries(url)))


def _document(*verbs: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{"".join(verbs)}</Response>'.encode()


def connect_stream(
    media_url: str, parameters: Mapping[str, str], continue_url: str, status_url: str | None = None
) -> bytes:
    """Connect the call's audio to `media_url`, both ways, until we close the socket; then ask `continue_url`
    how to go on.

    The `<Redirect>` is what lets a call outlive its bridge: Twilio reaches it whenever the stream ends and
    the call has not. Raises `InstructionError`.
    """
    if "?" in media_url or "#" in media_url:
        # Twilio drops it before connecting; whoever relies on it would find out on a live call.
        raise InstructionError("the URL of a <Stream> must have no query string and no fragment")
    for name, value in parameters.items():
        if len(name) + len(value) > MAX_PARAMETER:
            raise InstructionError(f"<Parameter> {name!r}: name and value exceed {MAX_PARAMETER} characters")
    stream = {"url": media_url}
    if status_url is not None:
        stream |= {"statusCallback": status_url, "statusCallbackMethod": "POST"}
    content = "".join(
        _element("Parameter", {"name": name, "value": value}) for name, value in parameters.items()
    )
    return _document(
        _element("Connect", content=_element("Stream", stream, content)),
        _redirect(continue_url),
    )


def dial_number(to: str, from_number: str, ring_timeout_s: int, action_url: str) -> bytes:
    """Dial another party; whatever comes of it, Twilio asks `action_url` how to go on when that party's call is over.

    https://www.twilio.com/docs/voice/twiml/dial. Raises `InstructionError`.
    """
    for number in (to, from_number):
        if _NUMBER.fullmatch(number) is None:
            raise InstructionError(f"not an E.164 number: {number[:40]!r}")
    attributes = {
        "action": with_retries(action_url),
        "method": "POST",
        "timeout": str(max(1, min(ring_timeout_s, MAX_RING_S))),
        "callerId": from_number,
    }
    return _document(_element("Dial", attributes, _element("Number", content=to)))


def dial_conference(
    name: str, *, starts: bool, action_url: str | None = None, wait_url: str | None = None
) -> bytes:
    """Enter a conference of two, which ends when either leaves; it begins when one enters with `starts`. Raises
    `InstructionError`.

    https://www.twilio.com/docs/voice/twiml/conference. Who waits hears Twilio's own music, or the TwiML of `wait_url`.
    """
    attributes = {
        "startConferenceOnEnter": "true" if starts else "false",
        "endConferenceOnExit": "true",
        "beep": "false",
        "maxParticipants": "2",
    }
    if wait_url is not None:
        attributes |= {"waitUrl": wait_url, "waitMethod": "POST"}
    if not is_id(name):
        raise InstructionError(f"a conference is named like a run; got {name[:80]!r}")
    after = {} if action_url is None else {"action": with_retries(action_url), "method": "POST"}
    return _document(_element("Dial", after, _element("Conference", attributes, _text(name))))


def redirect(url: str) -> bytes:
    """Ask `url` for new TwiML. https://www.twilio.com/docs/voice/twiml/redirect"""
    return _document(_redirect(url))


def say_and_hang_up(text: str, language: str) -> bytes:
    """Speak at most 1000 characters of `text`, then end the call. An odd `language` tag is left out, not
    sent."""
    attributes = {"language": language} if _LANGUAGE.fullmatch(language) else {}
    say = _element("Say", attributes, _text(text[:MAX_TEXT]))
    return _document(say, _element("Hangup"))


def reject(busy: bool) -> bytes:
    """Refuse before answering: not billed. https://www.twilio.com/docs/voice/twiml/reject"""
    return _document(_element("Reject", {"reason": "busy" if busy else "rejected"}))


def hang_up() -> bytes:
    """End the call."""
    return _document(_element("Hangup"))
