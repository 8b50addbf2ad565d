"""Vonage's WebSocket audio, both roles, sans I/O.
https://developer.vonage.com/en/voice/voice-api/concepts/websockets

Binary messages are 16-bit little-endian PCM, mono, exactly 20 ms each; text messages are JSON. There is no
message that ends the stream: whoever is done closes the socket.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from offhook.providers.base import (
    Audio,
    CarrierCommand,
    ClearAudio,
    Cleared,
    Dtmf,
    Frame,
    Ignored,
    MarkReached,
    MediaError,
    MediaEvent,
    PlayAudio,
    SetMark,
    StreamStarted,
    Violation,
)
from offhook.providers.playout import Playout
from offhook.providers.scalars import whole_number
from offhook.providers.violations import ViolationLog
from offhook.providers.vonage.ncco import SAMPLE_RATES

FRAME_MS: Final = 20
# About a minute: what Vonage buffers. Beyond it the docs say nothing; the carrier drops and complains.
MAX_BUFFERED_MESSAGES: Final = 3072
_MAX_MARKS: Final = 4096
_CONTENT_TYPE: Final = re.compile(r"audio/l16; ?rate=(\d{4,5})", re.ASCII | re.IGNORECASE)
_RESERVED: Final = ("event", "content-type")

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_JSON_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def frame_bytes(sample_rate: int) -> int:
    """The size of every audio message: 320, 640 or 960 bytes at 8, 16 or 24 kHz."""
    return sample_rate * 2 * FRAME_MS // 1000


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class VonageMediaServer:
    """`base.MediaServer` for Vonage. Marks are `notify` messages: Vonage returns the payload when it has
    played so far."""

    encoding: Literal["mulaw", "pcm_s16le"] = "pcm_s16le"

    def __init__(self) -> None:
        self.sample_rate = 16000
        self._frame = frame_bytes(16000)
        self._started = False
        self._rest = b""
        self._serial = 0
        # Marks that are out: serial number and name, oldest first.
        self._out: deque[tuple[int, str]] = deque()
        # For each clear that is not confirmed, the serial number of the last mark before it.
        self._clears: deque[int] = deque(maxlen=_MAX_MARKS)

    def receive(self, message: Frame) -> MediaEvent:
        if isinstance(message, bytes):
            if not self._started:
                raise MediaError("audio before the first message, websocket:connected")
            if not message or len(message) & 1:
                return Ignored("audio of half a sample")
            return Audio(message)
        try:
            fields = _decode(message)
        except _JSON_ERRORS as error:
            return Ignored(f"not a JSON object: {error}"[:300])
        match fields.get("event"):
            case "websocket:connected":
                return self._connected(fields)
            case "websocket:dtmf":
                digit = fields.get("digit")
                if (
                    not isinstance(digit, str | int)
                    or isinstance(digit, bool)
                    or not 1 <= len(str(digit)[:9]) <= 8
                ):
                    return Ignored("websocket:dtmf without a digit")
                return Dtmf(str(digit), whole_number(fields.get("duration")))
            case "websocket:notify":
                return self._notified(fields.get("payload"))
            case "websocket:cleared":
                return self._cleared()
            case other:
                return Ignored(f"event {str(other)[:40]!r}")

    def send_audio(self, payload: bytes) -> list[Frame]:
        size = self._frame
        if not self._rest and len(payload) == size:
            return [payload]
        data = self._rest + payload
        whole = len(data) - len(data) % size
        self._rest = data[whole:]
        return [data[start : start + size] for start in range(0, whole, size)]

    def flush_audio(self) -> list[Frame]:
        if not self._rest:
            return []
        frame = self._rest.ljust(self._frame, b"\0")
        self._rest = b""
        return [frame]

    def send_mark(self, name: str) -> list[Frame]:
        # What is held back was sent before the mark, so it goes out before it.
        frames = self.flush_audio()
        self._serial += 1
        self._out.append((self._serial, name))
        if len(self._out) > _MAX_MARKS:
            self._out.popleft()
        frames.append(_json({"action": "notify", "payload": {"mark": name, "serial": self._serial}}))
        return frames

    def send_clear(self) -> list[Frame]:
        self._rest = b""
        self._clears.append(self._serial)
        return ['{"action":"clear"}']

    def _connected(self, fields: dict[str, Any]) -> MediaEvent:
        if self._started:
            return Ignored("a second websocket:connected")
        content_type = fields.get("content-type")
        match = _CONTENT_TYPE.fullmatch(content_type.strip()) if isinstance(content_type, str) else None
        rate = int(match.group(1)) if match else 0
        if rate not in SAMPLE_RATES:
            raise MediaError(
                f"expected audio/l16 with a rate of {SAMPLE_RATES}; got {str(content_type)[:80]!r}"
            )
        parameters = {
            name: value if isinstance(value, str) else _json(value)
            for name, value in fields.items()
            if name not in _RESERVED
        }
        token = parameters.pop("token", "")
        call_uuid = parameters.pop("call_uuid", "")
        self.sample_rate = rate
        self._frame = frame_bytes(rate)
        self._started = True
        # The socket's own leg is not named here; the caller's leg names the stream.
        return StreamStarted(call_uuid, call_uuid, None, token, rate, parameters)

    def _notified(self, payload: object) -> MediaEvent:
        serial = payload.get("serial") if isinstance(payload, dict) else None
        for index, (known, name) in enumerate(self._out):
            if known == serial:
                del self._out[index]
                return MarkReached(name, certain=not any(serial <= last for last in self._clears))
        return Ignored("a notify that is not out")

    def _cleared(self) -> MediaEvent:
        # Whether Vonage returns notifies that `clear` overtook is not documented: they are void, said once,
        # here.
        last = self._clears.popleft() if self._clears else self._serial
        void = []
        while self._out and self._out[0][0] <= last:
            void.append(self._out.popleft()[1])
        return Cleared(tuple(void))


class VonageMediaCarrier:
    """`base.MediaCarrier` for Vonage: the client of the socket.

    `headers` are those of the NCCO's endpoint; they come flattened into the first message.
    `notifies_survive_clear`: what Vonage does with notifies that wait when `clear` comes is not documented;
    both can be played.
    """

    encoding: Literal["mulaw", "pcm_s16le"] = "pcm_s16le"

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        headers: Mapping[str, Any] | None = None,
        strict: bool = True,
        notifies_survive_clear: bool = False,
    ) -> None:
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"a sample rate of {sample_rate} Hz: Vonage has {SAMPLE_RATES}")
        self.sample_rate = sample_rate
        self._frame = frame_bytes(sample_rate)
        self._headers = dict(headers or {})
        self._strict = strict
        self._notifies_survive_clear = notifies_survive_clear
        self._log = ViolationLog()
        self._playout = Playout(self._frame // FRAME_MS)

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
        return [self.connected()]

    def connected(self) -> str:
        content_type = f"audio/l16;rate={self.sample_rate}"
        return _json({"event": "websocket:connected", "content-type": content_type, **self._headers})

    def dtmf(self, digit: str, duration_ms: int = 260) -> str:
        return _json({"event": "websocket:dtmf", "digit": digit, "duration": duration_ms})

    def notify(self, payload: str) -> str:
        """`payload` is the JSON of the notify's payload, as `SetMark.name` has it."""
        return f'{{"event":"websocket:notify","payload":{payload}}}'

    def cleared(self) -> str:
        return '{"event":"websocket:cleared"}'

    def send_audio(self, payload: bytes) -> list[Frame]:
        if len(payload) != self._frame:
            raise ValueError(
                f"a frame of {len(payload)} bytes: Vonage sends {self._frame} at {self.sample_rate} Hz"
            )
        return [payload]

    def send_dtmf(self, digit: str) -> list[Frame]:
        return [self.dtmf(digit)]

    def send_mark(self, name: str) -> list[Frame]:
        return [self.notify(name)]

    def send_cleared(self) -> list[Frame]:
        return [self.cleared()]

    def closing(self) -> list[Frame]:
        return []

    def interpret(self, message: Frame) -> CarrierCommand:
        if isinstance(message, bytes):
            if len(message) != self._frame:
                self._log.add(
                    "frame-size",
                    f"a frame of {len(message)} bytes: every message must be one of {self._frame}",
                )
                if self._strict or not message or len(message) & 1:
                    return Ignored("a frame of the wrong size")
            return PlayAudio(message)
        try:
            fields = _decode(message)
        except _JSON_ERRORS as error:
            self._log.add("bad-json", f"not a JSON object: {error}")
            return Ignored("invalid message")
        match fields:
            case {"action": "clear", **more}:
                self._complain_about(more)
                return ClearAudio()
            case {"action": "notify", "payload": dict(payload), **more}:
                self._complain_about(more)
                return SetMark(_json(payload))
            case {"action": "notify"}:
                self._log.add("notify-payload", "a notify needs a payload, a JSON object")
                return Ignored("a notify without payload")
        self._log.add(
            "unknown-action", f"expected the action clear or notify, got {str(fields.get('action'))[:40]!r}"
        )
        return Ignored("unknown action")

    def receive(self, message: Frame, now_ms: float) -> list[Frame]:
        frames = self.tick(now_ms)
        match self.interpret(message):
            case PlayAudio(payload):
                if self._playout.messages >= MAX_BUFFERED_MESSAGES:
                    self._log.add(
                        "buffer-overflow",
                        f"more than {MAX_BUFFERED_MESSAGES} messages are queued; this one is dropped",
                    )
                else:
                    self._playout.push(payload, now_ms)
            case SetMark(name):
                if self._playout.mark(name):
                    frames.append(self.notify(name))
            case ClearAudio():
                waiting = self._playout.clear()
                if self._notifies_survive_clear:
                    frames += [self.notify(name) for name in waiting]
                frames.append(self.cleared())
        return frames

    def tick(self, now_ms: float) -> list[Frame]:
        return [self.notify(name) for name in self._playout.advance(now_ms)]

    def take_played(self) -> bytes:
        return self._playout.take_played()

    def _complain_about(self, more: Mapping[str, Any]) -> None:
        if more:
            self._log.add("unknown-field", f"fields Vonage does not know: {sorted(more)}")
