"""One call, as the agent's code sees it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from offhook.agentlink import pcm as protocol

AUDIO_BUFFER_MS: Final = 10_000
"""How much caller audio is kept for an agent that does not listen; beyond it the oldest is dropped."""

_CHUNK_MS: Final = 500
_FLOW_MARK_EVERY_MS: Final = 5_000
_MAX_AHEAD_MS: Final = 30_000
"""The bridge holds 60 s of agent audio: `play` waits before it comes near."""

_MAX_DIGITS: Final = 1_000  # for an agent that does not ask for them

_INTERNAL: Final = "offhook:"
_TRANSFER_REFUSED: Final = frozenset({"transfer-pending", "too-many-transfers"})

_T = TypeVar("_T")


class CallEnded(Exception):  # noqa: N818 - it is news, not a mistake
    """The call is over; nothing more can be said. `reason` is the bridge's word."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the call has ended: {reason}")
        self.reason = reason


class RequestRefused(Exception):  # noqa: N818 - the bridge's answer
    """The bridge does not do what was asked for; the call goes on. `code` is one of the protocol's."""

    def __init__(self, report: protocol.ErrorReport) -> None:
        super().__init__(report.message)
        self.code = report.code


@dataclass(frozen=True, slots=True)
class Consultation:
    """This call goes to whom a caller shall be transferred: `of` is the run of the caller, who waits; `from_number` theirs."""

    of: str
    from_number: str


class Call:
    """A phone call. Audio is PCM, signed 16-bit little-endian mono at `sample_rate` Hz, both ways.

    Made by `Agent`, handed to the function registered with `Agent.on_call`. Everything that waits raises `CallEnded`
    when the call ends first, except the iterators, which simply end.
    """

    def __init__(
        self,
        link: protocol.PcmAgentSide,
        start: protocol.Start,
        send: Callable[[bytes | str], Awaitable[None]],
        *,
        traceparent: str | None = None,
    ) -> None:
        self.traceparent = traceparent
        """The call's W3C trace context, from the handshake: start your own spans below it, and they stand in the call's trace."""
        self._link = link
        self._start = start
        self._send = send
        self._frames: deque[bytes] = deque()
        self._buffered_ms = 0.0
        self._digits: deque[str] = deque(maxlen=_MAX_DIGITS)
        self._news = asyncio.Event()
        self._marks: dict[str, asyncio.Future[bool]] = {}
        self._clears: deque[asyncio.Future[protocol.Cleared]] = deque()
        self._transfers: deque[asyncio.Future[protocol.TransferOutcome]] = deque()
        self._counter = 0
        self._since_mark_ms = 0.0
        self._ahead: deque[tuple[asyncio.Future[bool], float]] = deque()
        self._ended: str | None = None
        self.dropped_ms = 0.0
        """Caller audio that was thrown away because nobody listened, ms."""
        self.answered_by: protocol.AnswerResult | None = None
        """Who picked up an outbound call, once the carrier has told."""
        self.message_end: protocol.MessageEnd | None = None
        """What ended an answering machine's greeting, once the carrier has told: what is said now is recorded."""
        self.transferred: protocol.TransferOutcome | None = None
        """What became of the last transfer: right from the start in a call that comes back from one."""
        self.transfer_reason = ""
        """Why the last transfer was not begun, as one word, for example `limit-reached`; '' where the result says it all."""
        self._on_answered_by: list[Callable[[protocol.AnswerResult], None]] = []
        self._on_message_end: list[Callable[[protocol.MessageEnd], None]] = []
        self._on_digits_failed: list[Callable[[str], None]] = []
        self._on_transfer: list[Callable[[protocol.TransferOutcome], None]] = []
        self.errors: list[protocol.ErrorReport] = []
        """What the bridge objected to, newest last, at most 100."""

    # --- who is calling

    @property
    def workflow_run_id(self) -> str:
        return self._start.workflow_run_id

    @property
    def from_number(self) -> str:
        """E.164 where the provider gave a number, '' when the caller withholds it."""
        return self._start.from_

    @property
    def to_number(self) -> str:
        return self._start.to

    @property
    def direction(self) -> Literal["inbound", "outbound"]:
        return self._start.direction

    @property
    def provider(self) -> str:
        return self._start.provider

    @property
    def metadata(self) -> dict[str, Any]:
        """What the workflow, or whoever asked for the call, wants the agent to know."""
        return self._start.metadata

    @property
    def sample_rate(self) -> int:
        """Hz, of the audio in both directions."""
        return self._start.audio.sample_rate

    @property
    def resume(self) -> protocol.Resume | None:
        """Set when another agent had this call before: the caller is in the middle of a conversation."""
        return self._start.resume

    @property
    def consultation(self) -> Consultation | None:
        """Set when this is the call to whom a warm transfer goes: talk, then `join`, or hang up to decline."""
        told = self.metadata.get("transfer")
        if self.direction != "outbound" or not isinstance(told, dict) or told.get("mode") != "warm":
            return None
        return Consultation(str(told.get("of", "")), str(told.get("from", "")))

    @property
    def end_reason(self) -> str | None:
        """Why the call is over, in the protocol's words; `transfer`: the carrier has taken the caller. None while it lives."""
        return self._ended

    @property
    def ended(self) -> bool:
        return self._ended is not None

    # --- hearing

    async def audio(self) -> AsyncIterator[bytes]:
        """The caller, in whole 20 ms frames, until the call ends."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                self._buffered_ms -= self._length_ms(frame)
                yield frame
            if self.ended:
                return
            await self._wait_for_news()

    async def digits(self) -> AsyncIterator[str]:
        """Keys the caller presses (`0`-`9`, `*`, `#`), until the call ends."""
        while True:
            while self._digits:
                yield self._digits.popleft()
            if self.ended:
                return
            await self._wait_for_news()

    # --- speaking

    async def play(self, audio: bytes | AsyncIterator[bytes]) -> None:
        """Queue audio for the caller: a piece of PCM (any even length), or an iterator of pieces.

        Returns when it is queued, not when it was heard (`played` waits for that). Faster than real time is fine; with
        half a minute waiting to be played, `play` waits too.
        """
        if not isinstance(audio, bytes):
            async for piece in audio:
                await self.play(piece)
            return
        step = self.sample_rate * 2 * _CHUNK_MS // 1000
        for begin in range(0, len(audio), step):
            await self._play_chunk(audio[begin : begin + step])

    async def played(self) -> bool:
        """Wait until everything queued so far was heard. False when it was cleared or lost instead."""
        return await self.mark(self._internal_name())

    async def mark(self, name: str) -> bool:
        """Like `played`, with a name of your own, which the bridge's logs then show. Names may not repeat while one waits."""
        return await self._until_ended(await self._send_mark(name))

    async def clear(self) -> protocol.Cleared:
        """Stop what is playing and forget the rest. Tells how much of it the caller heard."""
        waiting: asyncio.Future[protocol.Cleared] = asyncio.get_running_loop().create_future()
        self._clears.append(waiting)
        await self._say(self._link.clear)
        return await self._until_ended(waiting)

    # --- call control

    async def hang_up(self, reason: str = "") -> None:
        """End the call now. To let the last words be heard, `await call.played()` first."""
        await self._say(lambda: self._link.hangup(reason))

    async def transfer(self, to: str, mode: Literal["cold", "warm"] = "cold") -> protocol.TransferOutcome:
        """Connect the caller to `to` (E.164): at once (`cold`), or after an agent has talked to them (`warm`).

        Returns only when it came to nothing before the caller left, saying why; usually `CallEnded("transfer")` is raised,
        for the carrier has taken the caller. Should nobody take them, they come back in a new call, whose `transferred` says why.
        Raises `RequestRefused` when the bridge does not begin it.
        """
        waiting: asyncio.Future[protocol.TransferOutcome] = asyncio.get_running_loop().create_future()
        self._transfers.append(waiting)
        try:
            await self._say(lambda: self._link.transfer(to, mode))
        except protocol.LocalProtocolError:
            self._transfers.remove(waiting)  # not asked, so nobody answers
            raise
        return await self._until_ended(waiting)

    async def join(self) -> None:
        """In the call to whom a warm transfer goes (see `consultation`): put the caller who waits through, and leave."""
        await self._say(self._link.join)

    async def send_digits(self, digits: str) -> None:
        """Press keys towards the other party: `0`-`9`, `*`, `#`, `w` for a pause of half a second; at most 32.

        Returns when it is asked for. Should the carrier not press them, `on_digits_failed` tells.
        """
        await self._say(lambda: self._link.dtmf(digits))

    def on_answered_by(self, function: Callable[[protocol.AnswerResult], None]) -> None:
        """Have `function` called when the carrier tells who picked up; at once if it has. It must not block."""
        self._on_answered_by.append(function)
        if self.answered_by is not None:
            function(self.answered_by)

    def on_message_end(self, function: Callable[[protocol.MessageEnd], None]) -> None:
        """Have `function` called when an answering machine's greeting is over, for calls that asked for `detect-message-end`;
        at once if it is. It must not block."""
        self._on_message_end.append(function)
        if self.message_end is not None:
            function(self.message_end)

    def on_digits_failed(self, function: Callable[[str], None]) -> None:
        """Have `function` called with the reason when the carrier did not press keys. It must not block."""
        self._on_digits_failed.append(function)

    def on_transfer(self, function: Callable[[protocol.TransferOutcome], None]) -> None:
        """Have `function` called when a transfer came to nothing; at once if this call comes back from one. It must not
        block."""
        self._on_transfer.append(function)
        if self.transferred is not None:
            function(self.transferred)

    # --- the agent server's side

    def receive(self, message: bytes | str) -> None:
        """One message of the bridge, in order. Raises `offhook.agentlink.pcm.RemoteProtocolError`."""
        match self._link.receive(message):
            case protocol.Audio(pcm):
                self._hear(pcm)
            case protocol.Dtmf(digit):
                self._digits.append(digit)
            case protocol.Mark(name, heard):
                self._settle(self._marks.pop(name, None), heard)
            case protocol.Cleared() as cleared:
                self._settle(self._clears.popleft() if self._clears else None, cleared)
            case protocol.AnsweredBy(result, message_end):
                self._hear_who_answered(result, message_end)
            case protocol.DigitsResult(reason):
                for tell_why in self._on_digits_failed:
                    tell_why(reason)
            case protocol.TransferResult(outcome, reason):
                self.transferred, self.transfer_reason = outcome, reason
                self._settle(self._transfers.popleft() if self._transfers else None, outcome)
                for tell_how in self._on_transfer:
                    tell_how(outcome)
            case protocol.ErrorReport() as report:
                self.errors = [*self.errors[-99:], report]
                # Only a second transfer, while one is under way, and one too many are refused with these words.
                if report.code in _TRANSFER_REFUSED and self._transfers:
                    waiting = self._transfers.pop()
                    if not waiting.done():
                        waiting.set_exception(RequestRefused(report))
            case protocol.Stop(reason):
                self.end(reason)
        self._news.set()

    def end(self, reason: str) -> None:
        """Nothing more will come: whoever waits is told."""
        if self._ended is None:
            self._ended = reason
        waiters: list[asyncio.Future[Any]] = [*self._marks.values(), *self._clears, *self._transfers]
        for waiting in waiters:
            if not waiting.done():
                waiting.cancel()
        self._news.set()

    # --- inside

    def _length_ms(self, pcm: bytes) -> float:
        return len(pcm) / 2 * 1000 / self.sample_rate

    def _hear(self, pcm: bytes) -> None:
        self._frames.append(pcm)
        self._buffered_ms += self._length_ms(pcm)
        while self._buffered_ms > AUDIO_BUFFER_MS:
            lost = self._length_ms(self._frames.popleft())
            self._buffered_ms -= lost
            self.dropped_ms += lost

    def _hear_who_answered(
        self, result: protocol.AnswerResult, message_end: protocol.MessageEnd | None
    ) -> None:
        if result != self.answered_by:
            self.answered_by = result
            for tell_who in self._on_answered_by:
                tell_who(result)
        if message_end is not None and message_end != self.message_end:
            self.message_end = message_end
            for tell_end in self._on_message_end:
                tell_end(message_end)

    async def _wait_for_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def _play_chunk(self, pcm: bytes) -> None:
        while True:
            while self._ahead and self._ahead[0][0].done():
                self._ahead.popleft()
            if sum(length for _, length in self._ahead) <= _MAX_AHEAD_MS:
                break
            # It stays in the account while we wait: we may be cancelled, and it would still not be played.
            await self._until_ended(self._ahead[0][0])
        await self._say(lambda: self._link.audio(pcm))
        self._since_mark_ms += self._length_ms(pcm)
        if self._since_mark_ms >= _FLOW_MARK_EVERY_MS:
            length, self._since_mark_ms = self._since_mark_ms, 0.0
            self._ahead.append((await self._send_mark(self._internal_name()), length))

    def _internal_name(self) -> str:
        self._counter += 1
        return f"{_INTERNAL}{self._counter}"

    async def _send_mark(self, name: str) -> "asyncio.Future[bool]":
        if name in self._marks:
            raise ValueError(f"a mark named {name!r} is still waiting")
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._marks[name] = waiting
        await self._say(lambda: self._link.mark(name))
        return waiting

    async def _say(self, make: Callable[[], bytes | str]) -> None:
        if self._ended is not None:
            raise CallEnded(self._ended)
        await self._send(make())

    async def _until_ended(self, waiting: "asyncio.Future[_T]") -> _T:
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            # Either the call ended (then `end` cancelled the future) or our own task is being cancelled.
            if self._ended is not None and waiting.cancelled():
                raise CallEnded(self._ended) from None
            raise

    @staticmethod
    def _settle(waiting: "asyncio.Future[Any] | None", result: Any) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(result)
