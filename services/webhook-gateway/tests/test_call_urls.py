import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.identities import ID_PATTERN, transfer_path
from webhook_gateway.call_urls import (
    Continuation,
    MediaLeg,
    Transferred,
    attempt_of,
    continuation,
    continuation_of,
    continue_url,
    media_leg_of,
    media_leg_url,
)

ids = st.from_regex(ID_PATTERN, fullmatch=True).filter(lambda text: not text.endswith("\n"))
attempts = st.integers(1, 999_998)


@given(ids, ids, ids.filter(lambda run: run != "inbound"), attempts)
def test_a_continue_url_names_the_next_connect_and_reads_back(workflow, user, run, attempt):
    url = continue_url("https://voice.example.com", workflow, user, run, attempt)
    assert attempt_of(url.partition("?")[2]) == attempt + 1
    read = continuation_of(url)
    assert read is not None
    assert (read.workflow_id, read.user_id, read.workflow_run_id) == (workflow, user, run)


@given(ids, ids, ids.filter(lambda run: run != "inbound"), attempts)
def test_a_media_leg_url_reads_back(workflow, user, run, attempt):
    leg = MediaLeg(workflow, user, attempt)
    url = media_leg_url("https://voice.example.com:8443", leg, run)
    assert media_leg_of(url.partition("?")[2]) == leg
    assert continuation_of(url) == Continuation(workflow, user, run, attempt)


@given(ids, ids, ids.filter(lambda run: run != "inbound"), attempts, ids)
def test_what_follows_a_transfer_keeps_its_name(workflow, user, run, attempt, after):
    url = continue_url("https://voice.example.com", workflow, user, run, attempt, after)
    assert continuation_of(url) == Continuation(workflow, user, run, attempt + 1, after)
    leg = MediaLeg(workflow, user, attempt, after)
    assert media_leg_of(media_leg_url("https://voice.example.com", leg, run).partition("?")[2]) == leg


@given(ids, ids, ids, st.sampled_from(["cold", "busy", "no-answer"]), st.text(min_size=1, max_size=128), ids)
def test_a_transfers_url_reads_back(workflow, user, run, word, call, after):
    read = continuation_of(
        "https://voice.example.com" + transfer_path(workflow, user, run, word, call, after)
    )
    assert read is not None
    assert read.transferred == Transferred(word, call, after)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "transfer=cold",
        "transfer=hot&call=CA1&after=x",
        "transfer=cold&call=&after=x",
        "transfer=busy&call=CA1&after=/",
    ],
)
def test_a_query_that_is_no_transfers_says_nothing_about_one(query):
    assert continuation("w1", "u1", "r1", query).transferred is None


@pytest.mark.parametrize(
    "query", ["", "connect=", "connect=-1", "connect=0", "connect=1e9", "connect=²", "a=b"]
)
def test_a_query_without_a_sensible_number_asks_for_the_first_connect(query):
    assert attempt_of(query) == 1


@pytest.mark.parametrize(
    "query",
    [
        "",
        "connect=2",
        "workflow_id=w1&user=u1",
        "workflow_id=../x&user_id=u1",
        "workflow_id=w1&user_id=",
        "workflow_id=w1&user_id=u1&pad=" + "x" * 1024,
    ],
)
def test_a_status_query_that_is_not_ours_names_no_media_leg(query):
    assert media_leg_of(query) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://voice.example.com/api/v1/telephony/inbound/run",
        "https://voice.example.com/api/v1/telephony/status-callback/run1",
        "https://voice.example.com/other/webhook/w1/u1/run1",
        "https://voice.example.com/api/v1/telephony/webhook/w1/u1/" + "x" * 65,
        "https://[voice.example.com/api/v1/telephony/webhook/w1/u1/r1",
        "https://voice.example.com/" + "x" * 3000,
    ],
)
def test_a_url_that_is_not_of_one_call_is_no_continuation(url):
    assert continuation_of(url) is None
