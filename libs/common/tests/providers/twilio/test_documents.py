"""TwiML for transfers, judged by the vendor's own builder and by the simulated carrier's strict reader."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.voice_response import Conference, Dial, VoiceResponse

from carrier_sim.twilio import twiml as strict
from offhook.identities import ID_PATTERN
from offhook.providers.base import InstructionError
from offhook.providers.twilio import TWILIO
from offhook.providers.twilio.retries import RETRIES

DOCUMENTS = TWILIO.documents
CLERK, OURS = "+14155550177", "+14155550100"
urls = st.from_regex(r"https://[a-z]{1,8}\.example(/[a-z&?='\"<>]{0,8}){0,3}", fullmatch=True)
names = st.from_regex(ID_PATTERN, fullmatch=True)


def same(document, said):
    assert ElementTree.canonicalize(document) == ElementTree.canonicalize(str(said))
    read = strict.read_xml(document.encode())
    assert (read.failed, read.objections) == (False, ())


@given(urls, st.integers(1, 600))
def test_a_cold_transfer_says_what_the_vendors_builder_says(url, timeout):
    said, dial = (
        VoiceResponse(),
        Dial(action=f"{url}#{RETRIES}", method="POST", timeout=timeout, caller_id=OURS),
    )
    dial.number(CLERK)
    said.append(dial)
    same(DOCUMENTS.cold(CLERK, OURS, timeout, url), said)


@given(names, st.none() | urls, st.none() | urls)
def test_who_waits_and_who_joins_meet_in_a_conference_that_either_ends(name, result_url, music_url):
    for document, starts in (
        (DOCUMENTS.hold(name, result_url, music_url), False),
        (DOCUMENTS.join(name), True),
    ):
        after = {"action": f"{result_url}#{RETRIES}", "method": "POST"} if result_url and not starts else {}
        said, dial = VoiceResponse(), Dial(**after)
        music = {"wait_url": music_url, "wait_method": "POST"} if music_url and not starts else {}
        dial.append(
            Conference(
                name, start_conference_on_enter=starts, end_conference_on_exit=True, beep="false",
                max_participants=2, **music,
            )
        )  # fmt: skip
        said.append(dial)
        same(document, said)


@given(urls)
def test_a_call_is_sent_elsewhere_as_the_vendors_builder_sends_it(url):
    said = VoiceResponse()
    said.redirect(f"{url}#{RETRIES}", method="POST")
    same(DOCUMENTS.ask(url), said)


@pytest.mark.parametrize("seconds", [-5, 0, 10_000])
def test_the_ring_timeout_stays_within_twilios_limit(seconds):
    timeout = ElementTree.fromstring(DOCUMENTS.cold(CLERK, OURS, seconds, "https://h.example"))[0].get(
        "timeout"
    )
    assert 1 <= int(timeout) <= 600


@pytest.mark.parametrize(
    "make",
    [
        lambda: DOCUMENTS.cold("4155550177", OURS, 30, "https://h.example"),
        lambda: DOCUMENTS.cold(CLERK, "anonymous", 30, "https://h.example"),
        lambda: DOCUMENTS.cold("+1<Hangup/>", OURS, 30, "https://h.example"),
        lambda: DOCUMENTS.cold(CLERK, OURS, 30, "https://h.example/" + "x" * 4000),
        lambda: DOCUMENTS.hold(""),
        lambda: DOCUMENTS.hold("two words"),
        lambda: DOCUMENTS.join("x" * 129),
    ],
)
def test_what_twilio_would_not_take_is_refused_here(make):
    with pytest.raises(InstructionError):
        make()


def test_a_document_is_an_answer_too_and_busy_refuses_before_answering():
    answer = DOCUMENTS.answer(DOCUMENTS.join("room"))
    assert (answer.status, answer.content_type, answer.body.decode()) == (
        200,
        "text/xml",
        DOCUMENTS.join("room"),
    )
    said = VoiceResponse()
    said.reject(reason="busy")
    same(DOCUMENTS.busy().body.decode(), said)
