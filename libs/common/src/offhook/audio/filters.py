"""The low-pass filters between the rates of telephony and of speech models: 8, 16 and 24 kHz.

A windowed-sinc low-pass (Kaiser) in polyphase form. Designed for conversations, not for archives: one 20 ms
frame in gives one 20 ms frame out, always, and every pair of rates delays by the same 2.5 ms (stream
resamplers with large windows hold whole frames back and return bursts). Measured in
`tests/audio/test_filters.py`; between 300 and 3300 Hz: more than 75 dB SNR, within 0.1 dB, images and aliases
below -70 dB.
"""

from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Final

import numpy as np
import numpy.typing as npt

from offhook.audio import kernels

RATES: Final = (8000, 16000, 24000)
"""Sampling rates in Hz."""

DELAY_MS: Final = 2.5
"""Delay of every conversion between two different rates."""

FRAME_MS: Final = 20

# Shape of the Kaiser window: 94 dB for this length and a transition from 0.85 to 1.15 times the lower Nyquist
# frequency (Kaiser 1974: beta = 0.1102 (A - 8.7)).
_BETA: Final = 9.4


class RateError(ValueError):
    """A sampling rate that telephony does not use."""


@dataclass(frozen=True, slots=True)
class FilterPlan:
    """What the kernels need to know about one pair of rates. Shared by all calls; see `kernels` for the
    layout.
    """

    up: int
    down: int
    history: int
    taps: npt.NDArray[np.float32]
    plan: npt.NDArray[np.int64]
    state_length: int


def prototype(in_rate: int, out_rate: int) -> npt.NDArray[np.float64]:
    """The low-pass at the common rate `in_rate * up`, with a gain of `up` in the passband; odd length,
    symmetric.

    Cut off at the lower of the two Nyquist frequencies, where its gain is one half: a Nyquist filter, whose
    taps are zero at every other whole sample of the lower rate.
    """
    up = out_rate // gcd(in_rate, out_rate)
    common_rate = in_rate * up
    half = round(common_rate * DELAY_MS / 1000)
    cutoff = min(in_rate, out_rate) / common_rate  # twice the Nyquist frequency, in cycles a sample
    taps: npt.NDArray[np.float64] = (
        up * cutoff * np.sinc(cutoff * np.arange(-half, half + 1)) * np.kaiser(2 * half + 1, _BETA)
    )
    taps[np.abs(taps) < 1e-12] = 0.0
    return taps


@cache
def plan_filter(in_rate: int, out_rate: int) -> FilterPlan:
    """Design the filter for two different rates. Raises `RateError`."""
    for rate in (in_rate, out_rate):
        if rate not in RATES:
            raise RateError(f"a rate of {rate} Hz is not one of {', '.join(map(str, RATES))}")
    divisor = gcd(in_rate, out_rate)
    up, down = out_rate // divisor, in_rate // divisor
    whole = prototype(in_rate, out_rate)
    width = -(-len(whole) // up)
    history = width - 1
    taps = np.zeros((up, width), np.float32)
    plan = np.zeros((up + 1, max(width + 1, 4)), np.int64)
    for phase in range(up):
        branch = whole[phase::up][::-1]  # the newest input meets the first tap
        offset = width - len(branch)
        used = np.flatnonzero(branch)
        taps[phase, : len(used)] = branch[used]
        plan[phase, 0] = len(used)
        plan[phase, 1 : 1 + len(used)] = used + offset
    capacity = history + kernels.MAX_INPUT
    plan[up, :4] = up, down, history, capacity
    branch_length = -(-capacity // down)
    outputs = -(-(kernels.MAX_INPUT * up) // down) // up + 2
    state_length = capacity + (down * branch_length if down > 1 else 0) + outputs
    taps.setflags(write=False)
    plan.setflags(write=False)
    return FilterPlan(up, down, history, taps, plan, state_length)


def advance(length: int, phase: int, up: int, down: int) -> tuple[int, int]:
    """Outputs due for `length` inputs, and the phase for the next call.

    `phase` is where the first output stands, in steps of the common rate behind the first input. Over time
    exactly `up/down` outputs come for each input, rounded up.
    """
    count = max(0, -((phase - length * up) // down))
    return count, phase + count * down - length * up
