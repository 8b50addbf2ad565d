"""A call drawn to scale: lanes, bars and marks, in numbers that a template writes down as SVG. Pure.

Everything that lies in time is a share of the width (per cent), so that one drawing fits a phone and a desk, without
script. What lies across is CSS pixels. Marks that would cover each other on a narrow screen are stacked; where a stack
would grow too high they share one mark that says how many they are. What happens long after the end (the cost of a call
may be told hours later) does not squeeze the call itself: it stands beside the drawing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from call_tracker.pages.telling import LaneName, Told, Tone
from call_tracker.pages.wording import clock, duration, parsed, since_ms
from offhook.events import TERMINAL_STATUSES, CallStatus
from offhook.records import CallState

NARROW_PX: Final = 300
"""The narrowest drawing: what is readable here is readable everywhere."""

WIDE_PX: Final = 900
_MARGIN: Final = 3.0  # per cent on either side, so that no mark is cut off
_MARK_PX: Final = 20
_LEVEL_PX: Final = 24
_MOST_LEVELS: Final = 4
_LABEL_PX: Final = 22
_BAR_PX: Final = 20
_GAP_PX: Final = 12
_AXIS_PX: Final = 24
_LETTER_PX: Final = 7.0
_LEAST_BAR: Final = 0.7
_LEAST_MS: Final = 1000.0
_STEPS_S: Final = (
    0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800,
)  # fmt: skip
_MOST_TICKS: Final = 5
_TITLES: Final[dict[LaneName, str]] = {
    "carrier": "Carrier",
    "webhooks": "Webhooks",
    "media": "Audio",
    "agent": "Agent",
}


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted. `ends` is None while it goes on."""

    lane: LaneName
    text: str
    begins: datetime
    ends: datetime | None
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Bar:
    """`left` and `width` in per cent, `top` and `height` in px. `fits`: where its text has room."""

    left: float
    width: float
    top: int
    height: int
    text: str
    title: str
    tone: Tone
    live: bool
    fits: str


@dataclass(slots=True)
class Mark:
    """One event, or several that are too close. `left` in per cent, `top` (of its middle) in px."""

    left: float
    top: int
    told: list[Told]

    @property
    def text(self) -> str:
        return str(self.told[0].number) if len(self.told) == 1 else f"{len(self.told)}×"

    @property
    def title(self) -> str:
        return "; ".join(f"{one.number}: {one.title}" for one in self.told)

    @property
    def tone(self) -> Tone:
        tones = {one.tone for one in self.told}
        return next((tone for tone in ("bad", "strange", "waiting", "good") if tone in tones), "plain")


@dataclass(slots=True)
class Lane:
    """`top` of its title's line and `bottom`, in px."""

    name: LaneName
    title: str
    top: int
    bottom: int = 0
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tick:
    left: float
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """`height` in px; `axis` is where the lanes end and the times stand. `now`: where a live call is (per cent). `later`
    happened long after the end."""

    begins: datetime
    lasts_ms: float
    height: int
    axis: int
    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    now: float | None
    later: tuple[Told, ...]


def draw(record: CallState, told: Sequence[Told], spans: Sequence[Span], now: datetime) -> Timeline | None:
    """The drawing of a call; None when nothing of it is known to have happened at any time."""
    begins = _begins(record, told)
    if begins is None:
        return None
    ended = parsed(record.ended_at)
    live = record.status not in TERMINAL_STATUSES
    ends, later = _ends(begins, ended, told, now if live else None)
    lasts_ms = max(since_ms(begins, ends), _LEAST_MS)

    def left(at: datetime) -> float:
        share = min(max(since_ms(begins, at) / lasts_ms, 0.0), 1.0)
        return round(_MARGIN + share * (100 - 2 * _MARGIN), 3)

    late = {one.number for one in later}
    lanes: list[Lane] = []
    top = 0
    for name, title in _TITLES.items():
        lane = Lane(name, title, top)
        row = top + _LABEL_PX
        mine = [span for span in spans if span.lane == name and span.begins <= ends]
        lane.bars = [_bar(span, left, row, begins, ends) for span in mine]
        if mine:
            row += _BAR_PX + 4
        lane.marks = _marks([one for one in told if one.lane == name and one.number not in late], left, row)
        levels = max(((mark.top - row) // _LEVEL_PX + 1 for mark in lane.marks), default=0)
        if not mine and not levels:
            continue
        lane.bottom = top = row + levels * _LEVEL_PX + _GAP_PX
        lanes.append(lane)
    return Timeline(
        begins=begins,
        lasts_ms=lasts_ms,
        height=top + _AXIS_PX,
        axis=top,
        lanes=tuple(lanes),
        ticks=_ticks(lasts_ms),
        now=left(now) if live else None,
        later=tuple(later),
    )


def spans_of(record: CallState, raw: Sequence[tuple[str, datetime, dict[str, object]]]) -> list[Span]:
    """What lasted: ringing and talking, as the record has them; audio and agent sessions, as the events tell
    (type, time and data each)."""
    ended = parsed(record.ended_at)
    live = record.status not in TERMINAL_STATUSES
    ringing, answered = parsed(record.ringing_at), parsed(record.answered_at)
    spans: list[Span] = []
    if ringing is not None:
        until = answered or ended
        missed = not live and CallStatus.ANSWERED not in record.statuses
        spans.append(Span("carrier", "Ringing", ringing, until, "bad" if missed else "waiting"))
    if answered is not None:
        spans.append(Span("carrier", "Talking", answered, ended, "good"))
    began: dict[object, datetime] = {}
    agent: dict[object, datetime] = {}
    for kind, at, data in raw:
        epoch = data.get("epoch")
        if kind == "offhook.media.started.v1":
            began[epoch] = at
        elif kind == "offhook.agent.connected.v1":
            agent[epoch] = at
        elif kind == "offhook.agent.lost.v1" and epoch in agent:
            spans.append(Span("agent", "Agent", agent.pop(epoch), at, "bad"))
        elif kind == "offhook.media.stopped.v1":
            lasted = data.get("duration_ms")
            first = at - timedelta(milliseconds=float(lasted)) if isinstance(lasted, int | float) else at
            spans.append(Span("media", "Audio", began.pop(epoch, first), at))
            if epoch in agent:
                spans.append(Span("agent", "Agent", agent.pop(epoch), at, "good"))
    spans += [Span("media", "Audio", at, ended) for at in began.values()]
    spans += [Span("agent", "Agent", at, ended, "good") for at in agent.values()]
    return spans


def _begins(record: CallState, told: Sequence[Told]) -> datetime | None:
    asked = parsed(record.requested_at)
    times = [one.at for one in told] if asked is None else [asked]
    return min(times, default=None)


def _ends(
    begins: datetime, ended: datetime | None, told: Sequence[Told], now: datetime | None
) -> tuple[datetime, list[Told]]:
    if now is not None:
        return max([now, *(one.at for one in told)]), []
    if ended is None:
        return max((one.at for one in told), default=begins), []
    # What follows the end at once belongs to it: callbacks, the audio's own end.
    until = ended + max(timedelta(seconds=5), (ended - begins) * 0.15)
    later = [one for one in told if one.at > until]
    return max([ended, *(one.at for one in told if one.at <= until)]), later


def _bar(span: Span, left: Callable[[datetime], float], top: int, begins: datetime, ends: datetime) -> Bar:
    until = span.ends or ends
    from_left = left(span.begins)
    width = round(max(left(max(until, span.begins)) - from_left, _LEAST_BAR), 3)
    lasted = duration(since_ms(span.begins, until))
    going_on = span.ends is None
    text = f"{span.text} {lasted}"
    needs = len(text) * _LETTER_PX + 16
    fits = (
        "everywhere"
        if needs <= width * NARROW_PX / 100
        else "wide"
        if needs <= width * WIDE_PX / 100
        else "nowhere"
    )
    title = (
        f"{span.text}, {lasted}{' so far' if going_on else ''}, from {clock(since_ms(begins, span.begins))}"
    )
    return Bar(from_left, width, top, _BAR_PX, text, title, span.tone, going_on, fits)


def _marks(told: Sequence[Told], left: Callable[[datetime], float], top: int) -> list[Mark]:
    """From left to right, each on the first level where it covers no other."""
    room = _MARK_PX / NARROW_PX * 100
    marks: list[Mark] = []
    last: list[Mark] = []
    for one in sorted(told, key=lambda one: (one.at, one.number)):
        at = left(one.at)
        level = next((level for level, mark in enumerate(last) if at - mark.left >= room), len(last))
        if level == _MOST_LEVELS:
            last[-1].told.append(one)
            continue
        mark = Mark(at, top + level * _LEVEL_PX + _LEVEL_PX // 2, [one])
        last[level : level + 1] = [mark]
        marks.append(mark)
    return marks


def _ticks(lasts_ms: float) -> tuple[Tick, ...]:
    step_s = next((step for step in _STEPS_S if lasts_ms / 1000 / step <= _MOST_TICKS), lasts_ms / 4000)
    ticks = []
    number = 0
    while (at_ms := number * step_s * 1000) <= lasts_ms:
        text = f"{at_ms / 1000:.1f} s" if step_s < 1 else clock(at_ms)
        ticks.append(Tick(round(_MARGIN + at_ms / lasts_ms * (100 - 2 * _MARGIN), 3), text))
        number += 1
    return tuple(ticks)
