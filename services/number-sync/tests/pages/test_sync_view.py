"""What a page says about a number's sync state."""

import pytest

from number_sync.pages.sync_view import state_counts, sync_view
from number_sync.standing import STATES


def test_a_number_without_a_state_yet_is_pending() -> None:
    view = sync_view(None)
    assert view.state == "pending"
    assert view.sentence
    assert view.before is None


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_sentence(state: str) -> None:
    view = sync_view({"state": state})
    assert view.sentence.endswith(".")


def test_the_engines_own_sentence_comes_before_ours() -> None:
    view = sync_view({"state": "failed", "sentence": "It is not in this account.", "remedy": "Import it."})
    assert (view.sentence, view.remedy) == ("It is not in this account.", "Import it.")


def test_settings_that_differ_come_first_with_both_values_and_the_others_are_the_same() -> None:
    view = sync_view(
        {
            "state": "drifted",
            "differs": [{"setting": "VoiceUrl", "wanted": "https://a", "found": ""}],
            "compared": ["VoiceMethod", "VoiceUrl"],
            "wanted": {"VoiceMethod": "POST", "VoiceUrl": "https://a"},
        }
    )
    assert [(one.name, one.wanted, one.found, one.same) for one in view.settings] == [
        ("VoiceUrl", "https://a", "", False),
        ("VoiceMethod", "POST", "POST", True),
    ]
    assert view.differs


def test_the_last_drift_and_what_was_there_before_are_told() -> None:
    drift = {
        "at": 7,
        "differs": [{"setting": "VoiceUrl", "wanted": "a", "found": "b"}],
        "repaired": True,
    }
    view = sync_view(
        {
            "state": "synced",
            "last_drift": drift,
            "before": {"VoiceUrl": "https://user:secret@them.example/voice"},
        }
    )
    assert view.last_drift is not None
    assert (view.last_drift.at, view.last_drift.repaired) == (7, True)
    assert view.last_drift.settings[0].found == "b"
    assert view.before == (("VoiceUrl", "https://•••@them.example/voice"),)
    assert not view.differs


def test_counts_come_in_one_order_and_without_zeros() -> None:
    assert state_counts({"failed": 1, "synced": 3, "pending": 0, "total": 4}) == (
        ("synced", 3),
        ("failed", 1),
    )


def test_a_comparison_that_does_not_come_has_no_time() -> None:
    assert sync_view({"state": "detached", "due_at": 2**53 - 1}).next_at is None
    assert sync_view({"state": "synced", "due_at": 5}).next_at == 5


def test_what_the_numbers_of_an_application_share_is_told_with_the_numbers_own() -> None:
    number = {
        "state": "synced",
        "compared": ["app_id", "answer_url"],
        "wanted": {"app_id": "a"},
        "before": {},
    }
    shared = {"wanted": {"answer_url": "https://ours"}, "before": {"answer_url": "https://before"}}
    view = sync_view(number, shared)
    assert [(one.name, one.wanted) for one in view.settings] == [
        ("app_id", "a"),
        ("answer_url", "https://ours"),
    ]
    assert view.before == (("answer_url", "https://before"),)
