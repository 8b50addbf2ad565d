"""What a page says about one number's sync state: a sentence, a remedy, and the settings compared.

Pure: rows in, plain values out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from number_sync.sync.state import NEVER, shown

Kind = Literal["good", "info", "warning", "bad"]

_KINDS: Final[Mapping[str, Kind]] = {"synced": "good", "drifted": "warning", "failed": "bad"}

_TOLD: Final = ("synced", "pending", "drifted", "failed", "detached")

# What is said where the sync engine has not (yet) said anything itself.
_SENTENCES: Final[Mapping[str, str]] = {
    "synced": "The provider sends this number's calls here.",
    "pending": "Waiting for its turn to be set up at the provider.",
    "drifted": "Somebody changed this number's settings at the provider.",
    "failed": "This number could not be set up at the provider.",
    "detached": "Nothing is set at the provider, because nobody answers this number here.",
}


@dataclass(frozen=True, slots=True)
class SettingView:
    """One setting at the provider, under the provider's name. An empty text is a setting that is not set; None is not
    known."""

    name: str
    wanted: str | None
    found: str | None
    same: bool


@dataclass(frozen=True, slots=True)
class DriftView:
    """The last time somebody else changed the settings. `at`: ms since 1970."""

    at: int | None
    settings: tuple[SettingView, ...]
    repaired: bool


@dataclass(frozen=True, slots=True)
class SyncView:
    """`kind` is how the box with the sentence looks. Instants are ms since 1970, UTC; None where it has not happened."""

    state: str
    kind: Kind
    sentence: str
    remedy: str
    settings: tuple[SettingView, ...]
    before: tuple[tuple[str, str], ...] | None
    last_drift: DriftView | None
    compared_at: int | None
    changed_at: int | None
    pushed_at: int | None
    next_at: int | None

    @property
    def differs(self) -> bool:
        return any(not setting.same for setting in self.settings)


def sync_view(found: Mapping[str, Any] | None, shared: Mapping[str, Any] | None = None) -> SyncView:
    """`found` is a row of `number_states`; None: the number is so new that it has none. `shared` is the row of
    `shared_states` of its configuration: what belongs to a whole application at the provider, if anything does."""
    row = found or {}
    state = row.get("state") or "pending"
    differs = _differing(row.get("differs"))
    known = {setting.name for setting in differs}
    of_all = shared or {}
    wanted = {**(of_all.get("wanted") or {}), **(row.get("wanted") or {})}
    same = tuple(
        SettingView(str(name), wanted.get(name), wanted.get(name), True)
        for name in row.get("compared") or ()
        if str(name) not in known
    )
    before = row.get("before")
    if of_all.get("before") is not None:
        before = {**of_all["before"], **(before or {})}
    return SyncView(
        state=state,
        kind=_KINDS.get(state, "info"),
        sentence=row.get("sentence") or _SENTENCES.get(state, ""),
        remedy=row.get("remedy") or "",
        settings=differs + same,
        before=None
        if before is None
        else tuple((str(key), shown(str(value))) for key, value in before.items()),
        last_drift=_drift(row.get("last_drift")),
        compared_at=row.get("compared_at"),
        changed_at=row.get("changed_at"),
        pushed_at=row.get("pushed_at"),
        next_at=None if (due := row.get("due_at")) is None or due >= NEVER else due,
    )


def state_counts(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """State and count, of the states that some number is in, in the order in which they are told."""
    return tuple((state, counts[state]) for state in _TOLD if counts.get(state))


def _differing(differs: Sequence[Mapping[str, Any]] | None) -> tuple[SettingView, ...]:
    return tuple(
        SettingView(
            str(one.get("setting", "")), str(one.get("wanted") or ""), str(one.get("found") or ""), False
        )
        for one in differs or ()
    )


def _drift(drift: Mapping[str, Any] | None) -> DriftView | None:
    if drift is None:
        return None
    at = drift.get("at")
    return DriftView(
        at=at if isinstance(at, int) else None,
        settings=_differing(drift.get("differs")),
        repaired=bool(drift.get("repaired")),
    )
