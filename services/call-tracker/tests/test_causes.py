"""Whose fault an end is."""

from call_tracker.causes import END_REASONS, fault_of
from offhook.events import Party


def test_a_conversation_that_its_people_end_is_nobodys_fault() -> None:
    for reason in ("caller-hung-up", "callee-hung-up", "agent-hung-up", "operator-hung-up", "transferred"):
        assert fault_of(reason, Party.CALLER) == "none"


def test_a_call_that_we_lost_is_ours_and_one_that_the_provider_forgot_is_the_carriers() -> None:
    assert fault_of("lost", Party.PLATFORM) == "platform"
    assert fault_of("lost", Party.CARRIER) == "carrier"
    assert fault_of("platform-hung-up", Party.PLATFORM) == "platform"


def test_faults_have_few_words() -> None:
    found = {fault_of(reason, party) for reason in END_REASONS for party in (None, *Party)}
    assert found == {"none", "agent", "carrier", "account", "platform"}
