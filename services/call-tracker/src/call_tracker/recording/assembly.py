"""Where each second of a call belongs in its recording, and what is missing. Pure.

A call has one stream or several, one after the other (a bridge was lost, a carrier connected again); seconds of a stream
are numbered. Everything lies where it was by the wall clock, from the first stream's start on:

* a number that never came is a *gap*: silence in the file, and told;
* so is what follows a stream that did not end in order, up to the next stream's start or the call's end, and what lies
  between two streams whose epochs do not follow each other: all of a stream is missing there;
* between a stream that ended and the next one there was nothing to record: silence, and no gap;
* where two streams overlap, the one that began later has the call.

The plan follows from the set of pieces alone: their order and repetition do not matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from offhook.audio import FRAME_MS, Encoding, frame_bytes

MAX_MS: Final = 12 * 3600 * 1000
"""What is longer is cut: a WAV file holds 4 GiB at most."""

# Clocks of two machines: an end so shortly after the last audio is no gap.
_CLOCK_MS: Final = 250


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """One audio connection; `started_us` by the clock of its bridge, in microseconds since 1970."""

    started_us: int
    epoch: int
    stream_id: str


@dataclass(frozen=True, slots=True)
class Piece:
    """One tap: `duration_ms` of both channels, caller first, at byte `at` of a segment. `last`: its stream ended with it."""

    stream: Stream
    index: int
    offset_ms: int
    duration_ms: int
    encoding: Encoding
    sample_rate: int
    last: bool
    segment: str
    at: int

    @property
    def channel_bytes(self) -> int:
        """Size of one of the two channels."""
        return audio_bytes(self.encoding, self.sample_rate, self.duration_ms)


@dataclass(frozen=True, slots=True)
class Span:
    """`duration_ms` of the file: the beginning of a piece, or silence."""

    duration_ms: int
    piece: Piece | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A recording: `spans` follow each other. `began_us` is its start; `gaps_ms` are [from, to] since then, in order."""

    began_us: int
    encoding: Encoding
    sample_rate: int
    spans: tuple[Span, ...]
    gaps_ms: tuple[tuple[int, int], ...]

    @property
    def duration_ms(self) -> int:
        return sum(span.duration_ms for span in self.spans)


def audio_bytes(encoding: Encoding, sample_rate: int, duration_ms: int) -> int:
    """Size of so much audio of one channel: whole at every rate, since a millisecond is."""
    return frame_bytes(encoding, sample_rate) // FRAME_MS * duration_ms


def is_complete(pieces: Iterable[Piece]) -> bool:
    """Whether every stream has all of its pieces, up to its last one. Another stream may still come."""
    return all(
        own[-1].last and [piece.index for piece in own] == list(range(len(own)))
        for _, own in _streams(pieces)
    )


def plan(pieces: Iterable[Piece], ended_us: int | None = None) -> Plan:
    """`ended_us` is when the call ended, where that is known. Raises `ValueError` when there are no pieces."""
    streams = _streams(pieces)
    if not streams:
        raise ValueError("a recording needs at least one piece")
    began_us = streams[0][0].started_us
    line = _Line()
    open_ended = False
    for number, (stream, own) in enumerate(streams):
        start = _ms(stream.started_us - began_us)
        end = MAX_MS
        if number + 1 < len(streams):
            end = min(end, _ms(streams[number + 1][0].started_us - began_us))
        before = streams[number - 1][0].epoch if number else 0
        # Epochs count from 1; a stream that could not be counted has 0.
        skipped = before > 0 and stream.epoch > before + 1
        line.silence(start, gap=open_ended or skipped)
        for piece in own:
            at = start + piece.offset_ms
            if at >= end:
                break
            line.silence(at, gap=True)
            line.audio(piece, min(at + piece.duration_ms, end))
        # What a later stream took over is not missing.
        open_ended = not own[-1].last
    if open_ended and ended_us is not None:
        end = min(_ms(ended_us - began_us), MAX_MS)
        if end - line.end_ms > _CLOCK_MS:
            line.silence(end, gap=True)
    encoding, sample_rate = _format([piece for _, own in streams for piece in own])
    return Plan(began_us, encoding, sample_rate, tuple(line.spans), tuple(line.gaps))


class _Line:
    """The file as it grows."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.gaps: list[tuple[int, int]] = []
        self.end_ms = 0

    def silence(self, until_ms: int, *, gap: bool) -> None:
        missing = until_ms - self.end_ms
        if missing <= 0:
            return
        self.spans.append(Span(missing))
        if gap:
            if self.gaps and self.gaps[-1][1] == self.end_ms:
                self.gaps[-1] = (self.gaps[-1][0], until_ms)
            else:
                self.gaps.append((self.end_ms, until_ms))
        self.end_ms = until_ms

    def audio(self, piece: Piece, until_ms: int) -> None:
        if until_ms > self.end_ms:
            self.spans.append(Span(until_ms - self.end_ms, piece))
            self.end_ms = until_ms


def _streams(pieces: Iterable[Piece]) -> list[tuple[Stream, Sequence[Piece]]]:
    """Streams in order, each with its pieces by number, each number once."""
    known: dict[tuple[Stream, int], Piece] = {}
    for piece in pieces:
        # Of two with one number any will do, but always the same one.
        key = (piece.stream, piece.index)
        if key not in known or _rank(piece) < _rank(known[key]):
            known[key] = piece
    ordered = sorted(known.values(), key=lambda piece: (piece.stream, piece.index))
    return [(stream, list(own)) for stream, own in groupby(ordered, key=lambda piece: piece.stream)]


def _rank(piece: Piece) -> tuple[str, int]:
    return piece.segment, piece.at


def _format(pieces: Sequence[Piece]) -> tuple[Encoding, int]:
    """That of the streams; where they differ, PCM at the highest rate."""
    encodings = {piece.encoding for piece in pieces}
    rates = {piece.sample_rate for piece in pieces}
    return (encodings.pop() if len(encodings) == 1 and len(rates) == 1 else "pcm_s16le"), max(rates)


def _ms(microseconds: int) -> int:
    return max(0, round(microseconds / 1000))
