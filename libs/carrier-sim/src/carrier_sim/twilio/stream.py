"""Twilio's end of a Media Stream, without I/O: builds its messages, holds the playout buffer, objects as Twilio does.

https://www.twilio.com/docs/voice/media-streams/websocket-messages. Written from the documentation, independently of the code
that will be at the other end.
"""

import base64
import binascii
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carrier_sim import audio
from carrier_sim.media import Message, compact
from carrier_sim.report import CallReport, Mark

SAMPLE_RATE = 8000
_FRAME = 160
_SILENCE = b"\xff"
# 10 minutes of mu-law (https://www.twilio.com/docs/api/errors/31931).
_MAX_BUFFERED = 10 * 60 * SAMPLE_RATE

_SHAPES: dict[str, tuple[str | None, str | None]] = {
    "media": ("media", "payload"),
    "mark": ("mark", "name"),
    "clear": (None, None),
}


@dataclass(slots=True)
class TwilioStream:
    """One stream. `outbox` collects what is to be written; the owner empties it after each call."""

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: Mapping[str, str]
    report: CallReport
    bidirectional: bool = True
    outbox: list[Message] = field(default_factory=list)
    _sequence: int = 0
    _chunk: int = 0
    _buffered: int = 0
    # What is to be played: audio, and marks between it.
    _queue: deque[bytes | str] = field(default_factory=deque)

    def begin(self) -> None:
        """`connected` and `start`, the first two messages."""
        self.outbox.append(compact({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        self._send(
            "start",
            start={
                "accountSid": self.account_sid,
                "streamSid": self.stream_sid,
                "callSid": self.call_sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": SAMPLE_RATE, "channels": 1},
                "customParameters": dict(self.parameters),
            },
        )

    def hear(self, pcm: bytes) -> None:
        """20 ms of the person's voice; silence is sent too, 50 messages a second without a pause."""
        self._chunk += 1
        self._send(
            "media",
            media={
                "track": "inbound",
                "chunk": str(self._chunk),
                "timestamp": str((self._chunk - 1) * audio.FRAME_MS),
                "payload": base64.b64encode(audio.to_ulaw(pcm)).decode("ascii"),
            },
        )

    def press(self, digit: str) -> None:
        """A key; only bidirectional streams tell. The track is `inbound_track` here, `inbound` in media."""
        if self.bidirectional:
            self._send("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def stop(self) -> None:
        """The last message when the call ends before the socket."""
        self._send("stop", stop={"accountSid": self.account_sid, "callSid": self.call_sid})

    def play(self) -> bytes | None:
        """The next 20 ms for the person's ear; marks that everything before them is played are sent back."""
        if not self._queue:
            return None
        played = bytearray()
        while self._queue:
            item = self._queue[0]
            if isinstance(item, str):
                self._queue.popleft()
                self._mark(item, "played")
                continue
            if len(played) == _FRAME:
                break
            take = item[: _FRAME - len(played)]
            played += take
            rest = item[len(take) :]
            if rest:
                self._queue[0] = rest
            else:
                self._queue.popleft()
        if not played:
            return None
        self._buffered -= len(played)
        return audio.from_ulaw(bytes(played).ljust(_FRAME, _SILENCE))

    def receive(self, message: Message) -> None:
        """One message of the server. Twilio ignores what it cannot read, and warns."""
        if isinstance(message, bytes):
            self._warn("31950", f"Malformed Message: a binary message of {len(message)} bytes")
            return
        try:
            data = json.loads(message)
        except ValueError as error:
            self._warn("31951", f"Invalid Message: not JSON: {error}")
            return
        event = self._understood(data)
        if event is None:
            return
        if not self.bidirectional:
            self._warn("31951", f"Invalid Message: {event!r} on a stream that only listens")
        elif event == "media":
            self._media(data["media"]["payload"])
        elif event == "mark":
            name = data["mark"]["name"]
            if self._queue:
                self._queue.append(name)
            else:
                self._mark(name, "played")
        else:
            self._clear()

    def _understood(self, data: Any) -> str | None:
        """The event's name when everything about the message is as documented."""
        event = data.get("event") if isinstance(data, dict) else None
        if not isinstance(event, str) or event not in _SHAPES:
            self._warn("31951", f"Invalid Message: unknown event {event!r}; media, mark and clear are known")
            return None
        member, inner = _SHAPES[event]
        expected = {"event", "streamSid"} | ({member} if member else set())
        if set(data) != expected:
            self._warn(
                "31951",
                f"Invalid Message: {event} has the fields {sorted(data)}, expected {sorted(expected)}",
            )
            return None
        if data["streamSid"] != self.stream_sid:
            self._warn(
                "31951",
                f"Invalid Message: streamSid {data['streamSid']!r} is not this stream's {self.stream_sid}",
            )
            return None
        if member and inner:
            content = data[member]
            if (
                not isinstance(content, dict)
                or set(content) != {inner}
                or not isinstance(content[inner], str)
            ):
                self._warn(
                    "31951", f"Invalid Message: {event}.{member} is expected to hold one string, {inner!r}"
                )
                return None
        return event

    def _media(self, payload: str) -> None:
        try:
            ulaw = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError) as error:
            self._warn("31951", f"Invalid Message: media.payload is not base64: {error}")
            return
        if ulaw.startswith(b"RIFF"):
            self._warn(
                "sim-audio-header", "media.payload holds a WAV header, which the caller hears as noise"
            )
        room = _MAX_BUFFERED - self._buffered
        if len(ulaw) > room:
            self._warn("31931", "Media Discarded: more than 10 minutes of audio are waiting to be played")
            ulaw = ulaw[:room]
        if ulaw:
            self._queue.append(ulaw)
            self._buffered += len(ulaw)

    def _clear(self) -> None:
        """Empties the buffer and sends every waiting mark back, as if it had been played."""
        self.report.clears += 1
        waiting = [item for item in self._queue if isinstance(item, str)]
        self._queue.clear()
        self._buffered = 0
        for name in waiting:
            self._mark(name, "cleared")

    def _mark(self, name: str, outcome: Any) -> None:
        self.report.marks.append(Mark(name, self.report.now_ms(), outcome))
        self._send("mark", mark={"name": name})

    def _send(self, event: str, **content: Any) -> None:
        self._sequence += 1
        message = {
            "event": event,
            "sequenceNumber": str(self._sequence),
            **content,
            "streamSid": self.stream_sid,
        }
        self.outbox.append(compact(message))

    def _warn(self, code: str, message: str) -> None:
        self.report.violate_once(code, message, severity="warning", where=self.stream_sid)
