"""What a provider says of a call when it is asked, and the event that tells it, for every provider there is."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.rest.api.v2010.account.call import CallInstance
from vonage_voice.models import CallState

from offhook.events.calls import CallStatus, StatusReported
from offhook.providers.base import HttpRequest, Seen, report, report_id
from offhook.providers.seen import newest_first
from offhook.providers.twilio import seen as twilio_seen
from offhook.providers.twilio import statuses as twilio_statuses
from offhook.providers.twilio.webhooks import TwilioWebhooks
from offhook.providers.vonage import seen as vonage_seen
from offhook.providers.vonage import statuses as vonage_statuses
from offhook.providers.vonage.webhooks import VonageWebhooks

FORM = "application/x-www-form-urlencoded"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ENDED = Seen(
    "call-1", None, "+15550002222", "+15550001111", "outbound", "completed", CallStatus.COMPLETED,
    began_at=NOON, answered_at=NOON + timedelta(seconds=8), ended_at=NOON + timedelta(seconds=20),
    duration_s=12, price="0.0140", price_unit="USD", answered_by="human", raw={"status": "completed"},
)  # fmt: skip


def same(told):
    return told.status, told.provider_status, told.direction, told.provider_call_id


def told(seen, run="run-1"):
    return report(seen, workflow_run_id=run, provider="twilio", account="AC1")


def test_the_event_says_all_that_was_seen_and_that_it_was_looked_up():
    event = told(ENDED)
    assert (event.reconciled, event.leg, event.workflow_run_id) == (True, "phone", "run-1")
    assert (event.status, event.provider_status, event.duration_s) == (CallStatus.COMPLETED, "completed", 12)
    assert (event.began_at, event.answered_at, event.ended_at) == (
        ENDED.began_at,
        ENDED.answered_at,
        ENDED.ended_at,
    )
    assert (event.price, event.price_unit, event.answered_by) == ("0.0140", "USD", "human")
    assert StatusReported.model_validate_json(event.model_dump_json()) == event


@pytest.mark.parametrize(
    ("status", "moment"),
    [
        (CallStatus.INITIATED, ENDED.began_at),
        (CallStatus.RINGING, None),
        (CallStatus.ANSWERED, ENDED.answered_at),
        (CallStatus.COMPLETED, ENDED.ended_at),
        (CallStatus.BUSY, ENDED.ended_at),
        (None, None),
    ],
)
def test_the_providers_time_is_when_the_call_came_into_its_state(status, moment):
    assert told(replace(ENDED, status=status)).provider_time == moment


def test_the_same_answer_is_one_event_and_any_other_answer_is_another():
    first = report_id(told(ENDED))
    assert first == report_id(told(replace(ENDED, raw=dict(ENDED.raw))))
    others = [
        told(replace(ENDED, price=None)),
        told(replace(ENDED, provider_call_id="call-2")),
        told(replace(ENDED, status=None)),
        told(ENDED).model_copy(update={"account": "AC2"}),
    ]
    assert first not in {report_id(other) for other in others}


def test_a_call_shorter_than_its_billed_second_was_not_answered_before_it_began():
    resource = {
        "uuid": "u", "status": "completed", "duration": "1",
        "start_time": "2026-01-01 12:00:00", "end_time": "2026-01-01 12:00:00",
    }  # fmt: skip
    seen = vonage_seen.seen_of(resource)
    assert seen.began_at == seen.answered_at == seen.ended_at == NOON


def test_calls_whose_beginning_is_not_known_are_the_newest():
    waiting = replace(ENDED, began_at=None)
    later = replace(ENDED, began_at=NOON + timedelta(seconds=1))
    assert newest_first([ENDED, waiting, later]) == [waiting, later, ENDED]


@pytest.mark.parametrize("word", [word for name, word in vars(CallInstance.Status).items() if name.isupper()])
def test_twilios_library_has_no_state_that_is_not_known(word):
    seen = twilio_seen.seen_of({"sid": "CA1", "status": word})
    assert seen is not None
    assert seen.status is not None


@pytest.mark.parametrize("state", list(CallState), ids=lambda state: state.value)
def test_vonages_library_has_no_state_that_is_not_known(state):
    seen = vonage_seen.seen_of({"uuid": "u", "status": state.value})
    assert seen is not None
    assert seen.status is not None


def test_a_word_nobody_knows_is_kept_and_is_no_state():
    for seen in (
        twilio_seen.seen_of({"sid": "CA1", "status": "invented-tomorrow"}),
        vonage_seen.seen_of({"uuid": "u", "status": "invented-tomorrow"}),
    ):
        assert (seen.status, seen.provider_status) == (None, "invented-tomorrow")
        assert seen.raw["status"] == "invented-tomorrow"


def test_twilios_call_is_read_whole():
    seen = twilio_seen.seen_of(
        {
            "sid": "CA1", "status": "completed", "direction": "outbound-api", "from": "+15550002222",
            "to": "+15550001111", "date_created": "Thu, 01 Jan 2026 12:00:00 +0000",
            "start_time": "Thu, 01 Jan 2026 12:00:08 +0000", "end_time": "Thu, 01 Jan 2026 12:00:20 +0000",
            "duration": "12", "price": "-0.01400", "price_unit": "USD", "answered_by": "machine_end_beep",
            "parent_call_sid": None, "date_updated": "Thu, 01 Jan 2026 12:00:21 +0000", "subresource_uris": {},
        }
    )  # fmt: skip
    assert (seen.began_at, seen.answered_at, seen.ended_at) == (
        ENDED.began_at,
        ENDED.answered_at,
        ENDED.ended_at,
    )
    # Twilio's charges are below zero; a cost is not.
    assert (seen.duration_s, seen.price, seen.price_unit) == (12, "0.01400", "USD")
    assert (seen.answered_by, seen.raw["answered_by"]) == ("machine", "machine_end_beep")
    assert "date_updated" not in seen.raw


def test_a_price_that_is_not_there_yet_has_no_currency():
    seen = twilio_seen.seen_of({"sid": "CA1", "status": "completed", "price": None, "price_unit": "USD"})
    assert (seen.price, seen.price_unit) == (None, None)


@pytest.mark.parametrize("number", [str, int])
def test_vonages_call_is_read_whole_in_either_form_of_time(number):
    seen = vonage_seen.seen_of(
        {
            "uuid": "u", "conversation_uuid": "CON-1", "status": "completed", "direction": "outbound",
            "from": {"type": "phone", "number": "15550002222"}, "to": {"type": "phone", "number": "15550001111"},
            "start_time": "2026-01-01 12:00:08", "end_time": "2026-01-01T12:00:20.000Z",
            "duration": number(12), "price": "0.02", "rate": "0.1", "_links": {},
        }
    )  # fmt: skip
    assert (seen.from_number, seen.to_number) == ("+15550002222", "+15550001111")
    assert (seen.answered_at, seen.ended_at, seen.duration_s) == (ENDED.answered_at, ENDED.ended_at, 12)
    assert (seen.price, seen.price_unit, seen.conversation_id) == ("0.02", "EUR", "CON-1")


def test_vonage_says_who_answered_in_place_of_the_state():
    seen = vonage_seen.seen_of({"uuid": "u", "status": "machine"})
    assert (seen.status, seen.answered_by) == (CallStatus.ANSWERED, "machine")


def test_a_call_comes_out_the_same_whether_its_end_was_told_or_looked_up():
    for word in twilio_statuses.CALL_STATUSES:
        fields = {"AccountSid": "AC1", "CallSid": "CA1", "CallStatus": word, "Direction": "outbound-api"}
        form = HttpRequest("POST", (), "/", "", {"content-type": FORM}, urlencode(fields).encode())
        callback = TwilioWebhooks().parse_status(form)
        looked = twilio_seen.seen_of({"sid": "CA1", "status": word, "direction": "outbound-api"})
        assert same(callback) == same(looked)
    for word in vonage_statuses.CALL_STATUSES:
        event = {"uuid": "u", "status": word, "direction": "outbound"}
        callback = VonageWebhooks().parse_status(
            HttpRequest("POST", (), "/", "", {}, json.dumps(event).encode())
        )
        assert same(callback) == same(vonage_seen.seen_of(event))


@pytest.mark.parametrize(
    ("detail", "status"),
    [("", CallStatus.BUSY), ("declined", CallStatus.BUSY), ("invalid_number", CallStatus.FAILED)],
)
def test_a_rejected_call_without_its_detail_was_declined(detail, status):
    seen = vonage_seen.seen_of({"uuid": "u", "status": "rejected", "detail": detail})
    assert (seen.status, seen.provider_status) == (status, "rejected")


names = st.sampled_from(
    ["sid", "uuid", "status", "from", "to", "direction", "price", "price_unit", "duration", "start_time", "end_time",
     "date_created", "answered_by", "detail", "sip_code", "conversation_uuid", "parent_call_sid"]
)  # fmt: skip
values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800")
    | st.text().map(lambda text: text * 500)
    | st.sampled_from(["completed", "Thu, 01 Jan 0001 00:00:00 +0000", "0001-01-01 00:00:00", "999999999999999"])
    | st.lists(st.text(), max_size=2) | st.dictionaries(st.sampled_from(["number", "uri"]), st.text(), max_size=2)
)  # fmt: skip


@given(st.dictionaries(names, values), st.sampled_from([twilio_seen.seen_of, vonage_seen.seen_of]))
def test_an_answer_of_any_shape_is_a_bounded_event_or_no_call(resource, read):
    seen = read({"status": "completed", **resource})
    if seen is None:
        return
    event = told(seen)
    assert len(event.model_dump_json()) < 200_000
    assert report_id(event) == report_id(told(read({"status": "completed", **resource})))
