"""Two channels from one-channel seconds: WAV files, and how loud it is when. Pure.

WAV: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html (RIFF, `fmt `, `fact`, `data`; format tags 1 for
PCM and 7 for mu-law).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from call_tracker.recording.assembly import Piece, Plan, Span, Stream, audio_bytes
from offhook.audio import Encoding, Transcoder, silence_byte
from offhook.audio.g711 import DECODE_TABLE
from offhook.audio.transcode import SAMPLE_BYTES

CHANNELS: Final = ("caller", "agent")
"""Left and right."""

MAX_POINTS: Final = 1000
"""Of a waveform, per channel."""

_TAGS: Final[dict[Encoding, int]] = {"pcm_s16le": 1, "mulaw": 7}
_LEVEL_MS: Final = 20
_FULL: Final = 100
_SLICE_MS: Final = 1000


def wav_header(encoding: Encoding, sample_rate: int, data_bytes: int) -> bytes:
    """Everything of a two-channel file before its samples."""
    width = SAMPLE_BYTES[encoding]
    block = 2 * width
    chunks = struct.pack("<HHIIHH", _TAGS[encoding], 2, sample_rate, sample_rate * block, block, 8 * width)
    if encoding == "mulaw":
        # A format other than PCM says how long its extension is, and how many samples there are.
        chunks += struct.pack("<H", 0)
        fact = b"fact" + struct.pack("<II", 4, data_bytes // block)
    else:
        fact = b""
    body = (
        b"WAVE"
        + b"fmt "
        + struct.pack("<I", len(chunks))
        + chunks
        + fact
        + b"data"
        + struct.pack("<I", data_bytes)
    )
    return b"RIFF" + struct.pack("<I", len(body) + data_bytes) + body


@dataclass(frozen=True, slots=True)
class Waveform:
    """The loudest of every `bucket_ms` of each channel, from 0 to 100 (full scale)."""

    bucket_ms: int
    caller: list[int]
    agent: list[int]


class Mixer:
    """Turns the pieces of a plan, in order, into the bytes of its file. You must `add` every span once, then `waveform`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._width = np.dtype(np.uint8 if plan.encoding == "mulaw" else np.int16)
        self._silence = silence_byte(plan.encoding)
        self._levels = np.zeros((2, plan.duration_ms // _LEVEL_MS + 1), np.uint8)
        self._at_ms = 0
        self._transcoders: dict[tuple[Stream, str], Transcoder] = {}

    @property
    def header(self) -> bytes:
        plan = self._plan
        size = 2 * audio_bytes(plan.encoding, plan.sample_rate, plan.duration_ms)
        return wav_header(plan.encoding, plan.sample_rate, size)

    def add(self, span: Span, both: bytes, write: Callable[[bytes], Any]) -> None:
        """The next span of the plan; `both` are the two channels of its piece, if it has one."""
        if span.piece is None:
            self._silence_of(span.duration_ms, write)
        else:
            write(self._audio_of(span.piece, both, span.duration_ms))
        self._at_ms += span.duration_ms

    def _silence_of(self, duration_ms: int, write: Callable[[bytes], Any]) -> None:
        while duration_ms > 0:
            step = min(duration_ms, _SLICE_MS)
            write(self._silence * (2 * audio_bytes(self._plan.encoding, self._plan.sample_rate, step)))
            duration_ms -= step

    def _audio_of(self, piece: Piece, both: bytes, duration_ms: int) -> bytes:
        """The first `duration_ms` of a piece as they stand in the file."""
        size = piece.channel_bytes
        channels = [
            self._samples(piece, name, both[start : start + size], duration_ms)
            for name, start in zip(CHANNELS, (0, size), strict=True)
        ]
        self._measure(channels)
        return np.column_stack(channels).tobytes()

    def waveform(self) -> Waveform:
        frames = max(1, -(-self._plan.duration_ms // _LEVEL_MS))
        wide = max(1, -(-frames // MAX_POINTS))
        starts = np.arange(0, frames, wide)
        caller, agent = (
            np.rint(np.maximum.reduceat(levels[:frames], starts) * (_FULL / 255)).astype(int).tolist()
            for levels in self._levels
        )
        return Waveform(wide * _LEVEL_MS, caller, agent)

    def _samples(self, piece: Piece, channel: str, audio: bytes, duration_ms: int) -> npt.NDArray[Any]:
        plan = self._plan
        if (piece.encoding, piece.sample_rate) != (plan.encoding, plan.sample_rate):
            key = (piece.stream, channel)
            if key not in self._transcoders:
                self._transcoders[key] = Transcoder(
                    piece.encoding, piece.sample_rate, plan.encoding, plan.sample_rate
                )
            audio = self._transcoders[key].process(audio)
        size = audio_bytes(plan.encoding, plan.sample_rate, duration_ms)
        return np.frombuffer(audio[:size].ljust(size, self._silence), self._width)

    def _measure(self, channels: list[npt.NDArray[Any]]) -> None:
        per_level = self._plan.sample_rate * _LEVEL_MS // 1000
        first = self._at_ms * self._plan.sample_rate // 1000
        count = len(channels[0])
        if not count:
            return
        starts = np.arange(per_level - first % per_level, count, per_level)
        starts = np.concatenate(([0], starts))
        slots = (first + starts) // per_level
        for levels, samples in zip(self._levels, channels, strict=True):
            values = DECODE_TABLE[samples] if samples.dtype == np.uint8 else samples
            loudest = np.maximum.reduceat(np.abs(values.astype(np.int32)), starts)
            scaled = np.minimum(255, loudest // 128).astype(np.uint8)
            levels[slots] = np.maximum(levels[slots], scaled)
