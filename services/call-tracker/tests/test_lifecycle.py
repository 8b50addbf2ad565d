"""The record of a call follows from its facts, and never from the order in which they came."""

from collections.abc import Sequence

import pytest
from events_of_calls import FOREIGN, OWN, AnyEvent, Call, hostile_sets, realistic_sets, shuffles
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from call_tracker.causes import END_REASONS
from call_tracker.facts import Facts, decode, encode
from call_tracker.joining import gather, join
from call_tracker.lifecycle import TRANSITIONS, project
from call_tracker.observing import observe
from offhook.events import TERMINAL_STATUSES, CallStatus, Party
from offhook.records import CallState

S = CallStatus


def record(events: Sequence[AnyEvent]) -> CallState:
    return project("run-1", gather(events))


def words(state: CallState) -> str:
    return " ".join(state.statuses)


def is_terminal(state: CallState) -> bool:
    return state.status in TERMINAL_STATUSES


# --- any order -------------------------------------------------------------------------------------------


@given(st.data(), st.one_of(realistic_sets(), hostile_sets()))
def test_any_shuffle_with_repetitions_gives_the_same_final_record(
    data: st.DataObject, events: list[AnyEvent]
) -> None:
    shuffled = data.draw(shuffles(events))
    assert encode(gather(shuffled)) == encode(gather(events))
    assert record(shuffled) == record(events)


@given(st.data(), hostile_sets(begun=True))
def test_a_begun_call_never_moves_backwards_and_its_end_stays_an_end(
    data: st.DataObject, events: list[AnyEvent]
) -> None:
    beginning = [
        event for event in events if event.type.split(".")[2] in ("received", "requested", "originated")
    ]
    rest = [event for event in events if event not in beginning]
    facts = gather(beginning)
    rank = {S.INITIATED: 0, S.RINGING: 1, S.ANSWERED: 2}
    before = project("run-1", facts)
    for event in data.draw(shuffles(rest)):
        facts = join(facts, observe(event))
        after = project("run-1", facts)
        assert rank.get(after.status, 3) >= rank.get(before.status, 3)
        before = after


@given(st.one_of(realistic_sets(), hostile_sets()))
def test_the_list_of_statuses_is_a_path_of_the_table_from_initiated_to_the_status(
    events: list[AnyEvent],
) -> None:
    state = record(events)
    assert state.statuses[0] is S.INITIATED
    assert state.statuses[-1] is state.status
    assert all(
        after in TRANSITIONS[before]
        for before, after in zip(state.statuses, state.statuses[1:], strict=False)
    )
    times = [t for t in (state.requested_at, state.ringing_at, state.answered_at, state.ended_at) if t]
    assert times == sorted(times)


@given(st.one_of(realistic_sets(), hostile_sets(begun=True)))
def test_every_ended_call_has_a_documented_reason_and_somebody_who_caused_it(events: list[AnyEvent]) -> None:
    state = record(events)
    assert (state.end_reason in END_REASONS) == is_terminal(state)
    assert (state.ended_by is not None) == is_terminal(state)
    assert (state.ended_at is not None) == is_terminal(state)


@given(st.data(), hostile_sets(begun=True))
def test_events_of_foreign_accounts_and_of_media_legs_change_nothing(
    data: st.DataObject, events: list[AnyEvent]
) -> None:
    own = [
        event
        for event in events
        if getattr(event.data, "account", "") not in ("AC666", "app-666")
        and getattr(event.data, "leg", "") != "media"
    ]
    assert record(events) == record(own)


@given(st.data(), st.sampled_from(["twilio", "vonage"]))
def test_a_lost_callback_does_not_change_how_an_answered_call_ended(
    data: st.DataObject, provider: str
) -> None:
    own = OWN[provider]
    whole = own.twilio_outbound() if provider == "twilio" else own.vonage_inbound()
    lost = data.draw(st.integers(1, len(whole) - 2))
    full, gap = record(whole), record(whole[:lost] + whole[lost + 1 :])
    assert (gap.status, gap.statuses, gap.end_reason, gap.ended_by) == (
        full.status, full.statuses, full.end_reason, full.ended_by,
    )  # fmt: skip


# --- whole calls -----------------------------------------------------------------------------------------


def test_a_twilio_outbound_call_that_the_callee_ends() -> None:
    state = record(OWN["twilio"].twilio_outbound())
    assert words(state) == "initiated ringing answered completed"
    assert (state.end_reason, state.ended_by) == ("callee-hung-up", Party.CALLEE)
    assert (state.direction, state.user_id, state.provider_call_id) == ("outbound", "user-1", "CA1")
    assert (state.duration_s, state.sip_code, state.ring_ms, state.talk_ms) == (6, 200, 2000, 6000)
    assert (state.caller_audio_ms, state.agent_audio_ms) == (5000, 3000)
    assert state.metadata == {"order": 7}
    assert state.answered_at == "2026-11-01T12:00:03.000+00:00"


def test_a_vonage_inbound_call_that_the_caller_ends_knows_its_price() -> None:
    state = record(OWN["vonage"].vonage_inbound())
    assert words(state) == "initiated ringing answered completed"
    assert (state.end_reason, state.ended_by) == ("caller-hung-up", Party.CALLER)
    assert (state.price, state.price_unit, state.duration_s) == ("0.0123", "EUR", 8)


def test_a_final_callback_alone_implies_the_states_before_it() -> None:
    call = Call()
    assert (
        words(record([call.received(), call.status("completed")])) == "initiated ringing answered completed"
    )
    assert words(record([call.received(), call.status("no-answer")])) == "initiated ringing no-answer"
    assert words(record([call.received(), call.status("busy")])) == "initiated busy"


def test_audio_implies_that_the_call_was_answered() -> None:
    call = Call()
    assert record([call.received(), call.media_started(3)]).status is S.ANSWERED
    assert record([call.received(), call.media_stopped(9)]).status is S.ANSWERED


def test_a_status_that_happened_before_the_end_but_arrives_after_it_fills_its_place() -> None:
    call = Call()
    late = [call.requested(), call.status("failed", 5, sequence=3), call.status("answered", 6, sequence=2)]
    assert words(record(late)) == "initiated ringing answered failed"


def test_a_status_that_the_provider_places_after_the_end_is_not_applied() -> None:
    call = Call()
    assert words(
        record([call.requested(), call.status("busy", 5, sequence=1), call.status("answered", 4, sequence=2)])
    ) == ("initiated busy")


def test_the_earliest_of_two_ends_counts() -> None:
    call = Call()
    ends = [call.status("completed", 5, sequence=3), call.status("no-answer", 6, sequence=4)]
    assert record([call.requested(), *ends]).status is S.COMPLETED
    assert record([call.requested(), *reversed(ends)]).status is S.COMPLETED


def test_an_answered_call_that_completed_was_not_unanswered_even_if_that_was_said_first() -> None:
    call = Call()
    ends = [call.status("no-answer", 4, said_at=4), call.status("completed", 9, said_at=9)]
    assert record([call.received(), call.media_started(2), *ends]).status is S.COMPLETED


def test_words_nobody_knows_move_nothing_but_their_figures_are_kept() -> None:
    call = Call()
    state = record([call.received(), call.status("queueing-strangely", answered_by="human")])
    assert (state.status, state.answered_by) == (S.INITIATED, "human")


def test_another_call_of_the_same_account_is_not_this_call() -> None:
    call, other = Call(), Call(call_id="CA2")
    assert record([call.received(), other.status("completed")]).status is S.INITIATED


def test_a_call_whose_beginning_is_late_is_kept_and_completed_later() -> None:
    call = Call()
    early = [call.status("ringing", 1, sequence=1), call.status("completed", 9, sequence=3)]
    provisional = record(early)
    assert (provisional.user_id, provisional.status, provisional.provider) == (None, S.COMPLETED, "twilio")
    whole = record([*early, call.requested(), call.originated()])
    assert (whole.user_id, whole.status, whole.direction) == ("user-1", S.COMPLETED, "outbound")


def test_a_foreign_account_that_spoke_before_the_beginning_is_forgotten_with_it() -> None:
    call, foreign = Call(), FOREIGN["twilio"]
    assert record([foreign.status("completed", 0), call.received(1)]).status is S.INITIATED


# --- what was looked up ----------------------------------------------------------------------------------


def test_what_the_provider_answers_stands_for_the_callbacks_that_never_came() -> None:
    call = Call()
    seen = call.seen("completed", 300, answered=3, ended=9, duration_s=6, price="0.01", price_unit="USD")
    state = record([call.requested(), call.originated(), seen])
    assert words(state) == "initiated ringing answered completed"
    assert (state.answered_at, state.ended_at) == (
        "2026-11-01T12:00:03.000+00:00",
        "2026-11-01T12:00:09.000+00:00",
    )
    assert (state.end_reason, state.duration_s, state.talk_ms, state.price) == (
        "callee-hung-up", 6, 6000, "0.01",
    )  # fmt: skip
    assert state.reconciled


def test_a_callback_goes_before_what_was_looked_up_whenever_it_comes() -> None:
    call = Call()
    seen = call.seen("completed", 300, answered=3, ended=8, duration_s=5)
    told = call.status("completed", 400, said_at=9, duration_s=6, sip_code=200)
    state = record([call.requested(), seen, told])
    assert (state.ended_at, state.duration_s, state.sip_code, state.reconciled) == (
        "2026-11-01T12:00:09.000+00:00", 6, 200, False,
    )  # fmt: skip
    assert state.answered_at == "2026-11-01T12:00:03.000+00:00"


def test_a_cost_that_is_known_later_is_added_to_the_record() -> None:
    call = Call()
    whole = call.twilio_outbound()
    priced = call.seen("completed", 700, answered=3, ended=9, duration_s=6, price="0.0085", price_unit="USD")
    before, after = record(whole), record([*whole, priced])
    assert (after.price, after.price_unit) == ("0.0085", "USD")
    assert after == before.model_copy(update={"price": "0.0085", "price_unit": "USD"})


def test_a_call_that_goes_on_has_no_duration_yet() -> None:
    call = Call()
    going_on = call.seen("answered", 60, duration_s=40)
    state = record([call.received(), going_on])
    assert (state.status, state.duration_s) == (S.ANSWERED, None)


def test_who_asks_for_the_end_between_the_end_and_the_look_did_not_cause_it() -> None:
    call = Call()
    seen = call.seen("completed", 300, answered=3, ended=9)
    by_operator = call.hangup_requested(Party.OPERATOR, 250)
    by_agent = call.hangup_requested(Party.AGENT, 9.6)  # the provider's clock has whole seconds
    assert record([call.received(), by_operator, seen]).end_reason == "caller-hung-up"
    assert record([call.received(), by_agent, seen]).end_reason == "agent-hung-up"


def test_a_call_its_provider_does_not_know_has_failed_and_is_lost() -> None:
    call = Call()
    known = record([call.received(), call.media_started(3), call.lost()])
    assert (words(known), known.end_reason, known.ended_by) == (
        "initiated ringing answered failed", "lost", Party.CARRIER,
    )  # fmt: skip
    assert known.reconciled
    never = record([call.requested(), call.lost()])
    assert (words(never), never.end_reason, never.ended_by) == ("initiated failed", "lost", Party.PLATFORM)
    assert record([call.requested(), call.lost(found=True)]).status is S.INITIATED


def test_a_call_lives_on_although_another_account_knows_nothing_of_it() -> None:
    call, exchanged = Call(account="AC1"), Call(account="AC2")
    talking = [call.received(), call.media_started(3)]
    assert record([*talking, exchanged.lost(60)]).status is S.ANSWERED
    assert record([*talking, exchanged.lost(60), call.lost(90)]).end_reason == "lost"
    assert record([exchanged.lost(60)]).end_reason == "lost"  # whose call it is nobody has told


def test_an_end_the_provider_tells_goes_before_its_having_forgotten_the_call() -> None:
    call = Call()
    assert record([call.received(), call.lost(), call.status("completed", 99)]).end_reason == "caller-hung-up"


# --- transfers, limits, recordings -----------------------------------------------------------------------


def test_the_record_keeps_who_answered_and_what_ended_a_machines_greeting() -> None:
    call = Call()
    machine = call.status("nobody knows", 3, answered_by="machine")
    beep = call.status("nobody knows", 9, answered_by="machine", message_end="beep")
    both = record([call.requested(), beep, machine, call.status("completed", 20)])
    assert (both.answered_by, both.message_end) == ("machine", "beep")
    assert record([call.requested(), machine]).message_end is None


def test_the_record_says_what_became_of_the_last_transfer() -> None:
    call = Call()
    begun = [call.received(), call.media_started(3), call.transfer_requested(6)]
    assert record(begun).transfer == "requested"
    assert record([*begun, call.transfer_ended("busy", 8)]).transfer == "busy"
    assert (
        record([*begun, call.transfer_ended("busy", 8), call.transfer_requested(9)]).transfer == "requested"
    )
    assert record([*begun, call.transfer_failed(6.5)]).transfer == "unsupported"
    assert record([call.requested(transfer_of="run-0")]).transfer_of == "run-0"


def test_what_became_of_a_transfer_is_found_by_its_name_whatever_the_clocks_say() -> None:
    call = Call()
    begun = [call.received(), call.media_started(3), call.transfer_requested(10, "c-3")]
    assert record([*begun, call.transfer_failed(9.95, "limit-reached", "c-3")]).transfer == "failed"
    assert record([*begun, call.transfer_ended("busy", 9.95, "c-3")]).transfer == "busy"
    assert record([*begun, call.transfer_failed(9.95, "limit-reached", "c-2")]).transfer == "requested"
    again = [*begun, call.transfer_failed(10.1, "limit-reached", "c-3"), call.transfer_requested(20, "c-4")]
    assert record(again).transfer == "requested"
    assert record([*again, call.transfer_ended("completed", 30, "c-4")]).transfer == "completed"


def test_what_another_account_tells_of_the_calls_transfers_and_audio_is_not_about_it() -> None:
    call, intruder = Call(), Call(account="AC666", call_id="CA666")
    begun = [
        call.received(),
        call.media_started(3),
        call.transfer_requested(6),
        call.transfer_ended("busy", 8),
    ]
    told = [
        intruder.transfer_ended("completed", 9), intruder.transfer_requested(10), intruder.media_stopped(11),
        intruder.served("hangup", 7, "no-agent"), intruder.hangup_requested(Party.AGENT, 12),
        intruder.transfer_failed(13),
    ]  # fmt: skip
    ended = call.status("completed", 31)
    assert record([*begun, *told]) == record(begun)
    assert record([*begun, *told, ended]) == record([*begun, ended])


def test_a_call_that_ends_after_it_was_put_through_says_so_unless_the_operator_ended_it() -> None:
    call = Call()
    through = [
        call.received(), call.media_stopped(6.5, ended_by=Party.AGENT), call.transfer_requested(6),
        call.transfer_ended("completed", 30), call.status("completed", 31),
    ]  # fmt: skip
    assert (record(through).end_reason, record(through).ended_by) == ("transferred", Party.CALLER)
    asked = [*through, call.hangup_requested(Party.OPERATOR, 29)]
    assert record(asked).end_reason == "operator-hung-up"
    failed = [call.received(), call.transfer_requested(6), call.transfer_ended("busy", 8)]
    assert record([*failed, call.status("completed", 31)]).end_reason == "caller-hung-up"


def test_a_call_as_long_as_its_limit_was_ended_by_it() -> None:
    call = Call()
    at_limit = call.status("completed", 40, said_at=40, duration_s=30)
    shorter = call.status("completed", 30, said_at=30, duration_s=20)
    assert record([call.requested(time_limit_s=30), at_limit]).end_reason == "time-limit"
    assert record([call.requested(time_limit_s=30), shorter]).end_reason == "callee-hung-up"
    asked = [call.requested(time_limit_s=30), call.hangup_requested(Party.AGENT, 39), at_limit]
    assert record(asked).end_reason == "agent-hung-up"


def test_the_newest_word_about_a_recording_counts() -> None:
    call = Call()
    stored, again = call.recording_stored(12), call.recording_stored(40, size_bytes=1280)
    state = record([call.received(), again, stored])
    assert state.recording is not None
    assert (state.recording.key, state.recording.size_bytes, state.recording.gaps_ms) == (
        "2026/11/run-1.wav", 1280, ((1000, 2000),),
    )  # fmt: skip
    assert record([call.received(), stored, call.recording_deleted()]).recording is None


# --- why it ended ----------------------------------------------------------------------------------------


def test_an_agent_that_asked_for_the_end_caused_it() -> None:
    call = Call()
    # Twilio's clock has whole seconds: by it the call ended before the agent asked.
    events = [
        call.received(),
        call.hangup_requested(Party.AGENT, 8.6),
        call.status("completed", 9.1, said_at=8),
    ]
    assert (record(events).end_reason, record(events).ended_by) == ("agent-hung-up", Party.AGENT)


def test_who_asks_after_the_end_did_not_cause_it() -> None:
    call = Call()
    events = [
        call.received(),
        call.status("completed", 9, said_at=9),
        call.hangup_requested(Party.OPERATOR, 9.5),
    ]
    assert record(events).ended_by is Party.CALLER


@pytest.mark.parametrize(
    ("party", "reason"), [(Party.OPERATOR, "operator-hung-up"), (Party.PLATFORM, "platform-hung-up")]
)
def test_operator_and_platform_end_calls_too(party: Party, reason: str) -> None:
    call = Call()
    assert (
        record([call.received(), call.hangup_requested(party), call.status("completed", 9)]).end_reason
        == reason
    )


def test_a_request_to_end_the_call_that_the_provider_refused_is_not_why_it_ended_an_hour_later() -> None:
    call = Call()
    refused = [
        call.requested(), call.originated(), call.status("answered", 3, sequence=2),
        call.hangup_requested(Party.OPERATOR, 8), call.hangup_failed(40),
    ]  # fmt: skip
    late = call.status("completed", 3600, sequence=3)
    assert (record([*refused, late]).end_reason, record([*refused, late]).ended_by) == (
        "callee-hung-up",
        Party.CALLEE,
    )
    again = [*refused, call.hangup_requested(Party.OPERATOR, 50), call.status("completed", 51, sequence=3)]
    assert record(again).end_reason == "operator-hung-up"
    by_bridge = call.media_stopped(9, ended_by=Party.PLATFORM, reason="hang-up-ordered")
    assert (
        record([*refused, by_bridge, call.status("completed", 51, sequence=3)]).end_reason
        == "operator-hung-up"
    )
    unconfirmed = call.seen("completed", 70, answered=3, ended=9)
    assert record([*refused, unconfirmed]).end_reason == "operator-hung-up"
    retried = [*refused[:-1], call.hangup_failed(40, final=False), call.status("completed", 51, sequence=3)]
    assert record(retried).end_reason == "operator-hung-up"


def test_of_two_requests_to_end_the_call_the_one_that_was_not_given_up_ended_it() -> None:
    call = Call()
    asked = [
        call.requested(), call.originated(), call.status("answered", 3, sequence=2),
        call.hangup_requested(Party.AGENT, 20), call.hangup_requested(Party.OPERATOR, 39), call.hangup_failed(40),
    ]  # fmt: skip
    ended = [*asked, call.status("completed", 41, sequence=3)]
    assert record(ended).end_reason == "operator-hung-up"
    assert record([*ended, call.hangup_failed(45)]).end_reason == "operator-hung-up"
    late = [*asked, call.hangup_failed(45), call.status("completed", 3600, sequence=3)]
    assert record(late).end_reason == "callee-hung-up"


def test_another_accounts_failure_to_hang_up_is_not_about_the_call() -> None:
    call, intruder = Call(), Call(account="AC666", call_id="CA666")
    asked = [call.received(), call.hangup_requested(Party.OPERATOR, 8), call.status("completed", 9.5)]
    assert record([*asked, intruder.hangup_failed(9)]).end_reason == "operator-hung-up"


def test_a_call_for_which_no_agent_was_found_says_so_whoever_tells_it() -> None:
    call = Call()
    by_bridge = call.media_stopped(8, ended_by=Party.PLATFORM, reason="agent-unreachable")
    by_gateway = call.served("hangup", 8.5, "no-agent")
    for told in ([by_bridge], [by_gateway], [by_bridge, by_gateway]):
        state = record([call.received(), *told, call.status("completed", 12)])
        assert (state.end_reason, state.ended_by) == ("agent-unreachable", Party.PLATFORM)


def test_a_session_that_moved_to_another_bridge_ended_nothing() -> None:
    call = Call()
    moved = call.media_stopped(5, ended_by=Party.PLATFORM, reason="superseded")
    assert record([call.received(), moved, call.status("completed", 9)]).end_reason == "caller-hung-up"


def test_a_bridge_that_says_the_agent_closed_is_believed_when_the_request_was_lost() -> None:
    call = Call()
    events = [call.received(), call.media_stopped(8, ended_by=Party.AGENT), call.status("completed", 9)]
    assert record(events).end_reason == "agent-hung-up"


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
def test_every_session_of_a_call_counts_and_the_last_one_says_who_ended_it(provider: str) -> None:
    call = OWN[provider]
    handed_over = call.media_stopped(60, epoch=1, ended_by=Party.PLATFORM, reason="shutdown")
    last = call.media_stopped(120, epoch=2, ended_by=Party.AGENT)
    told = [call.received(), handed_over, last, last, call.status("completed", 121)]
    state = record(told)
    assert (state.caller_audio_ms, state.agent_audio_ms) == (10_000, 6_000)
    assert (state.end_reason, state.ended_by) == ("agent-hung-up", Party.AGENT)
    assert record([*reversed(told)]) == state


def test_sessions_stored_under_the_names_of_their_streams_still_count() -> None:
    call = OWN["vonage"]
    known = gather([call.received(), call.media_stopped(60, epoch=1)])
    stored = encode(
        replace(known, media={f"{call.call_id}\nvonage\napp-1": next(iter(known.media.values()))})
    )
    facts = join(decode(stored), observe(call.media_stopped(120, epoch=2, ended_by=Party.AGENT)))
    state = project("run-1", join(facts, observe(call.status("completed", 121))))
    assert (state.caller_audio_ms, state.end_reason) == (10_000, "agent-hung-up")


def test_a_dial_that_was_refused_ends_the_call_as_failed() -> None:
    call = Call()
    state = record([call.requested(), call.dial_failed()])
    assert (words(state), state.end_reason, state.ended_by) == (
        "initiated failed",
        "dial-failed",
        Party.PLATFORM,
    )
    assert record([call.requested(), call.dial_failed(final=False)]).status is S.INITIATED


@pytest.mark.parametrize("party", [Party.OPERATOR, Party.PLATFORM])
def test_a_call_that_was_ended_before_it_was_dialled_was_given_up_by_who_asked(party: Party) -> None:
    call = Call()
    asked = [call.requested(), call.hangup_requested(party, 0.4), call.dial_failed(0.8, code="canceled")]
    state = record(asked)
    assert (words(state), state.end_reason, state.ended_by) == ("initiated canceled", "canceled", party)
    assert record([call.requested(), call.dial_failed(0.8, code="canceled")]).ended_by is Party.OPERATOR


def test_a_dial_reported_as_failed_that_rang_all_the_same_ends_as_the_provider_says() -> None:
    call = Call()
    wrong = [call.requested(), call.dial_failed(1), call.status("ringing", 2, sequence=1)]
    assert words(record(wrong)) == "initiated ringing failed"
    assert (
        words(record([*wrong, call.status("completed", 9, sequence=3)]))
        == "initiated ringing answered completed"
    )


@pytest.mark.parametrize(
    ("fields", "reason", "party"),
    [
        ({"sip_code": 404}, "invalid-number", Party.CARRIER),
        ({"sip_code": 603}, "rejected", Party.CALLEE),
        ({"sip_code": 503}, "carrier-failure", Party.CARRIER),
        ({"provider_status": "rejected", "detail": "declined"}, "rejected", Party.CALLEE),
        ({"provider_status": "rejected", "detail": "invalid_number"}, "invalid-number", Party.CARRIER),
        ({"provider_status": "failed", "detail": "cannot_route"}, "carrier-failure", Party.CARRIER),
        ({"status": S.BUSY, "detail": "declined"}, "rejected", Party.CALLEE),
        ({"status": S.BUSY, "sip_code": 486}, "busy", Party.CALLEE),
        ({}, "carrier-failure", Party.CARRIER),
    ],
)
def test_a_failed_call_says_whether_the_number_the_callee_or_the_carrier_was_it(
    fields: dict, reason: str, party: Party
) -> None:
    call = Call()
    state = record([call.requested(), call.status(**{"status": "failed", **fields})])
    assert (state.end_reason, state.ended_by) == (reason, party)


def test_a_call_that_was_refused_says_so() -> None:
    call = Call()
    busy = record([call.received(), call.served("refuse"), call.status("busy", 2)])
    spoken = record(
        [call.received(), call.served("hangup", 1, "configuration-paused"), call.status("completed", 2)]
    )
    assert (busy.end_reason, busy.ended_by) == ("refused", Party.PLATFORM)
    assert (spoken.end_reason, spoken.ended_by) == ("refused", Party.PLATFORM)


def test_instructions_to_hang_up_that_follow_an_end_are_not_its_cause() -> None:
    call = Call()
    events = [
        call.received(),
        call.media_stopped(8),
        call.served("hangup", 8.5, "ended"),
        call.status("completed", 9),
    ]
    assert record(events).end_reason == "caller-hung-up"


def test_a_call_without_a_workflow_is_its_owners_and_ends_with_the_reason_it_was_refused_for() -> None:
    call = Call()
    events = [
        call.received(workflow_id=None),
        call.served("hangup", 0.1, "number-without-workflow"),
        call.status("completed", 6),
    ]
    found = record(events)
    assert (found.user_id, found.workflow_id, found.from_number) == (call.user, None, "+14155550199")
    assert (found.status.value, found.end_reason, found.end_detail) == (
        "completed",
        "refused",
        "number-without-workflow",
    )


def test_nothing_known_is_still_a_record() -> None:
    assert words(project("run-1", Facts())) == "initiated"
