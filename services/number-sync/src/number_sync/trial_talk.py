"""The bridge's half of a trial conversation with an agent, in each protocol an agent may speak. Pure: messages in, messages out.

It is a caller who speaks for a second and listens. What the agent sends is counted, and what the bridge would object to is
kept as a sentence.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from offhook.agentlink import pcm
from offhook.audio import FRAME_MS
from offhook.audio.g711 import SILENCE, pcm16_to_mulaw
from offhook.audio.tone import sine
from offhook.identities import derived_id
from offhook.providers.media import ClearAudio, Frame, PlayAudio, SetMark
from offhook.providers.playout import Playout
from offhook.providers.twilio.media import TwilioMediaCarrier

CALLER: Final = "+15550100199"
CALLED: Final = "+15550100100"
PROVIDER: Final = "trial"

_MAX_OBJECTIONS: Final = 5
# Short notes with short pauses: loud and uneven enough for anybody's speech detection to begin a turn, and to end it after.
_SYLLABLES_HZ: Final = (220.0, 330.0, 262.0, 392.0, 294.0)
_SYLLABLE_MS: Final = 160
_PAUSE_MS: Final = 40


@dataclass(frozen=True, slots=True)
class TrialCall:
    """What the agent is told. `metadata` as the workflow has it."""

    run_id: str
    workflow_id: str
    user_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def speech(sample_rate: int) -> bytes:
    """A second of something like speech: PCM, whole 20 ms frames."""
    pause = bytes(2 * sample_rate * _PAUSE_MS // 1000)
    return b"".join(sine(hz, _SYLLABLE_MS, sample_rate, level_dbfs=-18) + pause for hz in _SYLLABLES_HZ)


class Link(Protocol):
    """How one protocol is spoken. `bytes_per_ms` of the audio that `read` returns."""

    bytes_per_ms: int

    def opening(self) -> list[Frame]: ...

    def speaking(self) -> list[Frame]:
        """All of the caller's words, one message each 20 ms."""

    def silence(self) -> Frame: ...

    def read(self, message: Frame) -> bytes | pcm.AgentMessage | pcm.Ignored | pcm.Rejected: ...

    def mark(self, name: str, heard: bool) -> Frame: ...

    def cleared(self, heard_ms: int, discarded_ms: int) -> list[Frame]: ...

    def refused(self, what: pcm.Rejected | pcm.TransferRequest | pcm.DtmfRequest) -> list[Frame]: ...

    def stop(self, reason: str) -> Frame: ...


class PcmLink:
    """`offhook.pcm.v1`."""

    def __init__(self, call: TrialCall, sample_rate: int) -> None:
        self._call = call
        self._rate = sample_rate
        self._side = pcm.PcmBridgeSide(sample_rate)
        self.bytes_per_ms = sample_rate * 2 // 1000

    def opening(self) -> list[Frame]:
        call = self._call
        start = pcm.Start(
            workflow_run_id=call.run_id,
            workflow_id=call.workflow_id,
            user_id=call.user_id,
            provider=PROVIDER,
            provider_call_id=call.run_id,
            direction="inbound",
            from_=CALLER,
            to=CALLED,
            audio=pcm.AudioFormat(self._rate),
            metadata=dict(call.metadata),
        )
        return [self._side.start(start)]

    def speaking(self) -> list[Frame]:
        return [self._side.audio(frame) for frame in _frames(speech(self._rate), self._side.frame_bytes)]

    def silence(self) -> Frame:
        return self._side.audio(bytes(self._side.frame_bytes))

    def read(self, message: Frame) -> bytes | pcm.AgentMessage | pcm.Ignored | pcm.Rejected:
        event = self._side.receive(message)
        return event.pcm if isinstance(event, pcm.Audio) else event

    def mark(self, name: str, heard: bool) -> Frame:
        return self._side.mark(name, heard)

    def cleared(self, heard_ms: int, discarded_ms: int) -> list[Frame]:
        return [self._side.cleared(heard_ms, discarded_ms)]

    def refused(self, what: pcm.Rejected | pcm.TransferRequest | pcm.DtmfRequest) -> list[Frame]:
        if isinstance(what, pcm.Rejected):
            return [self._side.error(what.code, what.message)]
        if isinstance(what, pcm.TransferRequest):
            return [self._side.transfer("unsupported")]
        return [self._side.error("unsupported", "nobody is there to hear keys: this is a trial")]

    def stop(self, reason: str) -> Frame:
        return self._side.stop(reason)


class TwilioLink:
    """Twilio Media Streams, as Twilio plays it. What Twilio has no message for is not said."""

    bytes_per_ms = 8

    def __init__(self, call: TrialCall) -> None:
        told = {
            "workflow_run_id": call.run_id, "workflow_id": call.workflow_id, "user_id": call.user_id,
            "provider": PROVIDER, "direction": "inbound", "from": CALLER, "to": CALLED,
        }  # fmt: skip
        self._carrier = TwilioMediaCarrier(
            stream_sid="MZ" + derived_id("stream", call.run_id),
            call_sid="CA" + derived_id("call", call.run_id),
            account_sid="AC" + derived_id("account", call.run_id),
            parameters={n: v for n, v in call.metadata.items() if isinstance(v, str)} | told,
            strict=False,
        )

    def opening(self) -> list[Frame]:
        return self._carrier.opening()

    def speaking(self) -> list[Frame]:
        return [self._carrier.media(frame) for frame in _frames(pcm16_to_mulaw(speech(8000)), 8 * FRAME_MS)]

    def silence(self) -> Frame:
        return self._carrier.media(bytes([SILENCE]) * 8 * FRAME_MS)

    def read(self, message: Frame) -> bytes | pcm.AgentMessage | pcm.Ignored | pcm.Rejected:
        faults = self._carrier.violation_count
        match self._carrier.interpret(message):
            case PlayAudio(payload):
                said: bytes | pcm.AgentMessage | pcm.Ignored = payload
            case SetMark(name):
                said = pcm.MarkRequest(name[: pcm.MAX_NAME])
            case ClearAudio():
                said = pcm.ClearRequest()
            case ignored:
                said = pcm.Ignored(ignored.why)
        # Every binary message after the first is as wrong as the first, which alone is told.
        if self._carrier.violation_count > faults or isinstance(message, bytes):
            last = self._carrier.violations[-1]
            return pcm.Rejected(last.code, last.message)
        return said

    def mark(self, name: str, heard: bool) -> Frame:
        return self._carrier.mark(name)

    def cleared(self, heard_ms: int, discarded_ms: int) -> list[Frame]:
        return []

    def refused(self, what: pcm.Rejected | pcm.TransferRequest | pcm.DtmfRequest) -> list[Frame]:
        return []

    def stop(self, reason: str) -> Frame:
        return self._carrier.stop()


class Talk:
    """One trial conversation. Times are milliseconds of one clock that never goes back.

    `messages`: how many of each kind came (`audio`, `mark`, `clear`, `hangup`, `transfer`, `dtmf`, `unknown`, `unusable`).
    `first_audio_ms`, `last_audio_ms`: when audio came. `audio_ms`: how much in all. `hung_up`: the agent asked for the end.
    `objections`: what the bridge would object to, the first few in words.
    """

    def __init__(self, link: Link) -> None:
        self.messages: Counter[str] = Counter()
        self.first_audio_ms: float | None = None
        self.last_audio_ms: float | None = None
        self.hung_up = False
        self.objections: list[str] = []
        self._link = link
        self._bytes = 0
        self._heard_from = 0
        self._playout = Playout(link.bytes_per_ms)

    @property
    def audio_ms(self) -> int:
        return self._bytes // self._link.bytes_per_ms

    def tick(self, now_ms: float) -> list[Frame]:
        """Marks that are reached now."""
        return [self._link.mark(name, True) for name in self._playout.advance(now_ms)]

    def receive(self, message: Frame, now_ms: float) -> list[Frame]:
        """What to answer. Never raises for what the agent did."""
        answers = self.tick(now_ms)
        match self._link.read(message):
            case bytes() as audio:
                self._audio(audio, now_ms)
            case pcm.MarkRequest(name):
                self.messages["mark"] += 1
                if self._playout.mark(name):
                    answers.append(self._link.mark(name, True))
            case pcm.ClearRequest():
                self.messages["clear"] += 1
                discarded = int(self._playout.buffered_ms)
                void = [self._link.mark(name, False) for name in self._playout.clear()]
                heard = max(0, self.audio_ms - self._heard_from - discarded)
                self._heard_from = self.audio_ms
                answers += [*void, *self._link.cleared(heard, discarded)]
            case pcm.HangupRequest():
                self.messages["hangup"] += 1
                self.hung_up = True
            case (pcm.TransferRequest() | pcm.DtmfRequest()) as request:
                self.messages["transfer" if isinstance(request, pcm.TransferRequest) else "dtmf"] += 1
                answers += self._link.refused(request)
            case pcm.Rejected() as rejected:
                self.messages["unusable"] += 1
                self.object(f"{rejected.code}: {rejected.message}")
                answers += self._link.refused(rejected)
            case pcm.Ignored():
                self.messages["unknown"] += 1
        return answers

    def object(self, sentence: str) -> None:
        if sentence not in self.objections and len(self.objections) < _MAX_OBJECTIONS:
            self.objections.append(sentence)

    def goodbye(self, reason: Literal["caller-hangup", "agent-hangup"]) -> list[Frame]:
        """The last messages: every mark is answered, once."""
        return [*(self._link.mark(name, False) for name in self._playout.clear()), self._link.stop(reason)]

    def _audio(self, audio: bytes, now_ms: float) -> None:
        self.messages["audio"] += 1
        self._bytes += len(audio)
        self._playout.push(audio, now_ms)
        self.last_audio_ms = now_ms
        if self.first_audio_ms is None and audio:
            self.first_audio_ms = now_ms


def _frames(audio: bytes, size: int) -> list[bytes]:
    return [audio[start : start + size] for start in range(0, len(audio), size)]
