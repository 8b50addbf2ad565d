"""Vonage's end of an audio WebSocket, without I/O.

https://developer.vonage.com/en/voice/voice-api/concepts/websockets. Written from the documentation,
independently of the code that
will be at the other end.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carrier_sim import audio
from carrier_sim.media import Message, compact
from carrier_sim.report import CallReport, Mark

# The line to the person is wideband; the socket's rate is the NCCO's choice.
LINE_RATE = 16000
# Messages, about a minute (older documentation: 1024).
_MAX_BUFFERED = 3072
# As measured on telephone keys pressed by people, milliseconds.
_KEY_MS = 260


@dataclass(slots=True)
class VonageSocket:
    """One socket. `outbox` collects what is to be written; the owner empties it after each call."""

    content_type: str
    sample_rate: int
    headers: Mapping[str, Any]
    report: CallReport
    where: str
    outbox: list[Message] = field(default_factory=list)
    # Frames to play, and notifications between them.
    _queue: deque[bytes | dict[str, Any]] = field(default_factory=deque)
    _buffered: int = 0
    _up: audio.RateConverter = field(init=False)
    _down: audio.RateConverter = field(init=False)

    def __post_init__(self) -> None:
        self._up = audio.RateConverter(LINE_RATE, self.sample_rate)
        self._down = audio.RateConverter(self.sample_rate, LINE_RATE)

    def begin(self) -> None:
        """The first message. The NCCO's headers are its members."""
        first = {"event": "websocket:connected", "content-type": self.content_type}
        self.outbox.append(compact(first | {k: v for k, v in self.headers.items() if k not in first}))

    def hear(self, pcm: bytes) -> None:
        """20 ms of the person's voice."""
        self.outbox.append(self._up.convert(pcm))

    def press(self, digit: str) -> None:
        self.outbox.append(compact({"event": "websocket:dtmf", "digit": digit, "duration": _KEY_MS}))

    def stop(self) -> None:
        """Vonage says nothing before it closes."""

    def play(self) -> bytes | None:
        """The next 20 ms for the person's ear; what was to be notified before it is."""
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, dict):
                self._notify(item)
                continue
            self._buffered -= 1
            frame = self._down.convert(item)
            while self._queue and isinstance(self._queue[0], dict):
                self._notify(self._queue.popleft())  # type: ignore[arg-type]
            return frame
        return None

    def receive(self, message: Message) -> None:
        """One message of the server."""
        if isinstance(message, bytes):
            self._audio(message)
            return
        try:
            data = json.loads(message)
        except ValueError as error:
            self._object("vonage-websocket-message", f"a text message is not JSON: {error}")
            return
        action = data.get("action") if isinstance(data, dict) else None
        if action == "clear":
            self._only(data, {"action"})
            self._clear()
        elif action == "notify":
            self._only(data, {"action", "payload"})
            payload = data.get("payload")
            if not isinstance(payload, dict):
                self._object("vonage-websocket-message", "notify: payload is expected to be an object")
            elif self._queue:
                self._queue.append(payload)
            else:
                self._notify(payload)
        else:
            shown = message[:80]
            self._object("vonage-websocket-message", f"neither clear nor notify: {shown}")

    def _audio(self, frame: bytes) -> None:
        expected = audio.frame_bytes(self.sample_rate)
        if len(frame) != expected:
            # In the field such frames are dropped or the socket closed.
            self._object("vonage-frame-size", f"unexpected frame size {len(frame)}, when required {expected}")
            return
        if self._buffered >= _MAX_BUFFERED:
            self._object("vonage-buffer-overflow", f"more than {_MAX_BUFFERED} messages wait to be played")
            return
        self._queue.append(frame)
        self._buffered += 1

    def _clear(self) -> None:
        self.report.clears += 1
        for item in self._queue:
            # Whether Vonage returns these is not documented; the stricter reading is that it does not.
            if isinstance(item, dict):
                self.report.marks.append(Mark(_name(item), self.report.now_ms(), "cleared"))
        self._queue.clear()
        self._buffered = 0
        self.outbox.append(compact({"event": "websocket:cleared"}))

    def _notify(self, payload: dict[str, Any]) -> None:
        self.report.marks.append(Mark(_name(payload), self.report.now_ms(), "played"))
        self.outbox.append(compact({"event": "websocket:notify", "payload": payload}))

    def _only(self, data: dict[str, Any], known: set[str]) -> None:
        if unknown := set(data) - known:
            self._object(
                "vonage-websocket-message", f"{data['action']}: unknown {', '.join(sorted(unknown))}"
            )

    def _object(self, code: str, message: str) -> None:
        self.report.violate_once(code, message, where=self.where)


def _name(payload: Mapping[str, Any]) -> str:
    for key in ("id", "name", "mark"):
        if isinstance(payload.get(key), str):
            return str(payload[key])
    return compact(payload)
