"""The whole gateway over HTTP: what providers send, what they get, what Kafka is told."""

import asyncio
import contextlib
import threading
import time
from urllib.parse import parse_qs

import pytest

from offhook.identities import inbound_run_id
from offhook.providers.twilio import signature
from offhook.records import NoAgentFallback, PublicUrlRecord
from offhook.topics import CALL_EVENTS, CONFIGURATIONS, NUMBERS, SETTINGS, WORKFLOWS
from webhook_gateway.verification import Verifier

DEFAULT_WORDS = NoAgentFallback().message


def unique(events):
    """What is left when readers drop ids they have seen."""
    return list({event.id: event for event in events}.values())


# -- inbound ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_an_inbound_twilio_call_is_connected_and_told(rig, method):
    connected = rig.twilio_connect(await rig.twilio(method=method))
    run = rig.twilio_run
    assert connected.media_url == f"wss://voice.example.com/api/v1/telephony/ws/w1/u1/{run}"
    assert connected.continue_path == rig.webhook(run) + "?connect=2"
    assert connected.status_path.startswith(rig.status(run) + "?")
    token = rig.tokens.verify(
        connected.token, workflow_run_id=run, account=rig.sid, provider_call_id=rig.call_sid, now=time.time()
    )
    assert 60 < token.expires_at - time.time() <= 120
    assert rig.kinds() == ["call.received.v1", "call.status.v1", "call.instructions-served.v1"]
    received, status, served = rig.events()
    assert {event.subject for event in rig.events()} == {run}
    assert {event.source for event in rig.events()} == {"/webhook-gateway"}
    assert (received.data.workflow_id, received.data.user_id) == ("w1", "u1")
    assert (received.data.configuration_id, received.data.account) == ("c1", rig.sid)
    assert (received.data.from_number, received.data.to_number) == (rig.caller, rig.number)
    assert (status.data.status, status.data.direction) == ("ringing", "inbound")
    assert (served.data.kind, served.data.reason) == ("connect", None)
    assert served.data.elapsed_ms > 0
    (record, *_) = rig.bus.records(CALL_EVENTS)
    assert record.key == run.encode()
    assert dict(record.headers)["traceparent"]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_an_inbound_vonage_call_is_connected_and_told(rig, method):
    connected = rig.vonage_connect(await rig.vonage(method=method))
    run = rig.vonage_run
    assert connected.media_url == f"wss://voice.example.com/api/v1/telephony/ws/w1/u1/{run}"
    rig.tokens.verify(
        connected.token, workflow_run_id=run, account=rig.app_id, provider_call_id=rig.uuid, now=time.time()
    )
    query = parse_qs(connected.status_path.partition("?")[2])
    assert (query["workflow_id"], query["user_id"], query["connect"]) == (["w1"], ["u1"], ["2"])
    # Vonage's answer webhook carries no status; its events do.
    assert rig.kinds() == ["call.received.v1", "call.instructions-served.v1"]
    assert rig.events("call.received.v1")[0].data.to_number == "+442079460000"


async def test_a_carriers_retry_gets_the_same_run_an_equivalent_answer_and_harmless_events(rig):
    answers = [rig.twilio_connect(await rig.twilio()) for _ in range(3)]
    assert len({answer.media_url for answer in answers}) == 1
    now = time.time()
    tokens = [
        rig.tokens.verify(
            each.token, workflow_run_id=rig.twilio_run, account=None, provider_call_id=None, now=now
        )
        for each in answers
    ]
    assert len({token.nonce for token in tokens}) == 1
    assert len(rig.events()) == 9
    assert [event.data.TYPE for event in unique(rig.events())] == [
        "call.received.v1",
        "call.status.v1",
        "call.instructions-served.v1",
    ]


@pytest.mark.parametrize(
    ("fields", "words", "reason"),
    [
        ({"To": "+15550009999"}, DEFAULT_WORDS, "number-unknown"),
        ({"To": "+15550001112"}, DEFAULT_WORDS, "number-without-workflow"),
        ({"To": "+15550001113"}, "Niemand da.", "number-inactive"),
        ({"To": "+15550001114"}, DEFAULT_WORDS, "number-unknown"),  # another tenant's
        ({"To": "sip:someone@example.com"}, DEFAULT_WORDS, "number-unknown"),
    ],
)
async def test_a_call_that_nobody_takes_hears_a_sentence_and_is_told_with_the_reason(
    rig, fields, words, reason
):
    answer = await rig.twilio(**fields)
    assert rig.said(answer) == words
    (received,) = rig.events("call.received.v1")  # it is in the call log of whoever has the account
    assert (received.data.user_id, received.data.configuration_id) == ("u1", "c1")
    assert received.data.workflow_id == ("w1" if reason == "number-inactive" else None)
    (served,) = rig.events("call.instructions-served.v1")
    assert (served.data.kind, served.data.reason) == ("hangup", reason)
    (audit,) = await rig.audits()
    assert (audit.verified, audit.reason, audit.status_code) == (True, reason, 200)


async def test_a_vonage_call_that_nobody_takes_hears_a_sentence_in_vonages_format(rig):
    fields = {"from": "447700900000", "to": "442079469999", "uuid": rig.uuid, "conversation_uuid": "CON-1"}
    assert rig.said(await rig.vonage(fields=fields)) == DEFAULT_WORDS


@pytest.mark.parametrize(("provider", "configuration"), [("twilio", "c1"), ("vonage", "c3")])
async def test_a_paused_configuration_refuses_calls_with_a_sentence_in_the_providers_own_format(
    rig, provider, configuration
):
    call = getattr(rig, provider)
    await rig.pause(configuration)
    answer = await call()
    assert rig.said(answer) == rig.words
    assert ("json" if provider == "vonage" else "xml") in answer.headers["content-type"]
    (served,) = rig.events("call.instructions-served.v1")
    assert (served.data.kind, served.data.reason) == ("hangup", "configuration-paused")
    # Whoever calls after the pause is connected.
    await rig.pause(configuration, False)
    assert rig.said(await call()) is None


async def test_a_paused_configuration_and_a_deleted_workflow_turn_calls_away(rig):
    await rig.pause("c1")
    assert rig.said(await rig.twilio()) == rig.words
    await rig.put(WORKFLOWS, "w1", None)
    await rig.bus.settle()
    assert rig.said(await rig.twilio()) == DEFAULT_WORDS
    reasons = [event.data.reason for event in rig.events("call.instructions-served.v1")]
    assert reasons == ["configuration-paused", "workflow-unknown"]


async def test_a_changed_auth_token_counts_from_the_moment_its_record_is_known(rig):
    rotated = rig.configuration("c1", "u1", "twilio", {"account_sid": rig.sid, "auth_token": "a-new-token"})
    rig.twilio_connect(await rig.twilio())
    await rig.put(CONFIGURATIONS, "c1", rotated)
    await rig.bus.settle()
    assert (await rig.twilio()).status_code == 403
    rig.twilio_connect(await rig.twilio(token="a-new-token"))


async def test_the_fallback_url_serves_an_inbound_call_like_the_main_one(rig):
    answer = await rig.twilio(rig.fallback, ErrorCode="11205", ErrorUrl=rig.public_url + rig.inbound)
    connected = rig.twilio_connect(answer)
    assert connected.media_url.endswith(rig.twilio_run)
    (audit,) = await rig.audits()
    assert audit.kind == "fallback"


async def test_the_fallback_url_serves_the_run_whose_url_failed(rig):
    failed = rig.public_url + rig.webhook("run-1") + "?connect=3"
    answer = await rig.twilio(
        rig.fallback, ErrorCode="11200", ErrorUrl=failed, Direction="outbound-api", CallStatus="in-progress"
    )
    connected = rig.twilio_connect(answer)
    assert connected.continue_path == rig.webhook("run-1") + "?connect=4"
    assert rig.kinds() == ["call.instructions-served.v1"]


async def test_vonages_fallback_names_the_failed_url_in_its_own_way(rig):
    failed = rig.public_url + rig.status("run-1") + "?workflow_id=w1&user_id=u1&connect=2"
    fields = {
        "from": "442079460000",
        "to": "447700900000",
        "uuid": rig.uuid,
        "conversation_uuid": "CON-1",
        "reason": "Connection closed.",
        "original_request": {"url": failed, "type": "event"},
    }
    connected = rig.vonage_connect(await rig.vonage(rig.fallback, fields))
    assert connected.media_url.endswith("/ws/w1/u1/run-1")


async def test_an_outbound_call_at_the_inbound_url_hears_a_sentence_and_makes_no_run(rig):
    answer = await rig.twilio(rig.fallback, Direction="outbound-api")
    assert rig.said(answer) == DEFAULT_WORDS
    assert rig.events() == []


# -- instructions for a run ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_an_outbound_call_is_connected_when_it_is_answered(rig, method):
    answer = await rig.twilio(
        rig.webhook(), method=method, CallStatus="in-progress", Direction="outbound-api"
    )
    connected = rig.twilio_connect(answer)
    rig.tokens.verify(
        connected.token,
        workflow_run_id="run-1",
        account=rig.sid,
        provider_call_id=rig.call_sid,
        now=time.time(),
    )
    assert rig.kinds() == ["call.instructions-served.v1"]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_an_outbound_vonage_call_is_connected_when_it_is_answered(rig, method):
    connected = rig.vonage_connect(await rig.vonage(rig.webhook(), method=method))
    assert connected.media_url.endswith("/ws/w1/u1/run-1")


async def test_a_call_whose_stream_ended_is_connected_again_with_a_new_token_each_time(rig):
    connected = rig.twilio_connect(await rig.twilio())
    nonces = []
    for attempt in range(2, 5):
        assert connected.continue_path == f"{rig.webhook(rig.twilio_run)}?connect={attempt}"
        # Twilio's <Redirect> sends the same fields every time.
        connected = rig.twilio_connect(await rig.twilio(connected.continue_path, CallStatus="in-progress"))
        nonces.append(connected.token.split(".")[3])
    assert len(set(nonces)) == 3
    assert len(unique(rig.events("call.instructions-served.v1"))) == 4


async def test_what_is_waited_on_purpose_is_not_told_as_time_the_instructions_took(rig):
    """The third connect is held back for half a second: nobody is to be woken because of that."""
    connected = rig.twilio_connect(await rig.twilio())
    for _ in range(2):
        began = time.monotonic()
        connected = rig.twilio_connect(await rig.twilio(connected.continue_path))
        took_ms = (time.monotonic() - began) * 1000
    assert took_ms > 500
    assert rig.events("call.instructions-served.v1")[-1].data.elapsed_ms <= took_ms - 500
    assert (await rig.audits(3))[-1].elapsed_ms <= took_ms - 500


async def test_a_lost_vonage_socket_is_connected_again_from_the_event_that_tells_it(rig):
    connected = rig.vonage_connect(await rig.vonage())
    event = {
        "from": "442079460000",
        "to": "wss://voice.example.com/api/v1/telephony/ws/w1/u1/x",
        "uuid": "bbbbbbbb-bbbb-cccc-dddd-0123456789ab",
        "conversation_uuid": "CON-1",
        "status": "disconnected",
        "timestamp": "2026-11-21T12:00:00.000Z",
    }
    again = rig.vonage_connect(await rig.vonage(connected.status_path, event))
    rig.tokens.verify(
        again.token,
        workflow_run_id=rig.vonage_run,
        account=rig.app_id,
        provider_call_id=rig.uuid,
        now=time.time(),
    )
    assert parse_qs(again.status_path.partition("?")[2])["connect"] == ["3"]
    status = rig.events("call.status.v1")[0].data
    assert (status.leg, status.provider_status) == ("media", "disconnected")
    assert [event.data.kind for event in rig.events("call.instructions-served.v1")] == ["connect", "connect"]


async def test_a_lost_vonage_socket_without_ids_in_the_url_is_acknowledged(rig):
    event = {"uuid": "b", "to": "wss://x", "conversation_uuid": "CON-1", "status": "disconnected"}
    assert (await rig.vonage(rig.status("run-1"), event)).status_code == 204


@pytest.mark.parametrize(
    ("path", "sid", "token", "reason"),
    [
        (("run-1", "w1", "u1"), "other", "other", "foreign-tenant"),
        (("run-1", "w2", "u1"), "own", "own", "foreign-tenant"),
        (("run-1", "w1", "u2"), "own", "own", "foreign-tenant"),
        (("run-1", "w2", "u2"), "own", "own", "foreign-tenant"),
        (("run-1", "w9", "u1"), "own", "own", "workflow-unknown"),
    ],
)
async def test_a_verified_call_on_a_path_that_is_not_its_own_hears_a_sentence(rig, path, sid, token, reason):
    other = {"AccountSid": rig.other_sid} if sid == "other" else {}
    signed = {"token": rig.other_token} if token == "other" else {}
    answer = await rig.twilio(rig.webhook(*path), Direction="outbound-api", **signed, **other)
    assert rig.said(answer) == DEFAULT_WORDS
    (audit,) = await rig.audits()
    assert (audit.verified, audit.reason) == (True, reason)
    if reason == "foreign-tenant":
        assert rig.events() == []


async def test_an_inbound_call_cannot_speak_for_another_run(rig):
    answer = await rig.twilio(rig.webhook("run-of-somebody-else"), Direction="inbound")
    assert rig.said(answer) == rig.words
    assert rig.events() == []


async def test_of_two_tenants_with_one_account_each_serves_its_own_runs(rig):
    shared = rig.configuration(
        "c9", "u2", "twilio", {"account_sid": rig.sid, "auth_token": "the-auth-token-of-tenant-one"}
    )
    await rig.put(CONFIGURATIONS, "c9", shared)
    await rig.bus.settle()
    for ids in (("run-1", "w1", "u1"), ("run-2", "w2", "u2")):
        connected = rig.twilio_connect(await rig.twilio(rig.webhook(*ids), Direction="outbound-api"))
        assert connected.media_url.endswith(f"/ws/{ids[1]}/{ids[2]}/{ids[0]}")


async def test_without_a_public_url_the_gateway_is_not_ready_and_says_why(start_rig):
    async with start_rig(records=False) as rig:
        ready = await rig.http.get(rig.url("/readyz"))
        assert ready.status_code == 503
        assert any("public URL" in problem for problem in ready.json()["problems"])


# -- status callbacks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_twilio_status_becomes_one_event_however_often_it_comes(rig, method):
    fields = {
        "CallStatus": "completed",
        "SequenceNumber": "3",
        "CallDuration": "49",
        "Direction": "outbound-api",
    }
    for _ in range(2):
        answer = await rig.twilio(rig.status("run-1"), method=method, **fields)
        assert (answer.status_code, answer.content) == (204, b"")
    first, second = rig.events()
    assert first.id == second.id
    assert first.subject == first.data.workflow_run_id == "run-1"
    assert (first.data.status, first.data.sequence, first.data.duration_s) == ("completed", 3, 49)


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_vonage_event_becomes_an_event(rig, method):
    fields = {
        "uuid": rig.uuid,
        "conversation_uuid": "CON-1",
        "status": "ringing",
        "direction": "outbound",
        "timestamp": "2026-11-21T12:00:00.000Z",
    }
    assert (await rig.vonage(rig.status("run-1"), fields, method=method)).status_code == 204
    (event,) = rig.events()
    assert (event.data.status, event.data.provider_call_id, event.subject) == ("ringing", rig.uuid, "run-1")


async def test_the_status_url_of_a_number_derives_the_run(rig):
    await rig.twilio(rig.status(), CallStatus="completed")
    assert rig.events()[0].subject == inbound_run_id("twilio", rig.sid, rig.call_sid)


@pytest.mark.parametrize(
    "fields",
    [
        {"direction": "outbound", "status": "ringing"},
        {"direction": "inbound", "status": "answered", "to": "wss://voice.example.com/x"},
    ],
)
async def test_what_is_about_no_inbound_call_is_acknowledged_at_the_applications_url_and_makes_no_run(
    rig, fields
):
    said = {"uuid": rig.uuid, "conversation_uuid": "CON-1", **fields}
    assert (await rig.vonage(rig.status(), said)).status_code == 204
    assert rig.events() == []
    assert (await rig.audits())[0].reason == "no-run"


async def test_unknown_empty_and_repeated_fields_are_fine(rig):
    pairs = [
        *rig.twilio_fields(CallStatus="busy"),
        ("Novelty", ""),
        ("Digits", "2"),
        ("Digits", "1"),
        ("Digits", "2"),
    ]
    assert (await rig.twilio(rig.status("run-1"), pairs)).status_code == 204
    event = {"uuid": rig.uuid, "status": "busy", "novelty": {"a": [1]}, "duration": 7, "to": ""}
    assert (await rig.vonage(rig.status("run-1"), event)).status_code == 204
    assert [event.data.status for event in rig.events()] == ["busy", "busy"]


# -- verification ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["inbound", "fallback", "webhook", "status"])
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"signature": ""}, "signature-missing"),
        ({"signature": "AAAA"}, "signature-mismatch"),
        ({"token": "wrong"}, "signature-mismatch"),
        ({"origin": "https://evil.example.com"}, "signature-mismatch"),
        ({"AccountSid": "AC" + "f" * 32}, "unknown-account"),
    ],
)
async def test_an_unproven_twilio_request_gets_403_and_nothing_but_an_audit(rig, path, how, reason):
    target = {
        "inbound": rig.inbound,
        "fallback": rig.fallback,
        "webhook": rig.webhook(),
        "status": rig.status("r"),
    }
    answer = await rig.twilio(target[path], **how)
    assert (answer.status_code, answer.content) == (403, b"")
    assert rig.events() == []
    (audit,) = await rig.audits()
    assert (audit.verified, audit.reason, audit.status_code) == (False, reason, 403)


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ({"token": ""}, 503, None),
        ({"secret": "not-the-secret-but-long-enough-too"}, 403, "signature-mismatch"),
        ({"off_s": -3600}, 403, "token-too-old"),
        ({"off_s": 3600}, 403, "token-from-the-future"),
        ({"iss": "Somebody"}, 403, None),
        ({"payload_hash": "0" * 64}, 403, "body-hash-mismatch"),
        ({"app_id": "aaaaaaaa-bbbb-cccc-dddd-ffffffffffff"}, 403, "unknown-account"),
    ],
)
async def test_an_unproven_vonage_request_is_refused_and_retried_only_without_a_token(
    rig, how, status, reason
):
    if "off_s" in how:
        how = {"iat": int(time.time()) + how["off_s"]}
    answer = await rig.vonage(**how)
    assert (answer.status_code, answer.content) == (status, b"")
    assert rig.events() == []
    (audit,) = await rig.audits()
    assert not audit.verified
    assert reason in (None, audit.reason)


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_webhook_that_calls_itself_an_upgrade_must_still_prove_what_it_says(rig, method):
    fields = {"from": "447700900000", "to": "442079460000", "uuid": rig.uuid}
    headers = {"authorization": "Bearer " + rig.vonage_token(b"something else"), "upgrade": "websocket"}
    url = rig.url(rig.inbound)
    if method == "GET":
        answer = await rig.http.get(url, params=fields, headers=headers)
    else:
        answer = await rig.http.post(url, json=fields, headers=headers)
    assert answer.status_code == 403
    assert rig.events() == []


async def test_configurations_with_somebody_elses_account_do_not_crowd_out_the_real_one(rig):
    for each in range(40):
        guess = {"account_sid": rig.sid, "auth_token": "a guess"}
        await rig.put(CONFIGURATIONS, f"a{each:02}", rig.configuration(f"a{each:02}", "u2", "twilio", guess))
    await rig.bus.settle()
    rig.twilio_connect(await rig.twilio())


async def test_an_unknown_account_is_answered_like_a_known_one(rig):
    """For every way to be unproven, so that nobody can find out which accounts exist."""
    unknown = {"AccountSid": "AC" + "f" * 32}
    for how in ({"signature": ""}, {"signature": "AAAA"}, {"token": "wrong"}):
        known_answer, unknown_answer = await rig.twilio(**how), await rig.twilio(**how, **unknown)
        assert known_answer.status_code == unknown_answer.status_code
        assert known_answer.content == unknown_answer.content


@pytest.mark.parametrize(("how", "fault"), [({"token": "wrong"}, "mismatch"), ({"signature": ""}, "missing")])
async def test_an_unknown_account_costs_the_same_work_as_a_known_one(rig, how, fault, monkeypatch):
    """No clock could tell them apart: their signatures are computed alike."""
    made, counts = [], []
    sign, prove = signature._signature, Verifier.prove

    def signed(*given):
        made.append(threading.get_ident())
        return sign(*given)

    def counted(*given):
        before = made.count(
            threading.get_ident()
        )  # the diagnosis of a refusal signs too, in a thread of its own
        found = prove(*given)
        counts.append(made.count(threading.get_ident()) - before)
        return found

    monkeypatch.setattr(signature, "_signature", signed)
    monkeypatch.setattr(Verifier, "prove", counted)
    for account in ({}, {"AccountSid": "AC" + "f" * 32}):
        await rig.twilio(**how, **account)
    assert counts[0] == counts[1]
    assert (counts[0] > 0) == (fault == "mismatch")


async def test_no_answer_may_be_cached(rig):
    for answer in (await rig.twilio(method="GET"), await rig.twilio(signature="AAAA")):
        assert answer.headers["cache-control"] == "no-store"


async def test_a_request_of_no_provider_is_refused(rig):
    answer = await rig.http.post(rig.url(rig.inbound), content=b"hello")
    assert answer.status_code == 403
    (audit,) = await rig.audits()
    assert (audit.provider, audit.reason) == ("unknown", "unknown-provider")


async def test_header_names_may_be_in_any_case(rig):
    for header in ("x-twilio-signature", "X-TWILIO-SIGNATURE"):
        rig.twilio_connect(await rig.twilio(header=header))
    rig.vonage_connect(await rig.vonage(scheme="bearer"))


async def test_forwarded_headers_neither_help_nor_harm(rig):
    proxied = {
        "X-Forwarded-Proto": "https,http",
        "X-Forwarded-Host": "evil.example.com",
        "Host": "internal:8080",
    }
    rig.twilio_connect(await rig.twilio(headers=proxied))
    forged = await rig.twilio(origin="https://evil.example.com", headers=proxied)
    assert forged.status_code == 403


async def test_a_second_signature_header_proves_nothing(rig):
    good = await rig.twilio()
    assert good.status_code == 200
    twice = await rig.twilio(headers={"X-Twilio-Signature ".strip().lower(): "AAAA"})
    assert twice.status_code == 403


async def test_the_public_url_may_change_and_further_origins_are_accepted(start_rig):
    async with start_rig(extra_origins=("https://old.example.com",)) as rig:
        rig.twilio_connect(await rig.twilio(origin="https://old.example.com"))
        await rig.put(SETTINGS, PublicUrlRecord.KEY, PublicUrlRecord(url="https://new.example.com:8443"))
        await rig.bus.settle()
        answer = await rig.twilio(origin="https://new.example.com")  # Twilio signs https without the port
        assert b"wss://new.example.com:8443/api" in answer.content
        assert (await rig.twilio(origin=rig.public_url)).status_code == 403


async def test_escapes_in_the_path_stay_as_they_were_signed(rig):
    rig.twilio_connect(await rig.twilio("/api/v1/telephony/inbound%2Frun".replace("%2F", "/")))
    escaped = rig.webhook("run%2D1")
    connected = rig.twilio_connect(await rig.twilio(escaped, Direction="outbound-api"))
    assert connected.media_url.endswith("/run-1")


async def test_credentials_that_cannot_be_opened_refuse_and_are_audited(rig):
    sealed_elsewhere = rig.configuration("c1", "u1", "twilio", {"account_sid": rig.sid, "auth_token": "x"})
    broken = sealed_elsewhere.model_copy(update={"sealed_credentials": "v1.k9.AAAA"})
    await rig.put(CONFIGURATIONS, "c1", broken)
    await rig.bus.settle()
    assert (await rig.twilio()).status_code == 403
    (audit,) = await rig.audits()
    assert audit.reason == "credentials-unreadable"


# -- bad input -------------------------------------------------------------------------------------------


async def test_a_path_no_call_can_have_is_not_found(rig):
    for path in (
        rig.webhook("a.b"),
        rig.webhook("x" * 65),
        rig.status("a b".replace(" ", "%20")),
        rig.inbound + "/",
    ):
        assert (await rig.twilio(path)).status_code == 404
    assert rig.events() == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"])
async def test_other_methods_are_not_allowed(rig, method):
    answer = await rig.http.request(method, rig.url(rig.inbound))
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"


async def test_a_body_over_the_limit_is_refused_announced_or_not(rig):
    async def chunks():
        for _ in range(70):
            yield b"a=" + b"x" * 1024

    headers = {"x-twilio-signature": "AAAA", "content-type": "application/x-www-form-urlencoded"}
    for body in (b"a=" + b"x" * 65536, chunks()):
        answer = await rig.http.post(rig.url(rig.inbound), content=body, headers=headers)
        assert answer.status_code == 413
    audits = await rig.audits(2)
    assert {audit.reason for audit in audits} == {"body-too-large"}


async def test_a_body_that_does_not_come_is_given_up(start_rig):
    async with start_rig(body_timeout_s=0.2) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(
            f"POST {rig.inbound} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nAccountSid".encode()
        )
        assert (await reader.read(100)).startswith(b"HTTP/1.1 408")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        (audit,) = await rig.audits()
        assert (audit.reason, audit.status_code) == ("body-too-slow", 408)


async def test_a_sender_that_leaves_in_the_middle_harms_nobody(rig):
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(f"POST {rig.inbound} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nAccountSid".encode())
    await writer.drain()
    writer.close()
    rig.twilio_connect(await rig.twilio())


async def test_a_verified_request_that_cannot_be_understood_is_malformed(rig):
    pairs = [("AccountSid", rig.sid), ("CallStatus", "ringing")]
    assert rig.said(await rig.twilio(pairs=pairs)) == DEFAULT_WORDS  # somebody is on the line
    assert rig.said(await rig.vonage(body=b"[1]")) == DEFAULT_WORDS
    assert (await rig.vonage(rig.status("r"), {"nothing": "known"})).status_code == 400
    assert rig.events() == []
    (first, *_) = await rig.audits(3)
    assert (first.verified, first.reason, first.sealed_request is not None) == (True, "malformed", True)


async def test_what_no_kafka_record_can_hold_is_malformed(start_rig):
    async with start_rig(max_body_bytes=1024 * 1024) as rig:
        answer = await rig.twilio(From="\0" * 200_000)
        assert rig.said(answer) == DEFAULT_WORDS
        assert "call.received.v1" not in rig.kinds()
        (audit,) = await rig.audits()
        assert (audit.verified, audit.reason) == (True, "malformed")


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe=%ff", b"&&&&", b"{}", b"[" * 5000, b"a&" * 3000, b'{"uuid":' + b"9" * 300 + b"}"],
)
async def test_hostile_bodies_are_refused_quietly(rig, body):
    for content_type in ("application/x-www-form-urlencoded", "application/json", ""):
        for headers in ({"x-twilio-signature": "AAAA"}, {"authorization": "Bearer a.b.c"}, {}):
            sent = {**headers, "content-type": content_type}
            answer = await rig.http.post(rig.url(rig.inbound), content=body, headers=sent)
            assert answer.status_code in (400, 403, 503)
    assert rig.events() == []


# -- audit and health ------------------------------------------------------------------------------------


async def test_the_audit_holds_no_phone_number_no_query_and_no_token(rig):
    await rig.twilio(method="GET")
    await rig.vonage()
    for audit in await rig.audits(2):
        text = audit.model_dump_json()
        assert (audit.verified, audit.reason, audit.kind) == (True, None, "call")
        assert audit.remote == "127.0.0.1"
        assert audit.account in (rig.sid, rig.app_id)
        assert audit.workflow_run_id in (rig.twilio_run, rig.vonage_run)
        for secret in (rig.caller, rig.number, "447700900000", "?", "Bearer", "ey"):
            assert secret not in text


async def test_a_refused_request_says_which_urls_were_tried(rig):
    await rig.twilio(origin="https://elsewhere.example.com")
    (audit,) = await rig.audits()
    assert rig.public_url + rig.inbound in audit.tried_urls


async def test_what_is_said_of_tried_urls_is_short_and_holds_no_query(rig):
    await rig.twilio(method="GET", signature="AAAA", SpeechResult="x" * 7000)
    (audit,) = await rig.audits()
    assert audit.tried_urls[0] == rig.public_url + rig.inbound
    for url in audit.tried_urls:
        assert "?" not in url
        assert len(url) < 200


async def test_without_redis_the_gateway_is_ready_and_says_what_is_missing(rig):
    answer = await rig.http.get(rig.url("/readyz"))
    assert answer.status_code == 200
    assert any("Redis" in problem for problem in answer.json()["degraded"])


async def test_metrics_count_requests_and_instructions(rig):
    await rig.twilio()
    await rig.twilio(signature="AAAA")
    text = (await rig.http.get(rig.url("/metrics"))).text
    assert 'offhook_webhooks_total{kind="call",outcome="accepted",provider="twilio"}' in text
    assert 'offhook_webhooks_refused_total{provider="twilio",reason="signature-mismatch"}' in text
    assert 'offhook_instructions_total{kind="connect",provider="twilio",reason=""}' in text


async def test_a_number_that_moves_to_another_workflow_is_answered_by_it(rig):
    await rig.put(NUMBERS, "n1", None)
    await rig.bus.settle()
    assert rig.said(await rig.twilio()) == DEFAULT_WORDS
