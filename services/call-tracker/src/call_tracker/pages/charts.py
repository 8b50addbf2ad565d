"""The figures of a day as small charts: shares and heights for a template to write down as SVG. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from call_tracker.pages.explanations import explanation
from call_tracker.pages.wording import count, duration
from call_tracker.store.figures import Figures

HEIGHT: Final = 56
"""Of the bars of the hours, in px."""

_LEAST_PX: Final = 2
_MOST_CAUSES: Final = 4


@dataclass(frozen=True, slots=True)
class HourBar:
    """One hour's calls: `left` and `width` in per cent, the rest in px from the top. `text` says the same in words."""

    left: float
    width: float
    answered_top: int
    answered_height: int
    failed_top: int
    failed_height: int
    text: str


@dataclass(frozen=True, slots=True)
class Cause:
    """How many calls failed for a reason. `share` of the most frequent one, in per cent."""

    end_reason: str
    text: str
    calls: int
    share: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What stands above the list of calls. `waits`: pairs of words and the median time until the answer."""

    total: int
    live: int
    answered: int
    failed: int
    answered_percent: int | None
    hours: tuple[HourBar, ...]
    causes: tuple[Cause, ...]
    waits: tuple[tuple[str, str], ...]
    summary: str


def chart(figures: Figures) -> Chart:
    failed = figures.failed.total()
    over = figures.answered + failed
    percent = None if not over else round(100 * figures.answered / over)
    waits = []
    for direction, words in (("inbound", "inbound"), ("outbound", "outbound")):
        median = figures.median_ms(direction)
        if median is not None:
            waits.append((words, duration(median)))
    summary = f"{count(figures.answered, 'call')} answered, {failed:,} failed, {figures.live:,} live."
    return Chart(
        total=figures.total,
        live=figures.live,
        answered=figures.answered,
        failed=failed,
        answered_percent=percent,
        hours=_hours(figures),
        causes=_causes(figures),
        waits=tuple(waits),
        summary=summary,
    )


def _hours(figures: Figures) -> tuple[HourBar, ...]:
    most = max((hour.answered + hour.failed + hour.live for hour in figures.hours), default=0) or 1
    room = 100 / max(len(figures.hours), 1)
    bars = []
    for number, hour in enumerate(figures.hours):
        answered = _height(hour.answered + hour.live, most)
        failed = _height(hour.failed, most)
        answered = min(answered, HEIGHT - failed)
        bars.append(
            HourBar(
                left=round(number * room + room * 0.12, 3),
                width=round(room * 0.76, 3),
                answered_top=HEIGHT - answered - failed,
                answered_height=answered,
                failed_top=HEIGHT - failed,
                failed_height=failed,
                text=f"{hour.begins:%H:%M} UTC: {hour.answered} answered, {hour.failed} failed",
            )
        )
    return tuple(bars)


def _height(calls: int, most: int) -> int:
    return max(round(calls / most * HEIGHT), _LEAST_PX) if calls else 0


def _causes(figures: Figures) -> tuple[Cause, ...]:
    """The most frequent ones; those that are left are one cause together. Answered calls without an agent count too."""
    failed = figures.failed.copy()
    if figures.unattended:
        failed["agent-unreachable"] += figures.unattended
    ordered: Sequence[tuple[str, int]] = failed.most_common()
    shown = list(ordered) if len(ordered) <= _MOST_CAUSES else list(ordered[: _MOST_CAUSES - 1])
    rest = sum(calls for _, calls in ordered[len(shown) :])
    most = max([rest, *(calls for _, calls in shown)], default=1) or 1
    causes = [
        Cause(reason, explanation(reason).short, calls, round(100 * calls / most, 1))
        for reason, calls in shown
    ]
    if rest:
        causes.append(Cause("", "Other causes", rest, round(100 * rest / most, 1)))
    return tuple(causes)
