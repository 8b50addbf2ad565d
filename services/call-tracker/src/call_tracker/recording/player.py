"""What the page of a call shows of its recording: two lanes of levels, gaps, and where to hear it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from call_tracker.recording.recorder import Manifest

WIDTH: Final = 1000
"""Of the waveform's picture; its height is two lanes. Units of the picture, not pixels."""

LANE: Final = 100

_SMALLEST: Final = 1.0  # silence is a thin line, not nothing


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing audio: where it is in the picture, and in milliseconds."""

    x: float
    width: float
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class RecordingView:
    """`state`: recording (the file is not written yet), stored, or deleted. All else is of stored recordings."""

    state: Literal["recording", "stored", "deleted"]
    audio_url: str = ""
    duration_ms: int = 0
    caller: str = ""
    agent: str = ""
    bar: float = 1.0
    gaps: Sequence[Gap] = ()
    delete_after: str | None = None

    @property
    def missing_ms(self) -> int:
        return sum(gap.to_ms - gap.from_ms for gap in self.gaps)

    @property
    def width(self) -> int:
        return WIDTH

    @property
    def lane(self) -> int:
        return LANE


def lane_path(levels: Sequence[int], middle: float) -> str:
    """The path of one channel: a bar for each level (0 to 100), centred on `middle`."""
    if not levels:
        return ""
    step = WIDTH / len(levels)
    bars = []
    for index, level in enumerate(levels):
        half = max(_SMALLEST, level * (LANE - 8) / 200)
        bars.append(f"M{_short((index + 0.5) * step)} {_short(middle - half)}V{_short(middle + half)}")
    return "".join(bars)


def gaps_of(manifest: Manifest) -> tuple[Gap, ...]:
    scale = WIDTH / max(1, manifest.duration_ms)
    return tuple(
        Gap(round(start * scale, 1), max(1.0, round((end - start) * scale, 1)), start, end)
        for start, end in manifest.gaps_ms
    )


def spoken(duration_ms: int) -> str:
    """As people say it: `3.2 s`, `1 min 5 s`, `2 h 3 min`."""
    if duration_ms < 10_000:
        return f"{duration_ms / 1000:.1f} s"
    seconds = round(duration_ms / 1000)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
