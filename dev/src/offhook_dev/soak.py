"""A soak: which calls are placed, what the simulated carrier knows became of them, and what that makes of their records.

Nothing here runs anything: `dev/tests/test_soak.py` places the calls, kills programs meanwhile, and asks these functions.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from carrier_sim import Callee, Caller, CallReport, Faults, HangUp, StayUntilHungUp, Wait

Json = dict[str, Any]
Kind = Literal[
    "far-end-hangs-up",
    "agent-hangs-up",
    "operator-hangs-up",
    "busy",
    "no-answer",
    "rejected",
    "failed",
    "given-up-by-the-network",
    "canceled-while-ringing",
    "invalid-number",
    "at-the-limit",
    "caller-gives-up",
]

OUTBOUND: Final[Mapping[Kind, int]] = {
    "far-end-hangs-up": 6,
    "agent-hangs-up": 5,
    "operator-hangs-up": 3,
    "busy": 4,
    "no-answer": 2,
    "rejected": 3,
    "failed": 3,
    "given-up-by-the-network": 2,
    "canceled-while-ringing": 3,
    "invalid-number": 2,
    "at-the-limit": 4,
}
INBOUND: Final[Mapping[Kind, int]] = {
    "far-end-hangs-up": 8,
    "agent-hangs-up": 6,
    "operator-hangs-up": 3,
    "caller-gives-up": 3,
    "at-the-limit": 3,
}
"""How often each kind comes among the calls of a direction."""

RINGS_S: Final = 0.6
RING_TIMEOUT_S: Final = 5
_TALK: Final = Caller((Wait(0.8), HangUp()))
_STAY: Final = Caller((StayUntilHungUp(150.0),))
_DEAF: Final = 0.1
"""The share of calls of which no callback arrives at all."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A call to be placed."""

    ordinal: int
    provider: str
    direction: Literal["inbound", "outbound"]
    kind: Kind
    faults: Faults

    @property
    def caller(self) -> Caller:
        """What the person on the phone does."""
        return _TALK if self.kind in ("far-end-hangs-up", "at-the-limit") else _STAY

    @property
    def callee(self) -> Callee:
        """Who answers, of an outbound call."""
        match self.kind:
            case "busy" | "rejected" | "failed":
                return Callee(RINGS_S, self.kind, faults=self.faults)
            case "no-answer":
                return Callee(RINGS_S, "no-answer", faults=self.faults)
            case "given-up-by-the-network":
                return Callee(RINGS_S, "canceled", faults=self.faults)
            case "canceled-while-ringing":
                return Callee(60.0, faults=self.faults)
            case "at-the-limit":
                # They ring long enough for the next to find the line taken.
                return Callee(2.0, caller=self.caller, faults=self.faults)
            case _:
                return Callee(RINGS_S, caller=self.caller, faults=self.faults)


def plan(count: int, providers: Sequence[str], seed: int = 1) -> list[Wish]:
    """`count` calls in a random order that is the same for the same seed: both providers, both directions, all kinds."""
    chance = random.Random(seed)  # noqa: S311 - a plan, not a secret
    kinds: list[tuple[Literal["inbound", "outbound"], Kind]] = [
        *(("outbound", kind) for kind, times in OUTBOUND.items() for _ in range(times)),
        *(("inbound", kind) for kind, times in INBOUND.items() for _ in range(times)),
    ]
    each = list(itertools.product(kinds, providers))
    chance.shuffle(each)
    wanted = list(itertools.islice(itertools.cycle(each), count))
    chance.shuffle(wanted)
    return [
        Wish(number, provider, direction, kind, _faults(chance, number))
        for number, ((direction, kind), provider) in enumerate(wanted)
    ]


def _faults(chance: random.Random, seed: int) -> Faults:
    if chance.random() < _DEAF:
        return Faults(drop=1.0)
    return Faults(
        duplicate=0.3,
        drop=0.2,
        delay=0.3,
        delay_s=(0.1, 2.5),
        reorder=0.3,
        duplicate_instructions=0.2,
        seed=seed,
    )


# --- what is true ----------------------------------------------------------------------------------------------------

_STATUSES: Final = {
    "timeout": "no-answer",
    "unanswered": "no-answer",
    "cancelled": "canceled",
    "rejected": "busy",
}


def status_of(report: CallReport) -> str:
    """The status the record has to end with. Vonage's `rejected` is always `declined` here, which is busy to us."""
    return _STATUSES.get(report.status, report.status)


def reasons_of(wish: Wish, report: CallReport) -> set[tuple[str, str | None]] | None:
    """End reason and party, as far as the carrier's own knowledge decides them; None: it does not.

    Several where a lost callback took the provider's finer word along: its REST API does not say it.
    """
    told_all = not any(fault.startswith("dropped") for fault in report.faults) and all(
        callback.status_code is not None and callback.status_code < 300 for callback in report.callbacks
    )
    match wish.kind:
        case "far-end-hangs-up" | "at-the-limit" if report.ended_by in ("caller", "callee"):
            return {(f"{report.ended_by}-hung-up", report.ended_by)} if report.streams else None
        case "agent-hangs-up" if report.streams and report.ended_by in ("instructions", "rest"):
            return {("agent-hung-up", "agent")} if told_all else None
        case "busy" if report.end_cause == "busy":
            return {("busy", "callee")}
        case "no-answer" if report.end_cause in ("no-answer", "timeout"):
            return {("no-answer", "callee")}
        case "rejected" if report.end_cause in ("busy", "rejected"):
            return {("rejected", "callee")} if told_all else {("rejected", "callee"), ("busy", "callee")}
        case "failed" if report.end_cause == "failed":
            exact: set[tuple[str, str | None]] = {("invalid-number", "carrier")}
            return exact if told_all else exact | {("carrier-failure", "carrier")}
    return None


def acknowledged(report: CallReport) -> Counter[str]:
    """The provider's words about the phone's leg that were answered with 2xx: each has to be in the call's log."""
    words: Counter[str] = Counter()
    for callback in report.callbacks:
        if callback.purpose not in ("status", "event") or not 200 <= (callback.status_code or 0) < 300:
            continue
        fields = callback.fields
        if fields.get("CallSid") == report.provider_call_id and "CallStatus" in fields:
            words[str(fields["CallStatus"])] += 1
        elif fields.get("uuid") == report.provider_call_id and "status" in fields:
            words[str(fields["status"])] += 1
    return words


def was_served(report: CallReport) -> bool:
    """Whether the carrier got instructions: whoever gave them has taken the call on."""
    return any(
        callback.purpose in ("instructions", "fallback") and callback.status_code == 200
        for callback in report.callbacks
    )


# --- what came out ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """The run's figures. Everything in `wrong` should be empty."""

    wishes: Sequence[Wish]
    kills: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    callbacks: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    settled_s: float = 0.0

    def count_callbacks(self, reports: Iterable[CallReport]) -> None:
        """Add up what happened to the carriers' callbacks."""
        for report in reports:
            for fault in report.faults:
                self.callbacks[fault.split()[0]] += 1
            for callback in report.callbacks:
                if callback.purpose in ("status", "event"):
                    delivered = 200 <= (callback.status_code or 0) < 300
                    self.callbacks["acknowledged" if delivered else "met nobody"] += 1

    def blame(self, what: str, words: str) -> None:
        self.wrong.setdefault(what, []).append(words)

    def complaints(self) -> str:
        """Everything that is wrong, one thing a line."""
        return "\n".join(f"{what}: {words}" for what, all_words in self.wrong.items() for words in all_words)

    def table(self) -> str:
        """The figures for people."""
        by_road = Counter(f"{wish.provider} {wish.direction}" for wish in self.wishes)
        rows = [
            ("calls", f"{len(self.wishes)} in {self.seconds:.0f} s", _listed(by_road)),
            ("ended as", "", _listed(self.outcomes)),
            ("refused before dialling", str(self.refused.total()), _listed(self.refused)),
            ("callbacks", str(self.callbacks["acknowledged"]), _listed(self.callbacks)),
            ("killed (kill -9)", str(self.kills.total()), _listed(self.kills)),
            ("records", str(self.records["all"]), f"settled {self.settled_s:.0f} s after the last call; "
             + _listed(Counter({name: count for name, count in self.records.items() if name != "all"}))),
        ]  # fmt: skip
        rows += [(what, str(len(self.wrong.get(what, []))), "") for what in WRONGS]
        first = max(len(row[0]) for row in rows)
        second = max(len(row[1]) for row in rows)
        lines = [f"{name:<{first}}  {figure:>{second}}  {more}".rstrip() for name, figure, more in rows]
        return "\n".join(lines)


WRONGS: Final = (
    "calls without an end",
    "with a wrong outcome",
    "with a wrong cause",
    "without a record",
    "with several records",
    "dialled twice",
    "dialled although refused",
    "acknowledged and lost",
    "leases left over",
)
"""What must not happen."""


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
