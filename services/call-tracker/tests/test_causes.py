"""Whose fault an end is."""

import pytest
from events_of_calls import Call
from test_lifecycle import record

from call_tracker.causes import END_REASONS, fault_of
from offhook.events import Party


def test_a_conversation_that_its_people_end_is_nobodys_fault() -> None:
    for reason in ("caller-hung-up", "callee-hung-up", "agent-hung-up", "operator-hung-up", "transferred"):
        assert fault_of(reason, Party.CALLER) == "none"


def test_a_call_that_we_lost_is_ours_and_one_that_the_provider_forgot_is_the_carriers() -> None:
    assert fault_of("lost", Party.PLATFORM) == "platform"
    assert fault_of("lost", Party.CARRIER) == "carrier"
    assert fault_of("platform-hung-up", Party.PLATFORM) == "platform"


@pytest.mark.parametrize(
    ("detail", "fault"),
    [
        ("reconnect-limit", "platform"),
        ("no-public-url", "platform"),
        ("configuration-paused", "account"),
        ("limit-reached", "account"),
    ],
)
def test_a_call_that_is_refused_for_what_only_the_operator_can_mend_is_our_fault(
    detail: str, fault: str
) -> None:
    call = Call()
    state = record([call.received(), call.served("hangup", 1, detail), call.status("completed", 2)])
    assert (state.end_reason, state.end_detail) == ("refused", detail)
    assert fault_of("refused", state.ended_by, state.end_detail) == fault


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("expired", "platform"),
        ("outcome-unknown", "platform"),
        ("no-public-url", "platform"),
        ("credentials-unreadable", "platform"),
        ("credentials", "account"),
        ("rejected", "account"),
    ],
)
def test_a_dial_that_is_given_up_for_what_only_the_operator_can_mend_is_our_fault(
    code: str, fault: str
) -> None:
    call = Call()
    state = record([call.requested(), call.dial_failed(code=code)])
    assert (state.end_reason, state.end_detail) == ("dial-failed", code)
    assert fault_of("dial-failed", state.ended_by, state.end_detail) == fault


def test_faults_have_few_words() -> None:
    found = {fault_of(reason, party) for reason in END_REASONS for party in (None, *Party)}
    assert found == {"none", "agent", "carrier", "account", "platform"}
