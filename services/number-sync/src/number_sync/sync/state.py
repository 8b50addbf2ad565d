"""What one round of comparing makes of a number. Pure: no I/O, no clock.

THEORY OF OPERATION

A *book* remembers, for a group of settings at a provider (a number's own, or those its application shares with other
numbers), what was there before us (`before`), every value we have set or were about to set and every address of this
installation that somebody else had entered (`ours`), and what the last comparison wanted and found. `review` lays what
is wanted beside what is found and says what to push; you must store the book it returns *before* pushing, so that a
value of ours is known as ours whatever happens then.

A difference is *drift* when the same value was wanted, and found, the last time. Everything else that differs has
not been set yet. Drift may be left as it is (`repair=False`); it then stays drift until it is gone.

    found as wanted ------------------------------> synced
    differs, to be set ---------------------------> pending, push, review the provider's answer
    drift, to be repaired ------------------------> drifted, push, review the provider's answer
    drift, not to be repaired --------------------> drifted
    pushed, and the answer still differs ---------> failed (rejected)
    an obstacle, or the provider's clear refusal -> failed
    no usable answer -----------------------------> as before; the third time in a row: failed
    nothing wanted, nothing of ours found --------> detached
    wanted, but there is no public URL -----------> failed, nothing is touched

Only `observed` makes a number synced, and only from an observation in which nothing differs.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal

from offhook.providers.lines import Obstacle, Settings
from offhook.providers.obstacles import no_public_url

State = Literal["pending", "synced", "drifted", "failed", "detached"]
STATES: Final[tuple[State, ...]] = ("pending", "synced", "drifted", "failed", "detached")

Same = Callable[[str, str, str], bool]
"""Whether two values of a setting mean the same: (setting, one, other)."""

UrlOf = Callable[[str], str | None]
"""The setting with the URL that a setting is the HTTP method of; None for all others."""

NEVER: Final = 2**53 - 1
"""A `due_at` that does not come: nothing is to be compared until something changes."""

TRANSIENT: Final = frozenset(
    {"rate-limited", "provider-unavailable", "answer-unreadable", "no-answer", "internal-error"}
)
"""Codes of trouble that passes by itself."""

_PATIENCE: Final = 3  # failures in a row before passing trouble is called a failure
_REMEMBERED: Final = 50  # values of ours per setting: a quick tunnel has a new name at each start
_ADDRESS: Final = re.compile("https?://")
_USER_INFO: Final = re.compile(r"//[^/?#@\s]*@")


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that is not as wanted; for people, so without the user info of a URL."""

    setting: str
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class Drift:
    """What somebody else changed at the provider. `at`: ms since 1970. `repaired`: it is as wanted again."""

    at: int
    differs: tuple[Difference, ...]
    repaired: bool


@dataclass(frozen=True, slots=True)
class Book:
    """See above. `wanted` None: never compared, or let go."""

    before: Settings = field(default_factory=dict)
    ours: Mapping[str, Sequence[str]] = field(default_factory=dict)
    wanted: Settings | None = None
    differs: tuple[Difference, ...] = ()
    compared_at: int | None = None
    pushed_at: int | None = None
    last_drift: Drift | None = None

    def is_ours(self, setting: str, value: str, same: Same) -> bool:
        return any(same(setting, own, value) for own in self.ours.get(setting, ()))


@dataclass(frozen=True, slots=True)
class Review:
    """`book` is to be stored before `push` is sent. `drifting` is the part of the differences that is drift, `fresh`
    whether some of it was not known yet."""

    book: Book
    push: Settings
    differs: tuple[Difference, ...]
    drifting: tuple[Difference, ...]
    fresh: bool


def review(book: Book, wanted: Settings, found: Settings, *, same: Same, repair: bool, now: int) -> Review:
    """Compare. Settings that are found but not wanted are none of our business. `now`: ms since 1970."""
    differs = tuple(
        Difference(setting, shown(value), shown(found.get(setting, "")))
        for setting, value in wanted.items()
        if not same(setting, value, found.get(setting, ""))
    )
    last = book.wanted or {}
    unchanged = {setting for setting, value in wanted.items() if last.get(setting) == value}
    differed = {difference.setting for difference in book.differs}
    standing = (
        {difference.setting for difference in book.last_drift.differs}
        if book.last_drift is not None and not book.last_drift.repaired
        else set()
    )
    fresh = {each.setting for each in differs if each.setting in unchanged - differed}
    drifting = tuple(each for each in differs if each.setting in fresh | (standing & unchanged))
    held = set() if repair else {each.setting for each in drifting}
    push = {each.setting: wanted[each.setting] for each in differs if each.setting not in held}
    # An address of this installation that is there already is ours, whoever entered it: it is not left behind.
    there = {setting: value for setting, value in wanted.items() if _ADDRESS.match(value)}
    for difference in differs:
        there.pop(difference.setting, None)
    before = {
        setting: found.get(setting, "")
        for setting in push
        if not book.is_ours(setting, found.get(setting, ""), same)
    }
    return Review(
        Book(
            # What is remembered from another time or another account is older than what the first look finds.
            before={**book.before, **before} if book.compared_at is None else {**before, **book.before},
            ours=_with(_with(book.ours, there), push),
            wanted=dict(wanted),
            differs=differs,
            compared_at=now,
            pushed_at=now if push else book.pushed_at,
            last_drift=_drift(book.last_drift, drifting, fresh=bool(fresh), now=now),
        ),
        push,
        differs,
        drifting,
        bool(fresh),
    )


def restoration(book: Book, found: Settings, *, same: Same, url_of: UrlOf) -> Settings:
    """What to set so that nothing of ours is left: what was there before, or '' (not set). Values that somebody else
    has set stay, and with a URL the method it is asked by: a method by itself is nobody's."""
    back: dict[str, str] = {}
    for setting in book.ours:
        url = url_of(setting)
        if url is not None and not book.is_ours(url, found.get(url, ""), same):
            continue
        value = book.before.get(setting, "")
        if book.is_ours(setting, value, same):
            value = ""  # what was there then is an address of ours by now
        if book.is_ours(setting, found.get(setting, ""), same) and not same(
            setting, value, found.get(setting, "")
        ):
            back[setting] = value
    return back


def merged(books: Sequence[Book]) -> tuple[Settings, Mapping[str, Sequence[str]]]:
    """`before` and `ours` of one application, as several configurations know it. What one of them calls ours was not
    there before."""
    ours: dict[str, list[str]] = {}
    for book in books:
        for setting, values in book.ours.items():
            own = ours.setdefault(setting, [])
            own.extend(value for value in values if value not in own)
    before: dict[str, str] = {}
    for book in books:
        for setting, value in book.before.items():
            if value not in ours.get(setting, ()):
                before.setdefault(setting, value)
    return before, ours


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to look again; all in ms. `phase` spreads configurations over the interval."""

    interval: int
    retry: int
    phase: int = 0

    def regular(self, now: int) -> int:
        """The configuration's next turn: all of its numbers have the same, and share one look at the provider."""
        earliest = now + self.interval // 4
        return earliest + (self.phase - earliest) % self.interval

    def again(self, now: int, attempts: int, retry_after_s: float | None) -> int:
        """After the `attempts`-th failure in a row: longer each time, and never before the provider allows it."""
        wait = min(self.interval, self.retry << min(max(attempts - 1, 0), 20))
        return now + max(wait, int((retry_after_s or 0) * 1000))


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one number stands. Instants in ms since 1970; `attempts` are failures in a row."""

    state: State = "pending"
    reason: str | None = None
    sentence: str | None = None
    remedy: str | None = None
    reference: str | None = None
    compared: tuple[str, ...] = ()
    book: Book = field(default_factory=Book)
    attempts: int = 0
    changed_at: int = 0
    due_at: int = 0


def observed(
    standing: Standing,
    line: Review,
    shared: Review | None,
    *,
    reference: str,
    now: int,
    schedule: Schedule,
    pushed: bool = False,
) -> Standing:
    """The number was seen. With something to push the result is what to store before that: `due_at` stays, so that the
    number is looked at again if nobody comes back. `pushed`: this is the provider's answer to the push."""
    differs = line.differs + (shared.differs if shared else ())
    drifting = line.drifting + (shared.drifting if shared else ())
    pushing = bool(line.push or (shared and shared.push))
    fresh = line.fresh or (shared is not None and shared.fresh)
    seen = replace(
        standing,
        reference=reference,
        compared=tuple(line.book.wanted or ()) + tuple((shared.book.wanted or ()) if shared else ()),
        book=replace(
            line.book,
            differs=differs,
            last_drift=_drift(standing.book.last_drift, drifting, fresh=fresh, now=now),
        ),
    )
    if not differs:
        return _turn(seen, "synced", now=now, due_at=schedule.regular(now))
    if pushing and pushed:
        return _turn(
            seen,
            "failed",
            Obstacle(
                "rejected",
                f"The provider accepted the change, but it still holds another value of {_names(differs)}.",
                "Look at the number in the provider's console: something there may set it again.",
            ),
            now=now,
            due_at=schedule.regular(now),
        )
    if not drifting:
        return replace(_turn(seen, "pending", now=now, due_at=standing.due_at), attempts=standing.attempts)
    changed = f"{_names(drifting)} was changed at the provider by somebody else."
    if pushing:
        told = Obstacle("drifted", changed, "Nothing to do: it is being set again.")
        return replace(
            _turn(seen, "drifted", told, now=now, due_at=standing.due_at), attempts=standing.attempts
        )
    told = Obstacle(
        "drifted",
        changed,
        "Have the configuration repair drift, or set the value back in the provider's console.",
    )
    return _turn(seen, "drifted", told, now=now, due_at=schedule.regular(now))


def obstructed(
    standing: Standing, obstacle: Obstacle, *, reference: str | None, now: int, schedule: Schedule
) -> Standing:
    """The provider was understood, and the number cannot be as wanted."""
    seen = replace(standing, reference=reference or standing.reference)
    return _turn(seen, "failed", obstacle, now=now, due_at=schedule.regular(now))


def troubled(
    standing: Standing,
    obstacle: Obstacle,
    *,
    now: int,
    schedule: Schedule,
    retry_after_s: float | None = None,
) -> Standing:
    """The provider refused, or gave no usable answer: it is not known how the number is set now."""
    if obstacle.code not in TRANSIENT:
        return _turn(standing, "failed", obstacle, now=now, due_at=schedule.regular(now))
    if standing.book.compared_at is not None:
        last = datetime.fromtimestamp(standing.book.compared_at / 1000, UTC)
        obstacle = replace(
            obstacle, sentence=f"{obstacle.sentence} It was last compared on {last:%Y-%m-%d at %H:%M:%S} UTC."
        )
    attempts = standing.attempts + 1
    state: State = "failed" if attempts >= _PATIENCE else standing.state
    return replace(
        _turn(
            standing,
            state,
            obstacle,
            now=now,
            due_at=schedule.again(now, attempts, retry_after_s),
        ),
        attempts=attempts,
    )


def letting_go(standing: Standing, why: Obstacle, *, now: int) -> Standing:
    """To be stored before a restoration is sent. Nothing is wanted from here on: when the number is answered again before
    the restoration was seen to end, what it has set is ours to set again, and nobody's drift."""
    return replace(
        _turn(standing, "pending", why, now=now, due_at=standing.due_at),
        attempts=standing.attempts,
        book=replace(standing.book, wanted=None, differs=()),
    )


def released(standing: Standing, why: Obstacle, *, now: int) -> Standing:
    """Nothing of ours is at the provider. What was there before us is forgotten: it is there now."""
    drift = standing.book.last_drift
    empty = replace(standing, book=Book(last_drift=drift and replace(drift, repaired=True)), compared=())
    return _turn(empty, "detached", why, now=now, due_at=NEVER)


def stranded(standing: Standing, *, now: int) -> Standing:
    """To be answered, but nobody knows where: the provider is left as it is. A start without the setting, by mistake,
    must not take every phone down."""
    return _turn(standing, "failed", no_public_url(), now=now, due_at=NEVER)


INACTIVE: Final = Obstacle(
    "inactive", "The number is switched off here; the provider was set back.", "Switch it on to take calls."
)
NO_WORKFLOW: Final = Obstacle(
    "no-workflow",
    "No workflow answers this number; the provider was set back.",
    "Choose the workflow that answers.",
)
NOT_OWNED: Final = Obstacle(
    "number-not-owned",
    "The number is not in this account at the provider.",
    "Check the number and the account, or buy or port the number there; then check again.",
)
KEY_LOST: Final = Obstacle(
    "key-lost",
    "The credentials cannot be opened: the key ring no longer has their key.",
    "Enter the credentials again, or put the old key back into OFFHOOK_KEYRING.",
)
NO_ADAPTER: Final = Obstacle(
    "no-adapter",
    "This version has no adapter for the configuration's provider.",
    "Run the version of number-sync that made the configuration, or a newer one.",
)
NO_ANSWER: Final = Obstacle(
    "no-answer",
    "The provider did not answer in time.",
    "Nothing to do: it is asked again. If it lasts, see the provider's status page and this host's network.",
)

CRASHED: Final = Obstacle(
    "internal-error",
    "Something unexpected went wrong here, not at the provider.",
    "It is tried again. If it stays so, enter the credentials again, and read `sync.crashed` in the service's log.",
)


def _turn(
    standing: Standing, state: State, told: Obstacle | None = None, *, now: int, due_at: int
) -> Standing:
    return replace(
        standing,
        state=state,
        reason=None if told is None else told.code,
        sentence=None if told is None else told.sentence,
        remedy=None if told is None else told.remedy,
        attempts=0,
        changed_at=standing.changed_at if state == standing.state else now,
        due_at=due_at,
    )


def _drift(last: Drift | None, drifting: tuple[Difference, ...], *, fresh: bool, now: int) -> Drift | None:
    if fresh:
        return Drift(now, drifting, repaired=False)
    if last is None or last.repaired:
        return last
    # What is wanted anew is not drift any more: it must be set, also by whoever comes after a crash.
    return replace(last, differs=drifting) if drifting else replace(last, repaired=True)


def _with(ours: Mapping[str, Sequence[str]], push: Settings) -> Mapping[str, Sequence[str]]:
    more = {setting: tuple(values) for setting, values in ours.items()}
    for setting, value in push.items():
        kept = tuple(own for own in more.get(setting, ()) if own != value)
        more[setting] = (*kept, value)[-_REMEMBERED:]
    return more


def _names(differs: Sequence[Difference]) -> str:
    return ", ".join(each.setting for each in differs)


def shown(value: str) -> str:
    """A setting's value for people: without the user name and password of a URL."""
    return _USER_INFO.sub("//•••@", value)
