"""The first-use guide."""

from dataclasses import replace

from number_sync.pages.guide import GuideNumber, Step, guide
from number_sync.pages.sync_view import sync_view

NUMBER = GuideNumber(
    number_id="n1",
    configuration_id="c1",
    e164="+14155551234",
    answers=True,
    paused=False,
    sync=sync_view({"state": "synced"}),
)


def states(steps: tuple[Step, ...]) -> list[str]:
    return [step.state for step in steps]


def steps(*numbers: GuideNumber, workflows: tuple[str, ...] = ("w1",)) -> tuple[Step, ...]:
    return guide(configuration_ids=["c1"], numbers=numbers, workflow_ids=workflows)


def test_a_new_user_is_led_to_a_configuration_first() -> None:
    found = guide(configuration_ids=[], numbers=[], workflow_ids=[])
    assert states(found) == ["current", "later", "later", "later"]
    assert found[0].links[0].url == "/telephony-configurations/new"
    assert found[1].links == ()


def test_refused_credentials_are_to_be_corrected_first() -> None:
    found = guide(configuration_ids=["c1"], refused=True, numbers=[], workflow_ids=[])
    assert states(found) == ["current", "later", "later", "later"]
    assert found[0].links[0].url == "/telephony-configurations/c1/edit"


def test_a_configuration_without_numbers_leads_to_its_numbers() -> None:
    found = steps(workflows=())
    assert states(found) == ["done", "current", "later", "later"]
    assert [link.url for link in found[1].links] == [
        "/telephony-configurations/c1/import",
        "/telephony-configurations/c1/phone-numbers/new",
    ]


def test_a_number_that_nobody_answers_leads_to_a_workflow_and_then_to_choosing_it() -> None:
    mute = replace(NUMBER, answers=False)
    without = steps(mute, workflows=())
    assert states(without) == ["done", "done", "current", "later"]
    assert without[2].links[0].url == "/workflows/new"
    chosen = steps(mute)
    assert states(chosen) == ["done", "done", "current", "later"]
    assert chosen[2].links[0].url == "/telephony-configurations/c1/phone-numbers/n1"
    assert "+1 415-555-1234" in chosen[2].links[0].text


def test_the_test_call_names_the_number_and_ticks_what_has_happened() -> None:
    found = steps(NUMBER)
    assert states(found) == ["done", "done", "done", "current"]
    assert "+1 415-555-1234" in found[3].text
    assert [tick.done for tick in found[3].ticks] == [True, False, False]
    rings = steps(replace(NUMBER, call_status="ringing", call_at=5))
    assert [tick.done for tick in rings[3].ticks] == [True, True, False]
    assert rings[3].ticks[1].at == 5


def test_a_call_that_nobody_answered_is_told_and_the_guide_stays() -> None:
    found = steps(replace(NUMBER, call_status="no-answer"))
    assert states(found)[3] == "current"
    assert "no-answer" in found[3].ticks[1].text


def test_what_keeps_the_number_from_being_called_stands_in_the_guide_until_a_call_came_in() -> None:
    failed = sync_view({"state": "failed", "sentence": "Not in this account.", "remedy": "Buy it."})
    assert steps(replace(NUMBER, sync=failed))[3].trouble == failed
    assert steps(replace(NUMBER, sync=failed, call_status="failed"))[3].trouble is None


def test_a_paused_configuration_is_to_be_resumed_before_the_call() -> None:
    found = steps(replace(NUMBER, paused=True))
    assert "paused" in found[3].text
    assert found[3].links[0].url == "/telephony-configurations/c1"
