import pytest

from media_bridge.quality import HeldAudio, QualityMeter, Turns


def test_percentiles_are_the_bound_of_the_bucket_they_fall_in() -> None:
    held = HeldAudio()
    for _ in range(98):
        held.add(2.5)
    held.add(9.0)
    held.add(9.0)
    assert held.percentile(0.5) == 3.0
    assert held.percentile(0.99) == 10.0
    assert HeldAudio().percentile(0.99) == 0.0


def speak(turns: Turns, since: float, frames: int) -> float:
    for number in range(frames):
        turns.caller(True, since + number * 0.02)
    return since + (frames - 1) * 0.02


def test_the_response_time_is_from_the_last_sound_of_the_caller_to_the_first_of_the_agent() -> None:
    turns = Turns()
    last = speak(turns, 100.0, 50)
    for number in range(1, 40):
        turns.caller(False, last + number * 0.02)
    assert turns.agent(False, last + 0.5) is None
    assert turns.agent(True, last + 0.8) == pytest.approx(0.8)
    assert turns.agent(True, last + 0.82) is None
    assert turns.responses_ms == [pytest.approx(800)]


def test_a_click_is_not_a_turn() -> None:
    turns = Turns()
    last = speak(turns, 100.0, 2)
    turns.caller(False, last + 0.2)
    assert turns.agent(True, last + 1.0) is None


def test_an_agent_that_speaks_while_the_caller_does_is_not_answering() -> None:
    turns = Turns()
    last = speak(turns, 100.0, 50)
    assert turns.agent(True, last + 0.01) is None
    assert turns.agent(True, last + 0.3) == pytest.approx(0.3)


def test_the_report_is_in_milliseconds_of_20_ms_frames() -> None:
    meter = QualityMeter()
    meter.caller_frames, meter.caller_active = 100, 30
    meter.gap(0.25)
    meter.gap(0.75)
    report = meter.report(underruns=2)
    assert (report.caller_audio_ms, report.caller_active_ms) == (2000, 600)
    assert (report.gaps, report.longest_gap_ms, report.underruns) == (2, 750, 2)
    assert report.response_p50_ms is None
