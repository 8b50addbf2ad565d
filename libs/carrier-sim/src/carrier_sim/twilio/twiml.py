"""Reads TwiML as strictly as Twilio: what it would refuse (error) or warn about in its debugger (warning) is an objection.

https://www.twilio.com/docs/voice/twiml and its verb pages. Names are case-sensitive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

from carrier_sim.twilio import twiml_dial
from carrier_sim.twilio.twiml_dial import Conference, Dial, Number

__all__ = [
    "MAX_BODY", "MAX_INLINE", "Conference", "Connect", "Dial", "Document", "Hangup", "Number", "Objection", "Pause",
    "Redirect", "Reject", "Say", "Start", "Stream", "Verb", "callback_objection", "read", "read_xml",
]  # fmt: skip

# https://www.twilio.com/docs/api/errors/11750
MAX_BODY = 64 * 1024
# Length of the REST parameter `Twiml` (https://www.twilio.com/docs/voice/api/call-resource).
MAX_INLINE = 4000
_MAX_PARAMETER = 500
_MAX_SAY = 4096

_XML_TYPES = {"text/xml", "application/xml", "text/html"}


@dataclass(frozen=True, slots=True)
class Objection:
    code: str
    message: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class Stream:
    url: str
    name: str | None = None
    track: str = "inbound_track"
    status_callback: str | None = None
    status_callback_method: str = "POST"
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Connect:
    stream: Stream
    action: str | None = None
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Start:
    stream: Stream


@dataclass(frozen=True, slots=True)
class Redirect:
    url: str
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Hangup:
    pass


@dataclass(frozen=True, slots=True)
class Reject:
    reason: Literal["rejected", "busy"] = "rejected"


@dataclass(frozen=True, slots=True)
class Say:
    text: str
    loop: int = 1


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float = 1.0


Verb = Connect | Start | Dial | Redirect | Hangup | Reject | Say | Pause


@dataclass(frozen=True, slots=True)
class Document:
    """The verbs to run, in order. `failed`: the document is refused as a whole, the caller hears "application error"."""

    verbs: tuple[Verb, ...] = ()
    objections: tuple[Objection, ...] = ()
    failed: bool = False


_STREAM_ATTRIBUTES = {"name", "connectorName", "url", "track", "statusCallback", "statusCallbackMethod"}
_ATTRIBUTES: dict[str, set[str]] = {
    "Response": set(),
    "Connect": {"action", "method"},
    "Start": {"action", "method"},
    "Stream": _STREAM_ATTRIBUTES,
    "Parameter": {"name", "value"},
    "Redirect": {"method"},
    "Hangup": set(),
    "Reject": {"reason"},
    "Say": {"voice", "language", "loop"},
    "Pause": {"length"},
    **twiml_dial.ATTRIBUTES,
}
# Verbs that exist at Twilio but not here.
_OTHER_VERBS = {
    "Enqueue", "Gather", "Leave", "Pay", "Play", "Prompt", "Queue", "Record", "Refer", "Sms", "Stop", "Siprec",
}  # fmt: skip
_METHODS = {"GET", "POST"}
_NOUNS = {"Response", "Stream", "Parameter", "Number", "Conference"}


def read(body: bytes, media_type: str) -> Document:
    """Read the answer to a request for instructions. `media_type`: its Content-Type without parameters, lower case."""
    if len(body) > MAX_BODY:
        return _refused(
            Objection("11750", f"TwiML response body too large: {len(body)} bytes, at most {MAX_BODY}")
        )
    if media_type == "text/plain":
        text = body.decode("utf-8", "replace")
        warning = Objection(
            "12300",
            "Content-Type text/plain: the whole answer is read to the caller; text/xml is meant",
            "error",
        )
        return Document((Say(text),), (warning,))
    if media_type.startswith("audio/"):
        return _refused(Objection("sim-unsupported", f"the simulator does not play {media_type} answers"))
    if media_type not in _XML_TYPES:
        return _refused(
            Objection("12300", f"Invalid Content-Type {media_type or '(none)'}; text/xml is expected")
        )
    return read_xml(body)


def read_xml(body: bytes) -> Document:
    """Read a TwiML document."""
    if not body.strip():
        return _refused(Objection("11770", "Empty response body; the least is <Response/>"))
    try:
        root = fromstring(body, forbid_dtd=True)
    except ParseError as error:
        return _refused(Objection("12100", f"Document parse failure: {error}"))
    except DefusedXmlException as error:
        return _refused(Objection("12100", f"Document parse failure: {error} is not allowed"))
    except (ValueError, LookupError) as error:
        return _refused(Objection("12100", f"Document parse failure: {error}"))
    if root.tag != "Response":
        return _refused(Objection("12102", f"The root element must be Response, it is {root.tag}"))
    reader = _Reader()
    verbs = tuple(reader.verbs(root))
    return Document(verbs, tuple(reader.objections))


def _refused(objection: Objection) -> Document:
    return Document((), (objection,), failed=True)


@dataclass(slots=True)
class _Reader:
    objections: list[Objection] = field(default_factory=list)

    def warn(self, code: str, message: str) -> None:
        self.objections.append(Objection(code, message, "warning"))

    def object(self, code: str, message: str) -> None:
        self.objections.append(Objection(code, message))

    def verbs(self, root: Element) -> Iterator[Verb]:
        self.check(root)
        if root.text and root.text.strip():
            self.warn("12200", f"text {root.text.strip()[:40]!r} directly in <Response>")
        for index, element in enumerate(root):
            if verb := self.verb(element, first=index == 0):
                yield verb

    def check(self, element: Element) -> None:
        for attribute in element.attrib:
            if attribute not in _ATTRIBUTES[element.tag]:
                self.warn("12200", f"attribute {attribute!r} is not allowed in <{element.tag}>")

    def no_children(self, element: Element) -> None:
        for child in element:
            self.warn("12200", f"<{child.tag}> is not allowed in <{element.tag}>")

    def method(self, element: Element, attribute: str, code: str) -> str:
        value = element.get(attribute, "POST")
        if value not in _METHODS:
            self.warn(code, f"<{element.tag} {attribute}={value!r}>: GET or POST expected")
            return "POST"
        return value

    def verb(self, element: Element, *, first: bool) -> Verb | None:
        tag = element.tag
        if tag in _OTHER_VERBS:
            self.object("sim-unsupported", f"the simulator does not know the verb <{tag}>; it is skipped")
            return None
        if tag not in _ATTRIBUTES or tag in _NOUNS:
            self.warn("12200", f"<{tag}> is not a TwiML verb; it is skipped")
            return None
        self.check(element)
        match tag:
            case "Connect" | "Start":
                stream = self.only_stream(element)
                if stream is None:
                    return None
                if tag == "Start":
                    return Start(stream)
                return Connect(stream, element.get("action"), self.method(element, "method", "12200"))
            case "Dial":
                return twiml_dial.read(element, self)
            case "Redirect":
                self.no_children(element)
                # An empty <Redirect/> asks the current document's URL again.
                return Redirect((element.text or "").strip(), self.method(element, "method", "13710"))
            case "Hangup":
                self.no_children(element)
                return Hangup()
            case "Reject":
                return self.reject(element, first=first)
            case "Say":
                return self.say(element)
            case _:
                return self.pause(element)

    def reject(self, element: Element, *, first: bool) -> Verb:
        self.no_children(element)
        if not first:
            self.warn(
                "12200", "<Reject> is not the first verb: the call is answered already, it is only ended"
            )
            return Hangup()
        reason = element.get("reason", "rejected")
        if reason == "busy":
            return Reject("busy")
        if reason != "rejected":
            self.warn("13810", f"Reject: Invalid cause {reason!r}; rejected or busy expected")
        return Reject()

    def say(self, element: Element) -> Verb | None:
        text = " ".join("".join(element.itertext()).split())
        if not text:
            self.warn("13520", "Say: Invalid text: it is empty")
            return None
        if len(text) > _MAX_SAY:
            self.warn("13521", f"<Say> element character limits exceeded: {len(text)}, at most {_MAX_SAY}")
            text = text[:_MAX_SAY]
        loop = element.get("loop", "1")
        if not loop.isdigit():
            self.warn("13510", f"Say: Invalid loop value {loop!r}")
            loop = "1"
        return Say(text, int(loop))

    def pause(self, element: Element) -> Verb:
        self.no_children(element)
        length = element.get("length", "1")
        if not length.isdigit() or int(length) < 1:
            self.warn("13910", f"Pause: Invalid length value {length!r}")
            return Pause()
        return Pause(float(length))

    def only_stream(self, element: Element) -> Stream | None:
        streams = [child for child in element if child.tag == "Stream"]
        for child in element:
            if child.tag != "Stream":
                self.object(
                    "sim-unsupported", f"the simulator does not know <{child.tag}> in <{element.tag}>"
                )
        if not streams:
            self.warn("12200", f"<{element.tag}> holds no <Stream>; it is skipped")
            return None
        if len(streams) > 1 and element.tag == "Connect":
            self.warn(
                "12200",
                "more than one <Stream> in <Connect>: one bidirectional stream a call; the first counts",
            )
        return self.stream(streams[0], bidirectional=element.tag == "Connect")

    def stream(self, element: Element, *, bidirectional: bool) -> Stream | None:
        self.check(element)
        track = element.get("track", "inbound_track")
        allowed = {"inbound_track"} if bidirectional else {"inbound_track", "outbound_track", "both_tracks"}
        if track not in allowed:
            self.object(
                "31941",
                f"Stream: Invalid Track configuration {track!r}; allowed here: {', '.join(sorted(allowed))}",
            )
            return None
        callback = element.get("statusCallback")
        if callback is not None and not callback.startswith(("https://", "http://")):
            self.object(
                "11100", f"Stream: statusCallback {callback!r} is not an absolute URL; nobody is called"
            )
            callback = None
        return Stream(
            url=element.get("url", "").strip(),
            name=element.get("name"),
            track=track,
            status_callback=callback,
            status_callback_method=self.method(element, "statusCallbackMethod", "12200"),
            parameters=tuple(self.parameters(element)),
        )

    def parameters(self, element: Element) -> Iterator[tuple[str, str]]:
        for child in element:
            if child.tag != "Parameter":
                self.warn("12200", f"<{child.tag}> is not allowed in <Stream>")
                continue
            self.check(child)
            name, value = child.get("name"), child.get("value")
            if not name or value is None:
                self.warn("12200", "<Parameter> needs name and value")
                continue
            if len(name) + len(value) > _MAX_PARAMETER:
                # The documentation sets the limit without a code (https://www.twilio.com/docs/voice/twiml/stream).
                self.object(
                    "sim-parameter-too-long",
                    f"<Parameter name={name!r}>: name and value have {len(name) + len(value)} characters,"
                    f" fewer than {_MAX_PARAMETER} are allowed; it is not sent",
                )
                continue
            yield name, value


def callback_objection(body: bytes, media_type: str) -> Objection | None:
    """What Twilio's debugger notes about the answer to a status callback, whose content it does not use."""
    if not body.strip():
        return None
    if media_type == "text/plain" or media_type.startswith("audio/"):
        return None
    if media_type not in _XML_TYPES:
        return Objection(
            "12300", f"Invalid Content-Type {media_type or '(none)'} of the answer to a callback", "warning"
        )
    document = read_xml(body)
    if not document.objections:
        return None
    # Whatever it is, the call goes on: it is noise in the debugger.
    return replace(document.objections[0], severity="warning")
