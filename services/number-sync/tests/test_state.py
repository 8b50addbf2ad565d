"""What a round makes of a number: the table of `sync.state`, and what holds whatever is found."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from number_sync.sync import state
from number_sync.sync.state import (
    NEVER,
    NO_ANSWER,
    NO_WORKFLOW,
    NOT_OWNED,
    Book,
    Schedule,
    Standing,
    observed,
    restoration,
    review,
    troubled,
)
from offhook.providers.lines import Obstacle

SCHEDULE = Schedule(interval=180_000, retry=5_000, phase=17)
NAMES = ("VoiceUrl", "VoiceMethod", "StatusCallback")
THEIRS = ("", "https://them.example/a", "https://them.example/b", "GET")
OURS = ("https://us.example/1", "https://us.example/2", "POST")
WANTED = {"VoiceUrl": "https://us.example/1", "VoiceMethod": "POST"}

theirs = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(THEIRS))
ours = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(OURS), min_size=1)
anything = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(THEIRS + OURS))


def equal(setting: str, one: str, other: str) -> bool:
    return one == other


def url_of(setting: str) -> str | None:
    return "VoiceUrl" if setting == "VoiceMethod" else None


def look(
    standing: Standing,
    wanted: dict[str, str],
    found: dict[str, str],
    *,
    repair: bool = True,
    now: int = 1_000,
    pushed: bool = False,
) -> tuple[Standing, dict[str, str]]:
    seen = review(standing.book, wanted, found, same=equal, repair=repair, now=now)
    after = observed(standing, seen, None, reference="PN1", now=now, schedule=SCHEDULE, pushed=pushed)
    return after, dict(seen.push)


def synced(wanted: dict[str, str] = WANTED) -> Standing:
    standing, push = look(Standing(), wanted, {})
    assert (standing.state, push) == ("pending", wanted)
    return look(standing, wanted, wanted, now=2_000, pushed=True)[0]


# --- the table


def test_a_number_set_as_wanted_is_synced_and_looked_at_again_at_its_turn() -> None:
    standing = synced()
    assert (standing.state, standing.reason, standing.attempts) == ("synced", None, 0)
    assert standing.due_at == SCHEDULE.regular(2_000)
    assert standing.due_at % SCHEDULE.interval == SCHEDULE.phase
    assert standing.compared == ("VoiceUrl", "VoiceMethod")
    assert standing.book.before == {"VoiceUrl": "", "VoiceMethod": ""}


def test_drift_is_recorded_then_repaired() -> None:
    found = {**WANTED, "VoiceUrl": "https://them.example/a"}
    drifted, push = look(synced(), WANTED, found, now=9_000)
    assert drifted.state == "drifted"
    assert push == {"VoiceUrl": WANTED["VoiceUrl"]}
    drift = drifted.book.last_drift
    assert drift is not None
    assert (drift.at, drift.repaired, drift.differs[0].found) == (9_000, False, found["VoiceUrl"])
    repaired, push = look(drifted, WANTED, WANTED, now=9_500, pushed=True)
    assert (repaired.state, push) == ("synced", {})
    assert repaired.book.last_drift == replace(drift, repaired=True)


def test_drift_that_is_only_reported_stays_even_after_an_outage() -> None:
    found = {**WANTED, "VoiceUrl": "https://them.example/a"}
    drifted, push = look(synced(), WANTED, found, repair=False)
    assert (drifted.state, push) == ("drifted", {})
    for _ in range(3):
        drifted = troubled(drifted, NO_ANSWER, now=5_000, schedule=SCHEDULE)
    assert drifted.state == "failed"
    drifted, push = look(drifted, WANTED, found, repair=False)
    assert (drifted.state, push) == ("drifted", {})


def test_another_public_url_is_no_drift_and_is_set_also_where_drift_is_only_reported() -> None:
    wanted = {**WANTED, "VoiceUrl": "https://us.example/2"}
    standing, push = look(synced(), wanted, WANTED, repair=False)
    assert (standing.state, push) == ("pending", {"VoiceUrl": "https://us.example/2"})
    assert standing.book.last_drift is None


def test_drift_without_repair_and_a_new_url_sets_only_what_is_wanted_anew() -> None:
    found = {"VoiceUrl": WANTED["VoiceUrl"], "VoiceMethod": "GET"}
    drifted, _ = look(synced(), WANTED, found, repair=False)
    wanted = {**WANTED, "VoiceUrl": "https://us.example/2"}
    pushing, push = look(drifted, wanted, found, repair=False)
    assert push == {"VoiceUrl": "https://us.example/2"}
    after, push = look(pushing, wanted, {**found, **push}, repair=False, pushed=True)
    assert (after.state, push) == ("drifted", {})


def test_a_provider_that_accepts_and_holds_something_else_has_failed_and_is_not_asked_in_a_loop() -> None:
    pushing, _ = look(Standing(), WANTED, {})
    after, _ = look(pushing, WANTED, {"VoiceUrl": "https://them.example/a"}, pushed=True)
    assert (after.state, after.reason) == ("failed", "rejected")
    assert after.due_at == SCHEDULE.regular(1_000)


def test_passing_trouble_is_called_a_failure_the_third_time_and_waits_longer_each_time() -> None:
    standing, waits = synced(), []
    for expected in ("synced", "synced", "failed"):
        standing = troubled(standing, NO_ANSWER, now=5_000, schedule=SCHEDULE)
        assert (standing.state, standing.reason) == (expected, "no-answer")
        assert "last compared on 1970-01-01 at 00:00:02 UTC" in (standing.sentence or "")
        waits.append(standing.due_at - 5_000)
    assert waits == [5_000, 10_000, 20_000]


def test_retry_after_is_honoured() -> None:
    busy = Obstacle("rate-limited", "Too many requests.", "Wait.")
    standing = troubled(synced(), busy, now=0, schedule=SCHEDULE, retry_after_s=600)
    assert standing.due_at == 600_000


def test_clear_trouble_is_a_failure_at_once() -> None:
    standing = troubled(synced(), NOT_OWNED, now=5_000, schedule=SCHEDULE)
    assert (standing.state, standing.reason, standing.attempts) == ("failed", "number-not-owned", 0)


def test_what_was_there_before_is_put_back() -> None:
    before = {"VoiceUrl": "https://them.example/a", "VoiceMethod": "GET"}
    standing, _ = look(Standing(), WANTED, before)
    assert restoration(standing.book, WANTED, same=equal, url_of=url_of) == before
    gone = state.released(standing, NO_WORKFLOW, now=7_000)
    assert (gone.state, gone.due_at) == ("detached", NEVER)
    assert gone.book.before == gone.book.ours == {}


def test_the_method_of_an_address_that_somebody_else_has_entered_since_stays_with_it() -> None:
    standing, _ = look(Standing(), WANTED, {"VoiceUrl": "https://them.example/a", "VoiceMethod": "GET"})
    moved = {**WANTED, "VoiceUrl": "https://them.example/b"}
    assert restoration(standing.book, moved, same=equal, url_of=url_of) == {}


def test_what_was_there_before_and_is_ours_by_now_is_emptied() -> None:
    """Somebody had entered by hand the address that the installation has only now."""
    standing, _ = look(Standing(), {"VoiceUrl": "https://us.example/1"}, {"VoiceUrl": "https://us.example/2"})
    standing, _ = look(standing, {"VoiceUrl": "https://us.example/2"}, {"VoiceUrl": "https://us.example/1"})
    found = {"VoiceUrl": "https://us.example/2"}
    assert restoration(standing.book, found, same=equal, url_of=url_of) == {"VoiceUrl": ""}


def test_an_address_of_ours_that_was_there_already_is_taken_away_and_a_method_is_not() -> None:
    """Entered by hand, or left there when the number was deleted here: nothing was ever pushed."""
    standing, push = look(Standing(), WANTED, WANTED)
    assert (standing.state, push, standing.book.before) == ("synced", {}, {})
    assert restoration(standing.book, WANTED, same=equal, url_of=url_of) == {"VoiceUrl": ""}
    moved, push = look(standing, {**WANTED, "VoiceUrl": "https://us.example/2"}, WANTED)
    assert (push, moved.book.before) == ({"VoiceUrl": "https://us.example/2"}, {})


def test_without_a_public_url_a_number_has_failed_and_what_is_known_of_it_is_kept() -> None:
    before = synced()
    after = state.stranded(before, now=1)
    assert (after.state, after.reason, after.due_at) == ("failed", "no-public-url", NEVER)
    assert after.book == before.book


def test_a_password_in_somebodys_url_is_put_back_and_not_shown() -> None:
    found = {"VoiceUrl": "https://user:secret@them.example/a", "VoiceMethod": "POST"}
    standing, _ = look(Standing(), WANTED, found)
    assert "secret" not in repr(standing.book.differs)
    assert restoration(standing.book, WANTED, same=equal, url_of=url_of) == {"VoiceUrl": found["VoiceUrl"]}


# --- whatever is found


@st.composite
def lives(draw: st.DrawFn) -> Standing:
    """A number after some rounds, each with something else wanted, found, or gone wrong."""
    standing = Standing()
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            trouble = draw(st.sampled_from([NO_ANSWER, NOT_OWNED]))
            standing = troubled(standing, trouble, now=1, schedule=SCHEDULE)
            continue
        wanted, repair = draw(ours), draw(st.booleans())
        found = draw(anything)
        standing, push = look(standing, wanted, found, repair=repair, now=1)
        if push and draw(st.booleans()):
            standing, _ = look(standing, wanted, {**found, **push}, repair=repair, now=1, pushed=True)
    return standing


@given(lives(), ours, anything, st.booleans(), st.booleans())
def test_synced_is_only_what_was_found_as_wanted(
    standing: Standing, wanted: dict[str, str], found: dict[str, str], repair: bool, pushed: bool
) -> None:
    after, push = look(standing, wanted, found, repair=repair, pushed=pushed)
    right = all(found.get(setting, "") == value for setting, value in wanted.items())
    assert (after.state == "synced") == right
    assert right == (not after.book.differs)
    if right:
        assert push == {}


@given(lives(), st.sampled_from([NO_ANSWER, NOT_OWNED]))
def test_nothing_becomes_synced_without_an_observation(standing: Standing, trouble: Obstacle) -> None:
    after = troubled(standing, trouble, now=9, schedule=SCHEDULE)
    assert after.state in (standing.state, "failed")
    assert after.book == standing.book


@given(lives(), ours, anything, st.booleans())
def test_the_same_observation_twice_gives_the_same(
    standing: Standing, wanted: dict[str, str], found: dict[str, str], repair: bool
) -> None:
    once, push = look(standing, wanted, found, repair=repair)
    twice, push_again = look(once, wanted, found, repair=repair)
    assert twice == once
    assert push_again == push


@given(lives(), ours, anything, st.booleans())
def test_before_is_never_a_value_of_ours_and_never_changes(
    standing: Standing, wanted: dict[str, str], found: dict[str, str], repair: bool
) -> None:
    after, push = look(standing, wanted, found, repair=repair)
    for setting, value in standing.book.before.items():
        assert after.book.before[setting] == value
    for setting in after.book.before.keys() - standing.book.before.keys():
        assert after.book.before[setting] not in standing.book.ours.get(setting, ())
    for setting, value in push.items():
        assert value in after.book.ours[setting]


@given(lives(), anything)
def test_letting_go_touches_only_what_is_ours_and_leaves_nothing_of_ours(
    standing: Standing, found: dict[str, str]
) -> None:
    book = standing.book
    back = restoration(book, found, same=equal, url_of=url_of)
    for setting, value in back.items():
        assert found.get(setting, "") in book.ours[setting]
        assert value in (book.before.get(setting, ""), "")
        assert value not in book.ours[setting]
    assert restoration(book, {**found, **back}, same=equal, url_of=url_of) == {}


@given(lives(), theirs)
def test_what_others_have_set_stays_when_a_number_is_let_go(
    standing: Standing, found: dict[str, str]
) -> None:
    foreign = {
        setting: value for setting, value in found.items() if value not in standing.book.ours.get(setting, ())
    }
    assert not foreign.keys() & restoration(standing.book, found, same=equal, url_of=url_of).keys()


@given(st.lists(lives(), max_size=4))
def test_what_one_configuration_calls_ours_was_not_there_before(standings: list[Standing]) -> None:
    before, own = state.merged([standing.book for standing in standings])
    for setting, value in before.items():
        assert value not in own.get(setting, ())
    for standing in standings:
        for setting, values in standing.book.ours.items():
            assert set(values) <= set(own[setting])


def test_a_book_remembers_boundedly_many_values() -> None:
    book = Book()
    for index in range(200):
        wanted = {"VoiceUrl": f"https://{index}.example"}
        book = review(book, wanted, {}, same=equal, repair=True, now=index).book
    assert len(book.ours["VoiceUrl"]) == 50
    assert book.ours["VoiceUrl"][-1] == "https://199.example"
