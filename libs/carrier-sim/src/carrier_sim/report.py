"""What a simulated call reports: everything a carrier would have known about it, and what it would have objected to."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from carrier_sim.audio import wav_bytes

Severity = Literal["error", "warning"]
EndedBy = Literal["caller", "callee", "instructions", "rest", "carrier"]


@dataclass(frozen=True, slots=True)
class Violation:
    """Something the real carrier would have rejected (`error`) or warned about (`warning`).

    `code` is the vendor's own where there is one (Twilio's debugger codes, such as 11200); codes that begin with `vonage-` name
    what Vonage documents without a code, codes that begin with `sim-` are rules of the simulator itself. `at_ms` counts from the
    beginning of the call; `times` how often it happened, where the vendor reports only the first.
    """

    code: str
    message: str
    severity: Severity
    at_ms: int
    where: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True)
class Callback:
    """One HTTP request of the carrier, one entry an attempt.

    `purpose`: `instructions`, `fallback`, `status`, `stream-status`, `event`. `status_code` is None when no answer came,
    and `error` says why. `ms` is the time from sending to the whole answer.
    """

    purpose: str
    method: str
    url: str
    attempt: int
    status_code: int | None
    ms: float
    at_ms: int
    error: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatusSent:
    """A status the call reached, in the provider's spelling. `sequence` is None when nobody was told."""

    status: str
    at_ms: int
    at: str
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark (Twilio) or notify (Vonage) given back: because it was `played`, or because `clear` made it void."""

    name: str
    at_ms: int
    outcome: Literal["played", "cleared"]


@dataclass(frozen=True, slots=True)
class Interruption:
    """The caller spoke into the agent's words. `stopped_after_ms`: until the caller heard nothing more (None: never)."""

    at_ms: int
    stopped_after_ms: int | None


@dataclass(slots=True)
class CallReport:
    """The whole story of one call. Times `*_ms` count from the call's beginning, durations in milliseconds too.

    `instructions_ms`: webhook sent → instructions received, one entry a request. `response_ms`: end of the caller's
    words → first audible agent audio. `caller_audio_ms`: audible audio the person on the phone spoke, of it
    `caller_audio_lost_ms` while no stream was open. `agent_audio_ms`: audible agent audio at the person's ear, after the
    playout buffer; `party_audio_ms`: the same of other phones. `dtmf`: keys the person pressed, `digits_heard`: those heard.
    `legs`: the ids of calls placed within this one, `rooms`: conferences entered. `said`: what the carrier's own voice
    read out. `unmet`: what the caller's script waited for in vain.
    """

    provider: Literal["twilio", "vonage"]
    direction: Literal["inbound", "outbound"]
    provider_call_id: str
    from_number: str
    to_number: str
    started_at: str
    statuses: list[StatusSent] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    instructions_ms: list[float] = field(default_factory=list)
    response_ms: list[float] = field(default_factory=list)
    caller_audio_ms: int = 0
    caller_audio_lost_ms: int = 0
    agent_audio_ms: int = 0
    party_audio_ms: int = 0
    dtmf: str = ""
    digits_heard: str = ""
    legs: list[str] = field(default_factory=list)
    rooms: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    clears: int = 0
    interruptions: list[Interruption] = field(default_factory=list)
    streams: int = 0
    said: list[str] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    late_frames: int = 0
    ended_by: EndedBy | None = None
    end_cause: str | None = None
    duration_ms: int = 0
    talk_ms: int = 0
    violations: list[Violation] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)
    heard: bytes = field(default=b"", repr=False)
    spoken: bytes = field(default=b"", repr=False)
    sample_rate: int = 8000
    _begun: float = field(default_factory=time.monotonic, repr=False)

    def now_ms(self) -> int:
        """Milliseconds since the call began."""
        return round((time.monotonic() - self._begun) * 1000)

    def violate(self, code: str, message: str, *, severity: Severity = "error", where: str = "") -> None:
        """Enter an objection."""
        self.violations.append(Violation(code, message, severity, self.now_ms(), where))

    def violate_once(self, code: str, message: str, *, severity: Severity = "error", where: str = "") -> None:
        """Enter an objection the vendor reports once a stream; repetitions are counted in `times`."""
        for index, known in enumerate(self.violations):
            if known.code == code and known.where == where:
                self.violations[index] = dataclasses.replace(known, times=known.times + 1)
                return
        self.violate(code, message, severity=severity, where=where)

    def reached(self, status: str, sequence: int | None = None) -> None:
        """Enter a status."""
        self.statuses.append(StatusSent(status, self.now_ms(), utc_now().isoformat(), sequence))

    @property
    def status(self) -> str:
        """The last status reached, in the provider's spelling."""
        return self.statuses[-1].status if self.statuses else ""

    @property
    def errors(self) -> list[Violation]:
        """The violations a carrier would have rejected, without the warnings."""
        return [v for v in self.violations if v.severity == "error"]

    @property
    def heard_wav(self) -> bytes:
        """What the person on the phone heard, as a WAV file (16-bit mono at `sample_rate`)."""
        return wav_bytes(self.heard, self.sample_rate)

    @property
    def spoken_wav(self) -> bytes:
        """What the person on the phone said, as a WAV file, beside `heard_wav` in time."""
        return wav_bytes(self.spoken, self.sample_rate)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable; without the audio itself."""
        hidden = {"heard", "spoken", "_begun"}
        shown = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in hidden}
        return {name: _plain(value) for name, value in shown.items()}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def utc_now() -> datetime:
    return datetime.now(UTC)
