"""A telephone line: a person at one end, the carrier's media at the other, 20 ms at a time on the monotonic clock."""

import asyncio
import time
from collections import deque
from typing import Protocol

from carrier_sim import audio, dtmf
from carrier_sim.report import CallReport, Interruption

_TICK_S = audio.FRAME_MS / 1000
# A new utterance begins with sound after this much silence (ticks); shorter gaps are within words.
_ONSET_GAP = 6
# Ticks later than this are counted in the report: the machine was too busy for figures to be trusted.
_LATE_S = 0.04


class Port(Protocol):
    """What the line is plugged into: a media stream of the carrier."""

    def hear(self, pcm: bytes) -> None:
        """One 20 ms frame of the person's voice, at the line's rate."""

    def play(self) -> bytes | None:
        """The next 20 ms for the person's ear, None when there is nothing to play."""

    def press(self, digit: str) -> None:
        """The person pressed a key."""


class Line:
    """Runs from the moment the call is answered until it ends. `run` is a task; the script uses the other methods."""

    def __init__(self, report: CallReport, sample_rate: int) -> None:
        self.report = report
        self.sample_rate = sample_rate
        self._silence = bytes(audio.frame_bytes(sample_rate))
        self._port: Port | None = None
        self._party = False
        self._ear = dtmf.ToneEar(sample_rate)
        self._listeners: list[Port] = []
        self._opened = asyncio.Event()
        self._mouth: deque[bytes] = deque()
        self._announcement: deque[bytes] = deque()
        self._tick: asyncio.Event = asyncio.Event()
        self._ticks = 0
        self._heard = bytearray()
        self._spoken = bytearray()
        self._quiet_ticks = 1_000_000
        self._loud_run_ticks = 0
        self._agent_spoke = False
        self._words_ended: float | None = None

    # --- the carrier's side -------------------------------------------------------------------------------------------

    def plug(self, port: Port, *, party: bool = False) -> None:
        """Connect a media stream, or another phone (`party`): its words are counted apart from an agent's."""
        self._port, self._party = port, party
        self._opened.set()

    def overhear(self, port: Port) -> None:
        """Connect a stream that only listens, beside the other."""
        self._listeners.append(port)
        self._opened.set()

    def unplug(self, port: Port) -> None:
        """Disconnect a stream of either kind."""
        if self._port is port:
            self._port = None
        if port in self._listeners:
            self._listeners.remove(port)

    async def announce(self, text: str) -> None:
        """The carrier's own voice reads a text: audible, counted apart from the agent. About 15 characters a second."""
        self.report.said.append(text)
        self._opened.set()
        seconds = max(0.3, len(text) / 15)
        self._announcement.extend(
            audio.frames(audio.speech(seconds, self.sample_rate, len(text)), self.sample_rate)
        )
        try:
            while self._announcement:
                await self._next_tick()
        finally:
            self._announcement.clear()

    def press_into_ear(self, digits: str) -> None:
        """The carrier presses keys: the person hears their tones."""
        self._announcement.extend(dtmf.frames_of(digits, self.sample_rate))

    def open(self) -> None:
        """Let the person begin although no stream is connected."""
        self._opened.set()

    async def run(self) -> None:
        """Tick until cancelled. Ticks are due at fixed times from the start: late ones are caught up, nothing drifts."""
        start = time.monotonic()
        while True:
            due = start + self._ticks * _TICK_S
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            elif wait < -_LATE_S:
                self.report.late_frames += 1
                await asyncio.sleep(0)
            self._frame()
            self._ticks += 1
            self._tick.set()
            self._tick = asyncio.Event()

    def close(self) -> None:
        """Hand what was heard and said to the report."""
        self.report.heard = bytes(self._heard)
        self.report.spoken = bytes(self._spoken)
        self.report.sample_rate = self.sample_rate
        self._heard.clear()
        self._spoken.clear()

    def _frame(self) -> None:
        mouth = self._mouth.popleft() if self._mouth else self._silence
        audible_words = mouth is not self._silence and audio.is_audible(mouth)
        if audible_words:
            self.report.caller_audio_ms += audio.FRAME_MS
            if self._port is None and not self._listeners:
                self.report.caller_audio_lost_ms += audio.FRAME_MS
        self._spoken += mouth
        for listener in self._listeners:
            listener.hear(mouth)
        ear: bytes | None = None
        from_agent = False
        if self._port is not None:
            self._port.hear(mouth)
            ear = self._port.play()
            from_agent = ear is not None
        if self._announcement:
            ear, from_agent = self._announcement.popleft(), False
        self._heard += ear if ear is not None else self._silence
        if key := self._ear.hear(ear):
            self.report.digits_heard += key
        if from_agent and ear is not None and audio.is_audible(ear):
            self._other_is_heard()
        else:
            self._quiet_ticks += 1
            if self._quiet_ticks >= _ONSET_GAP:
                self._loud_run_ticks = 0

    def _other_is_heard(self) -> None:
        if self._party:
            self.report.party_audio_ms += audio.FRAME_MS
        else:
            self.report.agent_audio_ms += audio.FRAME_MS
        if not self._party and self._quiet_ticks >= _ONSET_GAP and self._words_ended is not None:
            self.report.response_ms.append(round((time.monotonic() - self._words_ended) * 1000, 1))
            self._words_ended = None
        self._agent_spoke = True
        self._loud_run_ticks += self._quiet_ticks + 1 if self._loud_run_ticks else 1
        self._quiet_ticks = 0

    async def _next_tick(self) -> None:
        await self._tick.wait()

    # --- the person's side ---------------------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Returns when there is something at the other end: a stream or an announcement."""
        await self._opened.wait()

    async def say(self, pcm: bytes) -> None:
        """Speak; returns with the last word. From then on the agent's answer is timed."""
        words = audio.frames(pcm, self.sample_rate)
        while words and not audio.is_audible(words[-1]):
            words.pop()
        self._words_ended = None
        self._mouth.extend(words)
        while self._mouth:
            await self._next_tick()
        self._words_ended = time.monotonic()
        self._agent_spoke = False

    async def pause(self, seconds: float) -> None:
        """Be silent for so long."""
        until = self._ticks + round(seconds / _TICK_S)
        while self._ticks < until:
            await self._next_tick()

    async def wait_for_agent(self, quiet_s: float, timeout_s: float) -> bool:
        """Until the agent has spoken (since the last words or wait) and is quiet again. False: it did not within the time."""
        until = self._ticks + round(timeout_s / _TICK_S)
        quiet = round(quiet_s / _TICK_S)
        while self._ticks < until:
            if self._agent_spoke and self._quiet_ticks >= quiet:
                self._agent_spoke = False
                return True
            await self._next_tick()
        return False

    async def barge_in(self, pcm: bytes, after_s: float, timeout_s: float) -> bool:
        """Speak over the agent once it has been speaking for `after_s`. False: it never did."""
        until = self._ticks + round(timeout_s / _TICK_S)
        needed = max(1, round(after_s / _TICK_S))
        while self._loud_run_ticks < needed:
            if self._ticks >= until:
                return False
            await self._next_tick()
        began, began_ms = time.monotonic(), self.report.now_ms()
        self._mouth.extend(audio.frames(pcm, self.sample_rate))
        stopped: int | None = None
        deadline = self._ticks + len(self._mouth) + round(3.0 / _TICK_S)
        while self._ticks < deadline and (self._mouth or stopped is None):
            if stopped is None and self._quiet_ticks >= _ONSET_GAP:
                # The silence began _ONSET_GAP ticks ago.
                stopped = max(0, round((time.monotonic() - began - self._quiet_ticks * _TICK_S) * 1000))
            await self._next_tick()
        self.report.interruptions.append(Interruption(began_ms, stopped))
        self._agent_spoke = False
        self._words_ended = time.monotonic()
        return True

    async def press(self, digit: str) -> None:
        """Press one key: 100 ms of tone, 100 ms of silence. `w` waits half a second."""
        if digit == "w":
            await self.pause(0.5)
            return
        if digit not in "0123456789*#":
            raise ValueError(f"a telephone has no key {digit!r}")
        await self.pause(0.1)
        self.report.dtmf += digit
        if self._port is not None:
            self._port.press(digit)
        await self.pause(0.1)
