"""From one side's sound to the other's: companding and resampling in one pass."""

from typing import Final, Literal

import numpy as np

from offhook.audio import kernels
from offhook.audio.filters import DELAY_MS, FRAME_MS, RATES, RateError, advance, plan_filter

Encoding = Literal["mulaw", "pcm_s16le"]

SAMPLE_BYTES: Final[dict[Encoding, int]] = {"mulaw": 1, "pcm_s16le": 2}


def frame_bytes(encoding: Encoding, sample_rate: int) -> int:
    """Size of 20 ms of audio: 160 for a telephone line, 640 for PCM at 16 kHz."""
    return sample_rate * FRAME_MS // 1000 * SAMPLE_BYTES[encoding]


def silence_byte(encoding: Encoding) -> bytes:
    """The byte that silence is made of."""
    return b"\xff" if encoding == "mulaw" else b"\0"


class Transcoder:
    """One direction of one call, from an encoding and rate to another. Not shared: it remembers the last 5
    ms.

    `process` takes audio of any number of samples and returns all that it makes of them: a whole 20 ms frame
    for a whole frame, delayed by `delay_ms`. PCM is signed 16-bit little-endian mono; mu-law is always 8 kHz.
    `energy` is afterwards the sum of squares of the samples that came out, in units of 16-bit PCM; `samples`
    their number. Raises `RateError` for rates other than 8, 16 and 24 kHz.
    """

    __slots__ = ("_filter", "_kind", "_out", "_phase", "_state", "_width", "energy", "samples")

    def __init__(self, in_encoding: Encoding, in_rate: int, out_encoding: Encoding, out_rate: int) -> None:
        for encoding, rate in ((in_encoding, in_rate), (out_encoding, out_rate)):
            if rate not in RATES:
                raise RateError(f"a rate of {rate} Hz is not one of {', '.join(map(str, RATES))}")
            if encoding == "mulaw" and rate != 8000:
                raise RateError(f"mu-law is 8000 Hz, not {rate}")
        self.energy = 0.0
        self.samples = 0
        self._kind = (in_encoding == "mulaw", out_encoding == "mulaw")
        self._width = SAMPLE_BYTES[in_encoding]
        self._filter = None if in_rate == out_rate else plan_filter(in_rate, out_rate)
        self._state = np.zeros(self._filter.state_length if self._filter else 0, np.float32)
        self._out: kernels.Samples = np.empty(0, np.dtype(np.uint8 if self._kind[1] else np.int16))
        self._phase = 0

    @property
    def delay_ms(self) -> float:
        """Constant delay of this conversion in milliseconds; 0 when the rates are equal."""
        return DELAY_MS if self._filter else 0.0

    def process(self, audio: bytes) -> bytes:
        """Raises `ValueError` for half a sample of PCM."""
        # Always an immutable source: numba compiles another kernel for a writable one, in the middle of a
        # call.
        from_mulaw, to_mulaw = self._kind
        if from_mulaw:
            source: kernels.Samples = np.frombuffer(bytes(audio), np.uint8)
        elif len(audio) & 1:
            raise ValueError(f"16-bit PCM needs an even number of bytes, not {len(audio)}")
        else:
            source = np.frombuffer(bytes(audio), np.int16)
        length = source.shape[0]
        plan = self._filter
        if plan is None:
            self.samples = length
            if from_mulaw is to_mulaw:
                self.energy = kernels.energy_of_mulaw(source) if from_mulaw else kernels.energy_of_pcm(source)
                return bytes(audio)
            out = self._output(length)
            self.energy = (
                kernels.decode_mulaw(source, out) if from_mulaw else kernels.encode_mulaw(source, out)
            )
            return out.tobytes()
        if length > kernels.MAX_INPUT:
            return self._process_in_pieces(bytes(audio))
        phase = self._phase
        count, self._phase = advance(length, phase, plan.up, plan.down)
        self.samples = count
        out = self._output(count)
        if from_mulaw:
            self.energy = kernels.resample_from_mulaw(source, self._state, plan.taps, plan.plan, phase, out)
        elif to_mulaw:
            self.energy = kernels.resample_to_mulaw(source, self._state, plan.taps, plan.plan, phase, out)
        else:
            self.energy = kernels.resample_pcm(source, self._state, plan.taps, plan.plan, phase, out)
        return out.tobytes()

    def _output(self, count: int) -> kernels.Samples:
        """An array to write to; frames of one size follow each other, so it is the last one nearly always."""
        if self._out.shape[0] != count:
            self._out = np.empty(count, self._out.dtype)
        return self._out

    def _process_in_pieces(self, audio: bytes) -> bytes:
        step = kernels.MAX_INPUT * self._width
        pieces = []
        energy, samples = 0.0, 0
        for start in range(0, len(audio), step):
            pieces.append(self.process(audio[start : start + step]))
            energy += self.energy
            samples += self.samples
        self.energy, self.samples = energy, samples
        return b"".join(pieces)


class Resampler(Transcoder):
    """PCM at one rate to PCM at another; see `Transcoder`."""

    __slots__ = ("in_rate", "out_rate")

    def __init__(self, in_rate: int, out_rate: int) -> None:
        super().__init__("pcm_s16le", in_rate, "pcm_s16le", out_rate)
        self.in_rate = in_rate
        self.out_rate = out_rate


def warm_up() -> None:
    """Compile every kernel, or load it from numba's cache: call it before the first call arrives.

    Some seconds the first time on a machine, some hundredths of a second later.
    """
    for in_rate in RATES:
        for out_rate in RATES:
            Transcoder("pcm_s16le", in_rate, "pcm_s16le", out_rate).process(
                bytes(frame_bytes("pcm_s16le", in_rate))
            )
    for rate in RATES:
        Transcoder("mulaw", 8000, "pcm_s16le", rate).process(bytes(160))
        Transcoder("pcm_s16le", rate, "mulaw", 8000).process(bytes(frame_bytes("pcm_s16le", rate)))
    Transcoder("mulaw", 8000, "mulaw", 8000).process(bytes(160))
