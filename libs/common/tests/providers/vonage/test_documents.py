"""NCCOs for transfers, judged by the vendor's own models and by the simulated carrier's strict reader."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vonage_voice.models import Connect, Conversation, Notify, PhoneEndpoint

from carrier_sim.vonage import ncco as strict
from offhook.identities import ID_PATTERN
from offhook.providers.base import InstructionError
from offhook.providers.vonage import VONAGE

DOCUMENTS = VONAGE.documents
CLERK, OURS = "+14155550177", "+14155550100"


def same(document, model):
    said = model.model_dump(by_alias=True, exclude_none=True, mode="json")
    assert json.loads(document) == [said]
    read = strict.read(document.encode(), "application/json")
    assert (read.failed, read.objections) == (False, ())


@given(st.integers(1, 120))
def test_a_cold_transfer_says_what_the_vendors_model_says(timeout):
    model = Connect(
        endpoint=[PhoneEndpoint(number=CLERK[1:])],
        from_=OURS[1:],
        timeout=timeout,
        eventType="synchronous",
        eventUrl=["https://h.example/x?transfer=cold"],
        eventMethod="POST",
    )
    same(DOCUMENTS.cold(CLERK, OURS, timeout, "https://h.example/x?transfer=cold"), model)


@given(st.from_regex(ID_PATTERN, fullmatch=True))
def test_who_waits_and_who_joins_meet_in_a_conversation_that_either_ends(name):
    same(DOCUMENTS.hold(name), Conversation(name=name, startOnEnter=False, endOnExit=True))
    same(DOCUMENTS.join(name), Conversation(name=name, startOnEnter=True, endOnExit=True))
    music = "https://h.example/music.mp3"
    waiting = Conversation(name=name, startOnEnter=False, endOnExit=True, musicOnHoldUrl=[music])
    same(DOCUMENTS.hold(name, "https://h.example/after", music), waiting)


def test_a_call_is_sent_elsewhere_by_an_event_that_may_be_answered():
    url = "https://h.example/webhook?transfer=busy"
    same(DOCUMENTS.ask(url), Notify(payload={}, eventUrl=[url], eventMethod="POST"))


@pytest.mark.parametrize("seconds", [-5, 0, 10_000])
def test_the_ring_timeout_stays_within_vonages_limit(seconds):
    (action,) = json.loads(DOCUMENTS.cold(CLERK, OURS, seconds, "https://h.example"))
    assert 1 <= action["timeout"] <= 120


@pytest.mark.parametrize(
    "make",
    [
        lambda: DOCUMENTS.cold("0155", OURS, 30, "https://h.example"),
        lambda: DOCUMENTS.cold(CLERK, "anonymous", 30, "https://h.example"),
        lambda: DOCUMENTS.hold(""),
        lambda: DOCUMENTS.hold("two words"),
        lambda: DOCUMENTS.join("x" * 129),
    ],
)
def test_what_vonage_would_not_take_is_refused_here(make):
    with pytest.raises(InstructionError):
        make()


def test_a_document_is_an_answer_too_and_busy_is_no_action_at_all():
    answer = DOCUMENTS.answer(DOCUMENTS.join("room"))
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.body.decode() == DOCUMENTS.join("room")
    assert json.loads(DOCUMENTS.busy().body) == []
