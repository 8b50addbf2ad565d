"""One call's two sides and what flows between them. Pure but for two functions that write to the sockets.

    carrier ── MediaServer ── Hearing ──── Transcoder ──▶ AgentLink ── agent
            ◀─ MediaServer ── Playback ◀── Transcoder ─── AgentLink ──

The carrier is there from the beginning to the end; agents come (`attach`) and go (`detach`). Nothing waits
here and nothing is queued that need not be: a frame that comes from one side is on the other's socket before
the call returns. Time is a monotonic clock's, in seconds, given by the caller. What only the owner can do
(end the call, tell the world) goes to the `Owner`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol

import msgspec

from media_bridge.agent_links import AgentLink
from media_bridge.hearing import Hearing
from media_bridge.playback import AudioFrame, Playback
from media_bridge.quality import GAP_S, QualityMeter
from media_bridge.stream_tap import StreamTap
from offhook.agentlink import pcm
from offhook.audio import FRAME_MS, Encoding, Transcoder, frame_bytes, silence_byte, tone
from offhook.audio.silence import ACTIVE_MEAN_SQUARE, is_active
from offhook.providers.base import Audio, Dtmf, Frame, MarkReached, MediaEvent, MediaServer, StreamStopped

Write = Callable[[Frame], None]

_COMFORT_REFILL_MS: Final = 500
_CATCH_UP_FRAMES: Final = 10  # remembered audio goes to the agent in messages of 200 ms
_KEYS_REMEMBERED: Final = 64  # pressed while no agent is there; the last ones
_DTMF_DIGITS: Final = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, slots=True)
class Limits:
    """How far ahead the carrier is fed, and how much is held each way."""

    lead_s: float = 0.08
    max_agent_audio_ms: int = 60_000
    caller_memory_ms: int = 4_000


class LoopLag:
    """How late the event loop runs, in milliseconds, as last measured. One object for all calls of a process:
    whatever they send leaves late by as much."""

    __slots__ = ("ms",)

    def __init__(self) -> None:
        self.ms = 0.0


class Owner(Protocol):
    """Who runs the call. None of these may wait."""

    def dtmf(self, digit: str, at_ms: int) -> None: ...

    def stream_stopped(self) -> None:
        """The carrier said that the stream is over."""

    def agent_hung_up(self, reason: str) -> None: ...

    def agent_asks(self, request: pcm.TransferRequest | pcm.DtmfRequest) -> pcm.Rejected | None:
        """The agent wants the call transferred, or keys pressed. Returns why that is not done."""

    def answered(self, seconds: float) -> None:
        """The agent began to speak so long after the caller's last words."""

    def interrupted(self, heard_ms: int, discarded_ms: int) -> None:
        """The agent stopped speaking, and so much of what it had said was thrown away."""

    def agent_fault(self, code: str, message: str) -> None:
        """The agent sent something that was not done; it has been told."""

    def has_work(self) -> None:
        """Something waits: call `pump` every few milliseconds until it returns False."""


class Conversation:
    """The audio of one media session, from the carrier's start message on."""

    def __init__(
        self,
        server: MediaServer,
        write: Write,
        owner: Owner,
        now: float,
        limits: Limits,
        lag: LoopLag,
        tap: StreamTap | None = None,
    ) -> None:
        self._server = server
        self._write = write
        self._owner = owner
        self._started_at = now
        self._encoding: Encoding = server.encoding
        self._frame_bytes = frame_bytes(server.encoding, server.sample_rate)
        self._hearing = Hearing(self._frame_bytes, memory_ms=limits.caller_memory_ms)
        self._playback = Playback(
            self._frame_bytes,
            silence_byte(server.encoding),
            lead_s=limits.lead_s,
            max_ms=limits.max_agent_audio_ms,
        )
        self._link: AgentLink | None = None
        self._write_agent: Write = write
        self._to_agent = self._to_carrier = Transcoder(
            server.encoding, server.sample_rate, server.encoding, server.sample_rate
        )
        self._agent_frame_bytes = self._frame_bytes
        self._agent_stalled = False
        self._comforting = False
        self._heard_ms = 0
        self._pressed: deque[tuple[str, int]] = deque(maxlen=_KEYS_REMEMBERED)
        self.last_audio_at = now
        self.quality = QualityMeter()
        self._lag = lag
        self._tap = tap

    # --- for the owner
    # --------------------------------------------------------------------------------------------

    @property
    def agent_is_there(self) -> bool:
        return self._link is not None

    @property
    def underruns(self) -> int:
        return self._playback.underruns

    @property
    def dropped_ms(self) -> int:
        """Caller audio that no agent heard: none was there for longer than the bridge remembers."""
        return self._hearing.dropped_ms

    @property
    def agent_audio_waiting_ms(self) -> int:
        """Agent audio held here."""
        return self._playback.queued_ms

    def elapsed_ms(self, now: float) -> int:
        """Since the stream's start."""
        return round((now - self._started_at) * 1000)

    def heard_ms(self, now: float) -> int:
        """How much the caller has heard of what is being said; while no agent is there, of what the last one
        said."""
        return self._heard_ms if self._link is None else self._playback.heard_ms(now)

    def held_ms(self) -> float:
        """How long a frame that comes now is held: by the resampler, and because the event loop is late."""
        return self._to_agent.delay_ms + self._lag.ms

    def attach(self, link: AgentLink, write: Write, now: float, resume: pcm.Resume | None) -> None:
        """An agent takes the call. With `resume` it gets the last seconds again (`replayed_ms` is filled in
        here), without it what the caller said so far; then the keys that were pressed while nobody was there."""
        server = self._server
        if self._comforting:
            self._comforting = False
            self._playback.clear(now)
            self._send_clear(now)
        self._link = link
        self._write_agent = write
        self._agent_stalled = False
        self._to_agent = Transcoder(server.encoding, server.sample_rate, link.encoding, link.sample_rate)
        self._to_carrier = Transcoder(link.encoding, link.sample_rate, server.encoding, server.sample_rate)
        self._agent_frame_bytes = frame_bytes(link.encoding, link.sample_rate)
        remembered = self._hearing.catch_up(everything=resume is not None)
        if resume is not None:
            replayed_ms = len(remembered) * FRAME_MS // self._frame_bytes
            resume = msgspec.structs.replace(resume, replayed_ms=replayed_ms)
        self._send_agent(link.open(resume))
        self._catch_up(link, remembered)
        while self._pressed:
            self._send_agent(link.dtmf(*self._pressed.popleft()))

    def detach(self, now: float) -> int:
        """The agent is gone, and what it had sent is forgotten. Returns what the caller heard of it, in
        ms.
        """
        self._heard_ms = self.heard_ms(now)
        self._link = None
        self._playback.clear(now)
        return self._heard_ms

    def stall(self, stalled: bool) -> None:
        """The agent's socket takes no more (or takes again): meanwhile the caller is remembered, not sent."""
        if stalled == self._agent_stalled or self._link is None:
            return
        self._agent_stalled = stalled
        if not stalled:
            self._catch_up(self._link, self._hearing.catch_up(everything=False))

    def press(self, digits: str, now: float) -> bool:
        """Let the caller hear these keys, behind what is queued. False when they do not fit."""
        if tone.dtmf_ms(digits) > self._playback.room_ms:
            return False
        rate = self._server.sample_rate
        tones = Transcoder("pcm_s16le", rate, self._encoding, rate).process(tone.dtmf(digits, rate))
        self._playback.push(tones, now)
        self.pump(now)
        return True

    def tell_answered_by(self, result: pcm.AnswerResult, message_end: pcm.MessageEnd | None) -> bool:
        """False when no agent is there to be told."""
        if self._link is not None:
            self._send_agent(self._link.answered_by(result, message_end))
        return self._link is not None

    def tell_transfer(self, result: pcm.TransferOutcome, reason: str) -> bool:
        """False when no agent is there to be told."""
        if self._link is not None:
            self._send_agent(self._link.transfer(result, reason))
        return self._link is not None

    def tell_digits_failed(self, reason: str) -> None:
        """An agent who comes later has not asked for these keys."""
        if self._link is not None:
            self._send_agent(self._link.digits_failed(reason))

    def comfort(self, now: float) -> None:
        """Let the caller hear that the line is alive, until the next agent comes."""
        if self._link is None:
            self._comforting = True
            self.pump(now)

    def close(self, reason: str, now: float) -> None:
        """The call, or this session of it, is over: the agent hears what became of its marks, and the
        reason.
        """
        link, self._link = self._link, None
        if link is not None:
            for name in self._playback.clear(now).voided:
                self._send_agent(link.mark(name, False))
            self._send_agent(link.stop(reason))
        self._comforting = False

    def pump(self, now: float) -> bool:
        """Send the carrier what it may have now. Returns whether something is left for later."""
        playback = self._playback
        if self._comforting and playback.queued_ms < _COMFORT_REFILL_MS:
            playback.push(_comfort(self._encoding, self._server.sample_rate), now, False)
        while (item := playback.take(now)) is not None:
            if isinstance(item, AudioFrame):
                self._play(item, now)
            else:
                self._send(self._server.send_mark(item.name))
        if playback.waiting:
            self._owner.has_work()
            return True
        return False

    # --- from the carrier
    # -----------------------------------------------------------------------------------------

    def from_carrier(self, event: MediaEvent, now: float) -> None:
        """One message of the carrier, as its protocol understood it."""
        if type(event) is Audio:
            self._hear(event.payload, now)
        elif isinstance(event, MarkReached):
            if self._link is not None:
                for name in self._playback.reached(event.name):
                    self._send_agent(self._link.mark(name, True))
        elif isinstance(event, Dtmf):
            digit = event.digit.upper()
            if digit in _DTMF_DIGITS:
                at_ms = self.elapsed_ms(now)
                if self._link is None:
                    self._pressed.append((digit, at_ms))
                else:
                    self._send_agent(self._link.dtmf(digit, at_ms))
                self._owner.dtmf(digit, at_ms)
        elif isinstance(event, StreamStopped):
            self._owner.stream_stopped()

    def _hear(self, payload: bytes, now: float) -> None:
        since = now - self.last_audio_at
        self.last_audio_at = now
        if since > GAP_S:
            self.quality.gap(since)
        if self._tap is not None:
            self._tap.caller(payload, now)
        link = self._link
        if link is None or self._agent_stalled:
            self._hearing.hold(payload)
            return
        audio = self._hearing.listen(payload)
        if audio:
            self._pass_on(link, audio, now)

    def _pass_on(self, link: AgentLink, audio: bytes, now: float) -> None:
        transcoder, quality = self._to_agent, self.quality
        heard = transcoder.process(audio)
        for message in link.audio(heard):
            self._write_agent(message)
        frames = len(audio) // self._frame_bytes
        active = transcoder.energy >= ACTIVE_MEAN_SQUARE * transcoder.samples
        quality.caller_frames += frames
        if active:
            quality.caller_active += frames
        quality.turns.caller(active, now)
        quality.uplink.add(transcoder.delay_ms + self._lag.ms)

    def _catch_up(self, link: AgentLink, remembered: bytes) -> None:
        step = self._frame_bytes * _CATCH_UP_FRAMES
        for start in range(0, len(remembered), step):
            piece = remembered[start : start + step]
            self._send_agent(link.audio(self._to_agent.process(piece)))
            self.quality.caller_frames += len(piece) // self._frame_bytes

    # --- from the agent
    # -------------------------------------------------------------------------------------------

    def from_agent(self, message: Frame, now: float) -> None:
        """One message of the agent. After `close` or `detach` it is not listened to."""
        link = self._link
        if link is None:
            return
        request = link.receive(message)
        if type(request) is bytes:
            self._speak(link, request, now)
        elif isinstance(request, pcm.MarkRequest):
            if self._playback.mark(request.name):
                self.pump(now)
            else:
                self._object(
                    link, "too-many-marks", "too many marks are waiting; this one counts as not heard"
                )
                self._send_agent(link.mark(request.name, False))
        elif isinstance(request, pcm.ClearRequest):
            self._clear(link, now)
        elif isinstance(request, pcm.HangupRequest):
            self._owner.agent_hung_up(request.reason)
        elif isinstance(request, pcm.TransferRequest | pcm.DtmfRequest):
            objection = self._owner.agent_asks(request)
            if objection is not None:
                self._object(link, objection.code, objection.message)
        elif isinstance(request, pcm.Rejected):
            self._object(link, request.code, request.message)

    def _speak(self, link: AgentLink, audio: bytes, now: float) -> None:
        # Before transcoding: a flood must not cost more than it can play.
        room = self._playback.room_ms * self._agent_frame_bytes // FRAME_MS
        if len(audio) > room:
            lost_ms = (len(audio) - room) * FRAME_MS // self._agent_frame_bytes
            self._object(
                link,
                "audio-overflow",
                f"{self._playback.queued_ms} ms of audio are waiting; {lost_ms} ms of this message were not taken",
            )
            audio = audio[:room]
        transcoder = self._to_carrier
        played = transcoder.process(audio)
        active = transcoder.energy >= ACTIVE_MEAN_SQUARE * transcoder.samples
        self._playback.push(played, now, active)
        self.pump(now)

    def _play(self, frame: AudioFrame, now: float) -> None:
        for message in self._server.send_audio(frame.payload):
            self._write(message)
        if self._tap is not None:
            self._tap.agent(frame.payload, now)
        if self._comforting:
            return
        quality = self.quality
        quality.agent_frames += 1
        quality.downlink.add(self._to_carrier.delay_ms + self._lag.ms)
        active = is_active(frame.payload, self._encoding) if frame.active is None else frame.active
        if active:
            quality.agent_active += 1
            waited = quality.turns.agent(True, now)
            if waited is not None:
                self._owner.answered(waited)

    def _clear(self, link: AgentLink, now: float) -> None:
        outcome = self._playback.clear(now)
        self._send_clear(now)
        if outcome.discarded_ms:
            self.quality.interruptions += 1
            self._owner.interrupted(outcome.heard_ms, outcome.discarded_ms)
        for name in outcome.voided:
            self._send_agent(link.mark(name, False))
        self._send_agent(link.cleared(outcome.heard_ms, outcome.discarded_ms))

    def _object(self, link: AgentLink, code: str, message: str) -> None:
        self._send_agent(link.error(code, message))
        self._owner.agent_fault(code, message)

    def _send_clear(self, now: float) -> None:
        self._send(self._server.send_clear())
        if self._tap is not None:
            self._tap.cleared(now)

    def _send(self, messages: list[Frame]) -> None:
        for message in messages:
            self._write(message)

    def _send_agent(self, messages: list[Frame]) -> None:
        for message in messages:
            self._write_agent(message)


@cache
def _comfort(encoding: Encoding, sample_rate: int) -> bytes:
    return Transcoder("pcm_s16le", sample_rate, encoding, sample_rate).process(tone.comfort(sample_rate))
