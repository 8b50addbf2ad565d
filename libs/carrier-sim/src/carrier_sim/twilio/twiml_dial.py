"""Reads `<Dial>` and whom it connects with. https://www.twilio.com/docs/voice/twiml/dial, …/number, …/conference"""

import re
from dataclasses import dataclass
from typing import Final, Protocol
from xml.etree.ElementTree import Element

_E164: Final = re.compile(r"\+[1-9]\d{1,14}")
_DIGITS: Final = re.compile(r"[0-9*#wW]{1,32}")
_EVENTS: Final = frozenset({"initiated", "ringing", "answered", "completed"})
_MAX_ROOM_NAME: Final = 128

ATTRIBUTES: Final[dict[str, set[str]]] = {
    "Dial": {
        "action", "answerOnBridge", "callerId", "callReason", "events", "hangupOnStar", "method", "record",
        "recordingStatusCallback", "recordingStatusCallbackEvent", "recordingStatusCallbackMethod", "recordingTrack",
        "referMethod", "referUrl", "ringTone", "sequential", "timeLimit", "timeout", "trim",
    },
    "Number": {
        "amdStatusCallback", "amdStatusCallbackMethod", "byoc", "machineDetection",
        "machineDetectionSilenceTimeout", "machineDetectionSpeechEndThreshold",
        "machineDetectionSpeechThreshold", "machineDetectionTimeout", "method", "sendDigits", "statusCallback",
        "statusCallbackEvent", "statusCallbackMethod", "url",
    },
    "Conference": {
        "beep", "coach", "endConferenceOnExit", "eventCallbackUrl", "jitterBufferSize", "maxParticipants", "muted",
        "participantLabel", "record", "recordingStatusCallback", "recordingStatusCallbackEvent",
        "recordingStatusCallbackMethod", "region", "startConferenceOnEnter", "statusCallback",
        "statusCallbackEvent", "statusCallbackMethod", "trim", "waitMethod", "waitUrl",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Number:
    """A phone to ring. E.164."""

    number: str
    send_digits: str = ""
    status_callback: str = ""
    status_method: str = "POST"
    status_events: frozenset[str] = frozenset({"completed"})


@dataclass(frozen=True, slots=True)
class Conference:
    name: str
    muted: bool = False
    starts: bool = True
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect with somebody. `action`: asked for the next document when that is over, whatever came of it."""

    target: Number | Conference
    action: str | None = None
    method: str = "POST"
    timeout_s: float = 30.0
    limit_s: float = 14400.0
    caller_id: str | None = None


class Reader(Protocol):
    """What reads the rest of the document and collects objections."""

    def warn(self, code: str, message: str) -> None: ...
    def object(self, code: str, message: str) -> None: ...
    def check(self, element: Element) -> None: ...
    def no_children(self, element: Element) -> None: ...
    def method(self, element: Element, attribute: str, code: str) -> str: ...


def read(element: Element, reader: Reader) -> Dial | None:
    """A `<Dial>`; None when it connects with nobody."""
    target = _target(element, reader)
    if target is None:
        return None
    return Dial(
        target,
        element.get("action"),
        reader.method(element, "method", "13210"),
        float(_seconds(element, "timeout", 30, 1, 600, "13212", reader)),
        float(_seconds(element, "timeLimit", 14400, 1, 86400, "13216", reader)),
        element.get("callerId"),
    )


def _target(element: Element, reader: Reader) -> Number | Conference | None:
    nouns = list(element)
    text = (element.text or "").strip()
    if not nouns:
        return _number(text, element, reader)
    if len(nouns) > 1:
        reader.object("sim-unsupported", "the simulator rings one number of a <Dial>: the first counts")
    noun = nouns[0]
    match noun.tag:
        case "Number":
            reader.check(noun)
            reader.no_children(noun)
            if noun.get("url"):
                reader.object("sim-unsupported", "the simulator does not whisper: <Number url> is ignored")
            return _number((noun.text or "").strip(), noun, reader)
        case "Conference":
            return _conference(noun, reader)
        case "Client" | "Sip" | "Sim" | "Queue" | "Application" | "WhatsApp":
            reader.object("sim-unsupported", f"the simulator does not dial a <{noun.tag}>")
        case _:
            reader.warn("13215", f"Dial: Invalid nested element <{noun.tag}>")
    return None


def _number(text: str, element: Element, reader: Reader) -> Number | None:
    if not _E164.fullmatch(re.sub(r"[ ().-]", "", text)):
        reader.object("13223", f"Dial: Invalid phone number format: {text!r}")
        return None
    if element.tag != "Number":
        return Number(re.sub(r"[ ().-]", "", text))
    digits = element.get("sendDigits", "")
    if digits and not _DIGITS.fullmatch(digits):
        reader.warn("13222", f"Dial->Number: Invalid sendDigits value {digits!r}")
        digits = ""
    events = frozenset(element.get("statusCallbackEvent", "").split())
    if unknown := events - _EVENTS:
        reader.warn("21626", f"Invalid statusCallbackEvents: {', '.join(sorted(unknown))}")
    return Number(
        re.sub(r"[ ().-]", "", text),
        digits,
        element.get("statusCallback", ""),
        reader.method(element, "statusCallbackMethod", "13221"),
        (events & _EVENTS) or frozenset({"completed"}),
    )


def _conference(element: Element, reader: Reader) -> Conference | None:
    reader.check(element)
    reader.no_children(element)
    name = (element.text or "").strip()
    if not name or len(name) > _MAX_ROOM_NAME:
        reader.object(
            "13237", f"Dial->Conference: Invalid conference name: 1 to {_MAX_ROOM_NAME} characters expected"
        )
        return None
    wait_url = element.get("waitUrl", "")
    if wait_url and not wait_url.startswith(("https://", "http://", "/")):
        reader.warn("13233", f"Dial->Conference: Invalid waitUrl {wait_url!r}")
    return Conference(
        name,
        _flag(element, "muted", False, "13230", reader),
        _flag(element, "startConferenceOnEnter", True, "13232", reader),
        _flag(element, "endConferenceOnExit", False, "13231", reader),
    )


def _flag(element: Element, name: str, default: bool, code: str, reader: Reader) -> bool:
    value = element.get(name)
    if value in ("true", "false"):
        return value == "true"
    if value is not None:
        reader.warn(code, f"Dial->Conference: Invalid {name} value {value!r}; true or false expected")
    return default


def _seconds(
    element: Element, name: str, default: int, low: int, high: int, code: str, reader: Reader
) -> int:
    value = element.get(name)
    if value is None:
        return default
    if not value.isdigit() or not low <= int(value) <= high:
        reader.warn(code, f"Dial: Invalid {name} value {value!r}; {low} to {high} seconds expected")
        return default
    return int(value)
