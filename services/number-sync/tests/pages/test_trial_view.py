"""What a page says about a try of an agent."""

from typing import Any

from number_sync.pages.trial_view import trial_view
from number_sync.trial import Trial

HEARD = Trial(
    code="ok",
    connected=True,
    sentence="The agent answered.",
    remedy="",
    run_id="trial-1",
    handshake_ms=12,
    first_audio_ms=1340,
    audio_ms_back=2000,
    messages={"audio": 100, "start": 1, "mark": 0},
    closed="code 1000",
)


def test_what_was_measured_is_told_in_units_people_read() -> None:
    view = trial_view(HEARD)
    assert view.kind == "good"
    assert dict(view.facts) == {
        "Connected in": "12 ms",
        "First audio after": "1.3 s",
        "Audio that came back": "2.0 s",
        "Messages": "100 × audio, 1 × start",
        "How it ended": "code 1000",
    }


def test_objections_make_a_warning_and_silence_a_failure() -> None:
    warned = trial_view(Trial(**{**_fields(HEARD), "objections": ("odd",)}))
    assert (warned.kind, warned.objections) == ("warning", ("odd",))
    silent = trial_view(Trial(**{**_fields(HEARD), "code": "silent", "first_audio_ms": None}))
    assert silent.kind == "bad"
    assert ("First audio after", "none came") in silent.facts


def test_without_a_connection_there_is_only_the_sentence() -> None:
    view = trial_view(Trial("refused", False, "Nobody listens there.", "Start the agent.", "trial-1"))
    assert view.facts == ()
    assert (view.sentence, view.remedy) == ("Nobody listens there.", "Start the agent.")


def _fields(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in Trial.__dataclass_fields__}
