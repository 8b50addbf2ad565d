"""A provider's audio socket, sans I/O, in both roles. For the bridge and the carrier simulator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """The provider's audio socket introduced itself. `token` is the in-band media token, '' when there was
    none.

    `parameters` are whatever else our instructions put on the stream. `sample_rate` in Hz of both directions.
    """

    stream_id: str
    provider_call_id: str
    account: str | None
    token: str
    sample_rate: int
    parameters: Mapping[str, str]


class Audio(msgspec.Struct, frozen=True, gc=False):
    """Audio from the far end, in the stream's own encoding; `timestamp_ms` since the stream's start, if the
    protocol has one."""

    payload: bytes
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Dtmf:
    digit: str
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class MarkReached:
    """A mark came back. `certain` is False where `clear` was sent while the mark was out: what was before it
    may never have been heard (Twilio returns such marks as well)."""

    name: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Cleared:
    """The provider confirms that its buffer is empty (Vonage only).

    `void_marks` are the marks, in order, that were out when `clear` was sent and did not come back: they
    never will.
    """

    void_marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The provider says the stream is over."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message we do not know or could not read; the session goes on. `why` is for the log and counters."""

    why: str


MediaEvent = StreamStarted | Audio | Dtmf | MarkReached | Cleared | StreamStopped | Ignored
Frame = bytes | str
"""One WebSocket message: bytes is binary, str is text."""


class MediaServer(Protocol):
    """The server role of a provider's media protocol, sans I/O: what the bridge speaks southbound. One object
    a socket.

    Audio in and out is in `encoding` at `sample_rate` (both known after `StreamStarted`). All `send_*` return
    the WebSocket messages to write, in order.
    """

    encoding: Literal["mulaw", "pcm_s16le"]
    sample_rate: int

    def receive(self, message: Frame) -> MediaEvent:
        """Interpret one message. Raises `MediaError` when the session cannot go on (e.g. audio before the
        start)."""

    def send_audio(self, payload: bytes) -> list[Frame]:
        """Whole 20 ms frames or any length; the protocol cuts and pads as its provider requires."""

    def flush_audio(self) -> list[Frame]:
        """Whatever `send_audio` holds back for a whole frame, padded with silence."""

    def send_mark(self, name: str) -> list[Frame]: ...

    def send_clear(self) -> list[Frame]: ...


@dataclass(frozen=True, slots=True)
class Violation:
    """What a carrier would reject or warn about in what a media server sent. `code` is the vendor's error
    number where there is one (Twilio 31951), else a word of ours (`frame-size`)."""

    code: str
    message: str


class PlayAudio(msgspec.Struct, frozen=True, gc=False):
    """The server wants this played to the caller; in the stream's encoding."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class SetMark:
    """The server wants to hear of `name` when everything before it was played."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearAudio:
    """The server wants everything that is queued dropped."""


CarrierCommand = PlayAudio | SetMark | ClearAudio | Ignored


class MediaCarrier(Protocol):
    """The carrier role of a provider's media protocol, sans I/O: what the simulator plays, and the bridge
    towards an agent that speaks this protocol. One object a socket.

    Either use `receive` and `tick`, which keep a playout buffer (time is given, in ms, never going back), or
    use `interpret` and keep your own. Violations are collected in `violations`, the first 1000 of
    `violation_count`.
    """

    encoding: Literal["mulaw", "pcm_s16le"]
    sample_rate: int

    @property
    def violations(self) -> list[Violation]: ...

    @property
    def violation_count(self) -> int: ...

    def opening(self) -> list[Frame]:
        """The messages that introduce the stream."""

    def send_audio(self, payload: bytes) -> list[Frame]:
        """One frame of the caller's audio."""

    def send_dtmf(self, digit: str) -> list[Frame]: ...

    def send_mark(self, name: str) -> list[Frame]:
        """Tell the server that a mark was reached (or is void)."""

    def send_cleared(self) -> list[Frame]:
        """Tell the server that its audio was dropped; nothing where the protocol has no such message."""

    def closing(self) -> list[Frame]:
        """The messages that end the stream, if the protocol has any; then close the socket."""

    def interpret(self, message: Frame) -> CarrierCommand:
        """Understand one message of the server. Never raises; what is wrong with it becomes a violation."""

    def receive(self, message: Frame, now_ms: float) -> list[Frame]:
        """`interpret`, then queue, mark or clear. Returns the messages to send at once."""

    def tick(self, now_ms: float) -> list[Frame]:
        """Play until `now_ms`. Returns the marks reached, as messages to send."""

    def take_played(self) -> bytes:
        """The audio played since the last call (without the silence between); at most the last minute."""

    @property
    def buffered_ms(self) -> float:
        """How much audio waits to be played, as of the last `receive` or `tick`."""
