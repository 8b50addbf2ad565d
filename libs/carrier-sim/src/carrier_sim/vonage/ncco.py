"""Reads NCCOs as strictly as Vonage. https://developer.vonage.com/en/voice/voice-api/ncco-reference"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from carrier_sim.vonage.plan import Detection

# Vonage's own words in the error event.
SYNTAX_ERROR = "Syntax error in NCCO. Invalid value type or action."
_MAX_TALK = 1500
_MAX_HEADERS = 512
_MAX_AUTHORIZATION = 8191

RATES = {"audio/l16;rate=8000": 8000, "audio/l16;rate=16000": 16000, "audio/l16;rate=24000": 24000}

_OTHER_ACTIONS = {"record", "stream", "input", "transfer"}
_NOTIFY_FIELDS = {"action", "payload", "eventUrl", "eventMethod"}
_CONNECT_FIELDS = {
    "action", "endpoint", "from", "randomFromNumber", "eventType", "timeout", "limit", "machineDetection",
    "advancedMachineDetection", "eventUrl", "eventMethod", "ringbackTone",
}  # fmt: skip
_ENDPOINT_FIELDS = {"type", "uri", "content-type", "headers", "authorization"}
_PHONE_FIELDS = {"type", "number", "dtmfAnswer", "onAnswer", "shaken"}
_CONVERSATION_FIELDS = {
    "action", "name", "musicOnHoldUrl", "startOnEnter", "endOnExit", "record", "canSpeak", "canHear", "mute",
    "transcription", "eventUrl", "eventMethod",
}  # fmt: skip
_MSISDN = re.compile(r"[1-9]\d{6,14}")
_DTMF = re.compile(r"[0-9*#p]+")
_TALK_FIELDS = {"action", "text", "bargeIn", "loop", "level", "language", "style", "premium", "voiceName"}


@dataclass(frozen=True, slots=True)
class Objection:
    code: str
    message: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect a WebSocket. `authorization`: None, `vonage`, or the literal value of the header."""

    uri: str
    sample_rate: int
    content_type: str
    headers: Mapping[str, Any]
    vonage_authorization: bool = False
    custom_authorization: str | None = None
    event_url: str | None = None
    event_method: Literal["GET", "POST"] = "POST"
    synchronous: bool = False
    limit_s: float = 7200.0


@dataclass(frozen=True, slots=True)
class ConnectPhone:
    """Ring a phone (digits only) and connect it. `dtmf_answer`: keys pressed once it is answered."""

    number: str
    from_number: str | None = None
    dtmf_answer: str = ""
    timeout_s: float = 60.0
    detection: Detection | None = None
    event_url: str | None = None
    event_method: Literal["GET", "POST"] = "POST"
    synchronous: bool = False
    limit_s: float = 7200.0


@dataclass(frozen=True, slots=True)
class Conversation:
    """Enter a named conversation. `starts`: it begins with this leg at the latest; `ends`: it ends when this leg leaves."""

    name: str
    starts: bool = True
    ends: bool = False
    muted: bool = False


@dataclass(frozen=True, slots=True)
class Talk:
    text: str
    loop: int = 1


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell an event URL, which may answer with another NCCO."""

    payload: Mapping[str, Any]
    event_url: str
    event_method: Literal["GET", "POST"] = "POST"


Action = Connect | ConnectPhone | Conversation | Talk | Wait | Notify


@dataclass(frozen=True, slots=True)
class Ncco:
    """The actions to run. `failed`: refused as a whole, `reason` goes into the error event."""

    actions: tuple[Action, ...] = ()
    objections: tuple[Objection, ...] = ()
    failed: bool = False
    reason: str = ""


class _SyntaxError(Exception):
    def __init__(self, message: str, code: str = "vonage-ncco-syntax", reason: str = SYNTAX_ERROR) -> None:
        super().__init__(message)
        self.objection = Objection(code, message)
        self.reason = reason


def read(body: bytes, media_type: str) -> Ncco:
    """Read the answer to an answer webhook. `media_type`: its Content-Type without parameters, lower case."""
    if media_type != "application/json":
        message = f"Content-Type {media_type or '(none)'} of an NCCO; application/json is expected"
        return Ncco((), (Objection("vonage-content-type", message),), True, "Invalid content type.")
    try:
        data = json.loads(body)
    except ValueError as error:
        message = f"the NCCO is not JSON: {error}"
        return Ncco((), (Objection("vonage-ncco-syntax", message),), True, SYNTAX_ERROR)
    return read_actions(data)


def read_actions(data: Any) -> Ncco:
    """Read an NCCO that is already decoded."""
    reader = _Reader()
    try:
        if not isinstance(data, list):
            raise _SyntaxError(f"an NCCO is a JSON array of actions, got {type(data).__name__}")
        actions = tuple(reader.action(item) for item in data)
    except _SyntaxError as error:
        return Ncco((), (*reader.objections, error.objection), True, error.reason)
    return Ncco(tuple(a for a in actions if a is not None), tuple(reader.objections))


@dataclass(slots=True)
class _Reader:
    objections: list[Objection] = field(default_factory=list)

    def warn(self, code: str, message: str) -> None:
        self.objections.append(Objection(code, message, "warning"))

    def unknown_fields(self, item: Mapping[str, Any], known: set[str], where: str) -> None:
        for name in item:
            if name not in known:
                self.warn("vonage-ncco-unknown-field", f"{where} has the unknown field {name!r}")

    def action(self, item: Any) -> Action | None:
        if not isinstance(item, dict) or not isinstance(item.get("action"), str):
            raise _SyntaxError(f"an action is an object with the field action, got {json.dumps(item)[:80]}")
        match item["action"]:
            case "connect":
                return self.connect(item)
            case "conversation":
                return self.conversation(item)
            case "talk":
                return self.talk(item)
            case "notify":
                return self.notify(item)
            case "wait":
                timeout = item.get("timeout", 10)
                if not _is_number(timeout) or not 0.1 <= timeout <= 7200:
                    raise _SyntaxError(f"wait: timeout {timeout!r}; 0.1 to 7200 seconds expected")
                return Wait(float(timeout))
            case other if other in _OTHER_ACTIONS:
                message = f"the simulator does not know the action {other}; it is skipped"
                self.objections.append(Objection("sim-unsupported", message))
                return None
            case other:
                # There is no hangup and no reject: the call ends when the NCCO ends.
                raise _SyntaxError(f"there is no NCCO action {other!r}")

    def talk(self, item: dict[str, Any]) -> Talk:
        self.unknown_fields(item, _TALK_FIELDS, "talk")
        text, loop = item.get("text"), item.get("loop", 1)
        if not isinstance(text, str) or not text.strip():
            raise _SyntaxError("talk: text is expected to be a string that is not empty")
        if len(text) > _MAX_TALK:
            raise _SyntaxError(f"talk: text has {len(text)} characters, at most {_MAX_TALK}")
        if not isinstance(loop, int) or isinstance(loop, bool) or loop < 0:
            raise _SyntaxError(f"talk: loop {loop!r}; an integer is expected, 0 repeats for ever")
        return Talk(text, loop)

    def connect(self, item: dict[str, Any]) -> Connect | ConnectPhone | None:
        self.unknown_fields(item, _CONNECT_FIELDS, "connect")
        endpoints = item.get("endpoint")
        if not isinstance(endpoints, list) or len(endpoints) != 1 or not isinstance(endpoints[0], dict):
            raise _SyntaxError("connect: endpoint is expected to be an array of exactly one object")
        event_type = item.get("eventType")
        if event_type not in (None, "synchronous"):
            raise _SyntaxError(f"connect: eventType {event_type!r}; only synchronous is known")
        event_method = item.get("eventMethod", "POST")
        if event_method not in ("GET", "POST"):
            raise _SyntaxError(f"connect: eventMethod {event_method!r}; GET or POST expected")
        event_url = item.get("eventUrl")
        if event_url is not None and not _is_url_list(event_url):
            raise _SyntaxError(f"connect: eventUrl is expected to be an array of one URL, got {event_url!r}")
        if event_type == "synchronous" and event_url is None:
            self.warn(
                "vonage-ncco-no-event-url", "connect is synchronous, but there is no eventUrl to answer"
            )
        for name in ("timeout", "limit"):
            if name in item and (not _is_number(item[name]) or item[name] < 1):
                raise _SyntaxError(f"connect: {name} {item[name]!r}; seconds expected")
        limit = float(item.get("limit", 7200))
        if limit > 7200:
            self.warn("vonage-ncco-limit", f"connect: limit {limit:g}; at most 7200 seconds count")
        if endpoints[0].get("type") == "phone":
            return self.phone(
                endpoints[0],
                item,
                event_url=event_url[0] if event_url else None,
                event_method=event_method,
                synchronous=event_type == "synchronous",
                limit_s=min(limit, 7200.0),
            )
        return self.websocket(
            endpoints[0],
            event_url=event_url[0] if event_url else None,
            event_method=event_method,
            synchronous=event_type == "synchronous",
            limit_s=min(limit, 7200.0),
        )

    def phone(self, endpoint: dict[str, Any], item: dict[str, Any], **common: Any) -> ConnectPhone:
        self.unknown_fields(endpoint, _PHONE_FIELDS, "the phone endpoint")
        number, sender = endpoint.get("number"), item.get("from")
        if not isinstance(number, str) or not _MSISDN.fullmatch(number):
            raise _SyntaxError(f"connect: {number!r} is not a number of 7 to 15 digits without +")
        if sender is not None and (not isinstance(sender, str) or not sender.isdigit()):
            raise _SyntaxError(f"connect: from {sender!r}; digits without + expected")
        keys = endpoint.get("dtmfAnswer", "")
        if not isinstance(keys, str) or (keys and not _DTMF.fullmatch(keys)):
            raise _SyntaxError(f"connect: dtmfAnswer {keys!r}; 0-9, *, # and p expected")
        if "onAnswer" in endpoint:
            message = "the simulator does not play to who answers: onAnswer is ignored"
            self.objections.append(Objection("sim-unsupported", message))
        detection = read_detection(item, "machineDetection", "advancedMachineDetection")
        if isinstance(detection, str):
            raise _SyntaxError(f"connect: {detection}")
        timeout = min(float(item.get("timeout", 60)), 120.0)
        return ConnectPhone(number, sender, keys, timeout, detection, **common)

    def conversation(self, item: dict[str, Any]) -> Conversation:
        self.unknown_fields(item, _CONVERSATION_FIELDS, "conversation")
        name = item.get("name")
        if not isinstance(name, str) or not name.strip():
            raise _SyntaxError("conversation: name is expected to be a string that is not empty")
        for flag in ("startOnEnter", "endOnExit", "record", "mute"):
            if not isinstance(item.get(flag, False), bool):
                raise _SyntaxError(f"conversation: {flag} {item[flag]!r}; a boolean expected")
        for members in ("canSpeak", "canHear"):
            if members in item:
                message = f"the simulator lets all speak and hear: {members} is ignored"
                self.objections.append(Objection("sim-unsupported", message))
        url = item.get("musicOnHoldUrl")
        if url is not None and not _is_url_list(url):
            raise _SyntaxError(
                f"conversation: musicOnHoldUrl is expected to be an array of one URL, got {url!r}"
            )
        return Conversation(
            name, item.get("startOnEnter", True), item.get("endOnExit", False), item.get("mute", False)
        )

    def notify(self, item: dict[str, Any]) -> Notify:
        self.unknown_fields(item, _NOTIFY_FIELDS, "notify")
        payload, url, method = item.get("payload"), item.get("eventUrl"), item.get("eventMethod", "POST")
        if not isinstance(payload, dict):
            raise _SyntaxError("notify: payload is expected to be an object")
        if not _is_url_list(url):
            raise _SyntaxError(f"notify: eventUrl is expected to be an array of one URL, got {url!r}")
        if method not in ("GET", "POST"):
            raise _SyntaxError(f"notify: eventMethod {method!r}; GET or POST expected")
        return Notify(payload, item["eventUrl"][0], method)

    def websocket(self, endpoint: dict[str, Any], **common: Any) -> Connect | None:
        kind = endpoint.get("type")
        if kind in ("sip", "vbc", "app"):
            message = f"the simulator does not connect endpoints of type {kind}; the action is skipped"
            self.objections.append(Objection("sim-unsupported", message))
            return None
        if kind != "websocket":
            raise _SyntaxError(f"connect: there is no endpoint type {kind!r}")
        self.unknown_fields(endpoint, _ENDPOINT_FIELDS, "the websocket endpoint")
        uri, content_type = endpoint.get("uri"), endpoint.get("content-type")
        if not isinstance(uri, str) or not uri:
            raise _SyntaxError("connect: the websocket endpoint has no uri")
        if content_type not in RATES:
            raise _SyntaxError(f"connect: content-type {content_type!r}; one of {', '.join(RATES)} expected")
        headers = endpoint.get("headers", {})
        if not isinstance(headers, dict):
            raise _SyntaxError("connect: headers is expected to be an object")
        size = len(json.dumps(headers, separators=(",", ":"), ensure_ascii=False).encode())
        if size > _MAX_HEADERS:
            raise _SyntaxError(
                f"connect: headers are {size} bytes, at most {_MAX_HEADERS}", "vonage-headers-too-large"
            )
        for name in ("event", "content-type"):
            if name in headers:
                message = f"the header {name!r} collides with the field of websocket:connected"
                self.objections.append(Objection("vonage-header-collision", message))
        vonage, custom = self.authorization(endpoint.get("authorization"))
        return Connect(
            uri=uri,
            sample_rate=RATES[content_type],
            content_type=content_type,
            headers=headers,
            vonage_authorization=vonage,
            custom_authorization=custom,
            **common,
        )

    def authorization(self, value: Any) -> tuple[bool, str | None]:
        if value is None:
            return False, None
        if not isinstance(value, dict) or value.get("type") not in ("vonage", "custom"):
            raise _SyntaxError(f"connect: authorization {value!r}; type vonage or custom expected")
        if value["type"] == "vonage":
            return True, None
        text = value.get("value")
        if not isinstance(text, str) or not text:
            raise _SyntaxError("connect: authorization of type custom needs a value")
        if len(text) > _MAX_AUTHORIZATION or not text.isascii() or not text.isprintable():
            raise _SyntaxError(f"connect: authorization value: at most {_MAX_AUTHORIZATION} printable ASCII")
        return False, text


def read_detection(data: Mapping[str, Any], plain: str, advanced: str) -> Detection | str | None:
    """The machine detection that is asked for under these names, or what is wrong with it."""
    if (wanted := data.get(advanced)) is not None:
        if not isinstance(wanted, dict) or set(wanted) - {"behavior", "mode", "beep_timeout"}:
            return f"{advanced}: an object with behavior, mode and beep_timeout expected"
        behavior, mode = wanted.get("behavior", "continue"), wanted.get("mode", "default")
        timeout = wanted.get("beep_timeout", 45)
        if behavior not in ("continue", "hangup"):
            return f"{advanced}.behavior: continue or hangup expected"
        if mode not in ("default", "detect", "detect_beep"):
            return f"{advanced}.mode: default, detect or detect_beep expected"
        if not isinstance(timeout, int) or isinstance(timeout, bool) or not 45 <= timeout <= 120:
            return f"{advanced}.beep_timeout: 45 to 120 expected"
        return Detection(behavior == "hangup", True, mode, float(timeout))
    if (behavior := data.get(plain)) is None:
        return None
    if behavior not in ("continue", "hangup"):
        return f"{plain}: continue or hangup expected"
    return Detection(behavior == "hangup")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_url_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)
