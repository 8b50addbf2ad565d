"""What a page says about a try of an agent. Pure."""

from dataclasses import dataclass

from number_sync.pages.sync_view import Kind
from number_sync.trial import Trial


@dataclass(frozen=True, slots=True)
class TrialView:
    """`kind` is how the box with the sentence looks; `facts` are pairs of what was measured and its value."""

    kind: Kind
    sentence: str
    remedy: str
    facts: tuple[tuple[str, str], ...]
    objections: tuple[str, ...]


def trial_view(trial: Trial) -> TrialView:
    facts: list[tuple[str, str]] = []
    if trial.handshake_ms is not None:
        facts.append(("Connected in", _duration(trial.handshake_ms)))
    if trial.connected:
        first = trial.first_audio_ms
        facts.append(("First audio after", "none came" if first is None else _duration(first)))
        facts.append(("Audio that came back", _duration(trial.audio_ms_back)))
    messages = ", ".join(f"{count} × {kind}" for kind, count in sorted(trial.messages.items()) if count)
    if messages:
        facts.append(("Messages", messages))
    if trial.closed:
        facts.append(("How it ended", trial.closed))
    kind: Kind = "bad" if trial.code != "ok" else ("warning" if trial.objections else "good")
    return TrialView(kind, trial.sentence, trial.remedy, tuple(facts), trial.objections)


def _duration(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
