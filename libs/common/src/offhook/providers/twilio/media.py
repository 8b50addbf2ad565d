"""Twilio Media Streams, both roles, sans I/O.
https://www.twilio.com/docs/voice/media-streams/websocket-messages

JSON text messages; audio is base64 of mu-law at 8 kHz, in pieces of any length. Numbers come as strings.

`TwilioMediaServer` is what the bridge speaks to Twilio: lenient, for Twilio may add events and fields.
`TwilioMediaCarrier` is Twilio itself, for the simulator (strict: it ignores what Twilio would ignore, and
warns with Twilio's numbers) and for the bridge towards an agent that was written for Twilio (lenient: it
counts the same warnings and goes on).
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
import pybase64

from offhook.providers.base import (
    Audio,
    CarrierCommand,
    ClearAudio,
    Dtmf,
    Frame,
    Ignored,
    MarkReached,
    MediaError,
    MediaEvent,
    PlayAudio,
    SetMark,
    StreamStarted,
    StreamStopped,
    Violation,
)
from offhook.providers.playout import Playout
from offhook.providers.scalars import whole_number
from offhook.providers.violations import ViolationLog

SAMPLE_RATE: Final = 8000
BYTES_PER_MS: Final = 8
# https://www.twilio.com/docs/api/errors/31931
MAX_BUFFERED_MS: Final = 10 * 60 * 1000
_MAX_MARKS: Final = 4096

_Number = int | float | str | None


class _MediaFormat(msgspec.Struct):
    encoding: str = "audio/x-mulaw"
    sampleRate: _Number = SAMPLE_RATE  # noqa: N815
    channels: _Number = 1


class _Start(msgspec.Struct):
    streamSid: str = ""  # noqa: N815
    accountSid: str | None = None  # noqa: N815
    callSid: str = ""  # noqa: N815
    mediaFormat: _MediaFormat = msgspec.field(default_factory=_MediaFormat)  # noqa: N815
    customParameters: dict[str, str | int | float | bool | None] = msgspec.field(default_factory=dict)  # noqa: N815


class _Media(msgspec.Struct):
    payload: bytes  # decoded from base64 by msgspec
    timestamp: _Number = None
    track: str = "inbound"


class _Digit(msgspec.Struct):
    digit: str


class _Mark(msgspec.Struct):
    name: str


class _FromTwilio(msgspec.Struct):
    event: str
    streamSid: str = ""  # noqa: N815
    media: _Media | None = None
    mark: _Mark | None = None
    dtmf: _Digit | None = None
    start: _Start | None = None


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    payload: bytes


class _StrictMark(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class _ToTwilioMedia(msgspec.Struct, forbid_unknown_fields=True, tag_field="event", tag="media"):
    streamSid: str  # noqa: N815
    media: _Payload


class _ToTwilioMark(msgspec.Struct, forbid_unknown_fields=True, tag_field="event", tag="mark"):
    streamSid: str  # noqa: N815
    mark: _StrictMark


class _ToTwilioClear(msgspec.Struct, forbid_unknown_fields=True, tag_field="event", tag="clear"):
    streamSid: str  # noqa: N815


_decode_from_twilio = msgspec.json.Decoder(_FromTwilio).decode
_decode_to_twilio = msgspec.json.Decoder(_ToTwilioMedia | _ToTwilioMark | _ToTwilioClear).decode
_JSON_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class TwilioMediaServer:
    """`base.MediaServer` for Twilio."""

    encoding: Literal["mulaw", "pcm_s16le"] = "mulaw"
    sample_rate: int = SAMPLE_RATE

    def __init__(self) -> None:
        self._stream_sid = ""
        self._before_audio = ""
        # Marks that are out, by name, and how many of them were out when we sent `clear`.
        self._out: deque[str] = deque(maxlen=_MAX_MARKS)
        self._void: Counter[str] = Counter()

    def receive(self, message: Frame) -> MediaEvent:
        if isinstance(message, bytes):
            return Ignored("a binary message")
        try:
            decoded = _decode_from_twilio(message)
        except _JSON_ERRORS as error:
            return Ignored(f"not a message of Twilio's: {error}"[:300])
        event = decoded.event
        if event == "media":
            media = decoded.media
            if not self._stream_sid:
                raise MediaError("audio before the start message")
            if media is None or media.track.startswith("outbound"):
                return Ignored("a media message without inbound audio")
            if decoded.streamSid != self._stream_sid:
                return Ignored("audio of another stream")
            return Audio(media.payload, whole_number(media.timestamp))
        if event == "connected":
            return Ignored("connected")
        if event == "start":
            return self._started(decoded)
        if event == "stop":
            return StreamStopped("stop")
        if event == "mark" and decoded.mark is not None:
            return self._mark(decoded.mark.name)
        if event == "dtmf" and decoded.dtmf is not None:
            return Dtmf(decoded.dtmf.digit)
        return Ignored(f"event {event[:40]!r}")

    def send_audio(self, payload: bytes) -> list[Frame]:
        if not payload:
            return []
        return [f'{self._before_audio}{pybase64.b64encode_as_string(payload)}"}}}}']

    def flush_audio(self) -> list[Frame]:
        return []  # messages may have any length: nothing is held back

    def send_mark(self, name: str) -> list[Frame]:
        self._out.append(name)
        return [_json({"event": "mark", "streamSid": self._stream_sid, "mark": {"name": name}})]

    def send_clear(self) -> list[Frame]:
        # "Twilio empties the buffer and sends back all pending marks": from here on those prove nothing.
        self._void.update(self._out)
        self._out.clear()
        while len(self._void) > _MAX_MARKS:
            del self._void[next(iter(self._void))]
        return [_json({"event": "clear", "streamSid": self._stream_sid})]

    def _started(self, message: _FromTwilio) -> MediaEvent:
        if self._stream_sid:
            return Ignored("a second start: a socket has one stream")
        start = message.start
        if start is None:
            raise MediaError("a start message without its start object")
        stream_sid = start.streamSid or message.streamSid
        if not stream_sid or not start.callSid:
            raise MediaError("a start message without streamSid or callSid")
        media_format = start.mediaFormat
        rate, channels = whole_number(media_format.sampleRate), whole_number(media_format.channels)
        if (media_format.encoding, rate, channels) != ("audio/x-mulaw", SAMPLE_RATE, 1):
            raise MediaError(
                "expected audio/x-mulaw, 8000 Hz, 1 channel; "
                f"got {media_format.encoding[:40]!r}, {rate} Hz, {channels}"
            )
        self._stream_sid = stream_sid
        self._before_audio = f'{{"event":"media","streamSid":{_json(stream_sid)},"media":{{"payload":"'
        parameters = {
            name: value if isinstance(value, str) else _json(value)
            for name, value in start.customParameters.items()
        }
        token = parameters.pop("token", "")
        return StreamStarted(stream_sid, start.callSid, start.accountSid, token, SAMPLE_RATE, parameters)

    def _mark(self, name: str) -> MediaEvent:
        # Twilio keeps the order, so the void ones of a name come before those that were sent after the clear.
        if self._void[name] > 0:
            self._void[name] -= 1
            if not self._void[name]:
                del self._void[name]
            return MarkReached(name, certain=False)
        del self._void[name]
        if self._out and self._out[0] == name:
            self._out.popleft()
        elif name in self._out:
            self._out.remove(name)
        else:
            return Ignored("a mark that is not out")
        return MarkReached(name)


class TwilioMediaCarrier:
    """`base.MediaCarrier` for Twilio: the client of a Media Stream.

    `strict`: what Twilio ignores is ignored; else it is understood where it can be, and counted all the same.
    Violation codes are Twilio's: https://www.twilio.com/docs/api/errors/31951 and its neighbours.
    """

    encoding: Literal["mulaw", "pcm_s16le"] = "mulaw"
    sample_rate: int = SAMPLE_RATE

    def __init__(
        self,
        *,
        stream_sid: str,
        call_sid: str,
        account_sid: str,
        parameters: Mapping[str, str] | None = None,
        strict: bool = True,
    ) -> None:
        self._stream_sid = stream_sid
        self._call_sid = call_sid
        self._account_sid = account_sid
        self._parameters = dict(parameters or {})
        self._strict = strict
        self._sequence = 0
        self._chunk = 0
        self._sent_bytes = 0
        self._log = ViolationLog()
        self._binary_reported = False
        self._playout = Playout(BYTES_PER_MS)
        sid = _json(stream_sid)
        self._after_media = f'}},"streamSid":{sid}}}'

    @property
    def violations(self) -> list[Violation]:
        return self._log.kept

    @property
    def violation_count(self) -> int:
        return self._log.count

    @property
    def buffered_ms(self) -> float:
        return self._playout.buffered_ms

    def opening(self) -> list[Frame]:
        return [self.connected(), self.start()]

    def connected(self) -> str:
        """The first message; it names no stream."""
        return _json({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def start(self) -> str:
        return self._message(
            "start",
            {
                "accountSid": self._account_sid,
                "streamSid": self._stream_sid,
                "callSid": self._call_sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": SAMPLE_RATE, "channels": 1},
                "customParameters": self._parameters,
            },
        )

    def media(self, payload: bytes, timestamp_ms: int | None = None) -> str:
        """Caller's audio, mu-law. `timestamp_ms` since the stream's start; by default what was sent before,
        in ms."""
        self._sequence += 1
        self._chunk += 1
        at = self._sent_bytes // BYTES_PER_MS if timestamp_ms is None else timestamp_ms
        self._sent_bytes += len(payload)
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","media":{{"track":"inbound","chunk":"{self._chunk}",'
            f'"timestamp":"{at}","payload":"{pybase64.b64encode_as_string(payload)}"{self._after_media}'
        )

    def dtmf(self, digit: str) -> str:
        return self._message("dtmf", {"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> str:
        return self._message("mark", {"name": name})

    def stop(self) -> str:
        return self._message("stop", {"accountSid": self._account_sid, "callSid": self._call_sid})

    def send_audio(self, payload: bytes) -> list[Frame]:
        return [self.media(payload)]

    def send_dtmf(self, digit: str) -> list[Frame]:
        return [self.dtmf(digit)]

    def send_mark(self, name: str) -> list[Frame]:
        return [self.mark(name)]

    def send_cleared(self) -> list[Frame]:
        return []  # Twilio confirms a clear only by the marks it returns

    def closing(self) -> list[Frame]:
        return [self.stop()]

    def interpret(self, message: Frame) -> CarrierCommand:
        if isinstance(message, bytes):
            if not self._binary_reported:  # Twilio, too, reports it once a stream
                self._log.add("31950", "a binary message; only text messages are read")
                self._binary_reported = True
            return Ignored("a binary message")
        try:
            decoded = _decode_to_twilio(message)
        except _JSON_ERRORS as error:
            self._log.add("31951", f"not a message to Twilio: {error}")
            return Ignored("invalid message") if self._strict else self._understand(message)
        if decoded.streamSid != self._stream_sid:
            self._log.add("31951", "the message names another streamSid")
            if self._strict:
                return Ignored("another stream")
        match decoded:
            case _ToTwilioMedia(media=media):
                return PlayAudio(media.payload)
            case _ToTwilioMark(mark=mark):
                return SetMark(mark.name)
            case _:
                return ClearAudio()

    def receive(self, message: Frame, now_ms: float) -> list[Frame]:
        frames = self.tick(now_ms)
        match self.interpret(message):
            case PlayAudio(payload):
                if self._playout.buffered_ms + len(payload) / BYTES_PER_MS > MAX_BUFFERED_MS:
                    self._log.add(
                        "31931", "more than ten minutes of audio are queued; this message is discarded"
                    )
                else:
                    self._playout.push(payload, now_ms)
            case SetMark(name):
                if self._playout.mark(name):
                    frames.append(self.mark(name))
            case ClearAudio():
                frames += [self.mark(name) for name in self._playout.clear()]
        return frames

    def tick(self, now_ms: float) -> list[Frame]:
        return [self.mark(name) for name in self._playout.advance(now_ms)]

    def take_played(self) -> bytes:
        return self._playout.take_played()

    def _understand(self, message: str) -> CarrierCommand:
        # Already counted; here only what was meant matters.
        try:
            decoded = _decode_from_twilio(message)
        except _JSON_ERRORS:
            return Ignored("invalid message")
        match decoded:
            case _FromTwilio(event="media", media=_Media(payload=payload)):
                return PlayAudio(payload)
            case _FromTwilio(event="mark", mark=_Mark(name=name)):
                return SetMark(name)
            case _FromTwilio(event="clear"):
                return ClearAudio()
        return Ignored(f"event {decoded.event[:40]!r}")

    def _message(self, event: str, content: Mapping[str, object]) -> str:
        self._sequence += 1
        return _json(
            {
                "event": event,
                "sequenceNumber": str(self._sequence),
                event: content,
                "streamSid": self._stream_sid,
            }
        )
