"""The compiled inner loops of the audio path: companding and FIR filtering in one pass over a frame.

Theory of operation. A converter from rate `r` to `r*L/M` filters at `r*L`: it would insert L-1 zeros after
each sample, run a low-pass over that and keep each Mth value. Nobody computes the zeros: output m needs only
the taps of *phase* `p = (m*M) mod L`, laid over the inputs around `q = (m*M) div L`. `plan` holds those taps
without the ones that are zero (in a Nyquist filter every Lth or Mth is), so that half-band filters cost half.

The loop over outputs is the inner one: it runs over neighbouring floats and vectorises without reordering a
sum, which is why the inputs are first dealt out to M branches when M > 1. Everything is single precision: its
24 bits are 48 dB below the noise of the 16-bit samples.

Each kernel returns the energy of the frame it wrote (sum of squares, in units of 16-bit PCM): level detection
is free.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from offhook.audio.g711 import DECODE_TABLE, ENCODE_TABLE

Samples = npt.NDArray[Any]  # int16
Words = npt.NDArray[Any]  # uint8
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

MAX_INPUT: Final = 960
"""Inputs a call of a filter kernel takes at most; longer ones are fed in pieces."""

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])

# Without `reassoc`: the inner loops need no reordering to vectorise.
_FAST: Final = {"contract", "nnan", "ninf", "nsz"}

_DECODE: Final = DECODE_TABLE.astype(np.float32)
_ENCODE: Final = ENCODE_TABLE


def _compiled(function: _FunctionT) -> _FunctionT:
    """Compile on first use and keep the result on disk; if no directory is writable, in each process."""
    try:
        return cast(_FunctionT, numba.njit(cache=True, fastmath=_FAST, error_model="numpy")(function))
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        return cast(_FunctionT, numba.njit(fastmath=_FAST, error_model="numpy")(function))


@_compiled
def _filter(state: Floats, taps: Floats, plan: Integers, phase: int, r: int, count: int) -> Floats:
    """Outputs r, r+L, r+2L … of a frame whose inputs stand in `state` behind the history.

    `plan` holds a row `[taps in use, index, index, …]` for each phase, and a last row `[L, M, history,
    capacity]`. `state` holds the inputs, the branches (when M > 1) and the outputs of one r, one after the
    other.
    """
    up, down, capacity = plan[-1, 0], plan[-1, 1], plan[-1, 3]
    position = phase + r * down
    first = position // up
    row = position - first * up
    branch_length = (capacity + down - 1) // down
    branches = 0 if down == 1 else capacity
    outputs = (count - r + up - 1) // up
    into = capacity if down == 1 else capacity + down * branch_length
    sums = state[into : into + outputs]
    for i in range(outputs):
        sums[i] = 0
    used = plan[row, 0]
    k = 0
    while k + 4 <= used:
        c0 = first + plan[row, k + 1]
        c1 = first + plan[row, k + 2]
        c2 = first + plan[row, k + 3]
        c3 = first + plan[row, k + 4]
        b0 = branches + (c0 % down) * branch_length + c0 // down
        b1 = branches + (c1 % down) * branch_length + c1 // down
        b2 = branches + (c2 % down) * branch_length + c2 // down
        b3 = branches + (c3 % down) * branch_length + c3 // down
        x0, x1 = state[b0 : b0 + outputs], state[b1 : b1 + outputs]
        x2, x3 = state[b2 : b2 + outputs], state[b3 : b3 + outputs]
        t0, t1, t2, t3 = taps[row, k], taps[row, k + 1], taps[row, k + 2], taps[row, k + 3]
        for i in range(outputs):
            sums[i] += t0 * x0[i] + t1 * x1[i] + t2 * x2[i] + t3 * x3[i]
        k += 4
    while k < used:
        c0 = first + plan[row, k + 1]
        b0 = branches + (c0 % down) * branch_length + c0 // down
        x0 = state[b0 : b0 + outputs]
        t0 = taps[row, k]
        for i in range(outputs):
            sums[i] += t0 * x0[i]
        k += 1
    return sums


@_compiled
def _deal(state: Floats, length: int, plan: Integers) -> None:
    """Deal history and inputs out to M branches, so that every Mth input is a neighbour."""
    down, history, capacity = plan[-1, 1], plan[-1, 2], plan[-1, 3]
    if down == 1:
        return
    branch_length = (capacity + down - 1) // down
    for branch in range(down):
        base = capacity + branch * branch_length
        for j in range((history + length - branch + down - 1) // down):
            state[base + j] = state[branch + j * down]


@_compiled
def _keep_history(state: Floats, length: int, history: int) -> None:
    for i in range(history):
        state[i] = state[length + i]


@_compiled
def _filter_to_pcm(
    state: Floats, length: int, taps: Floats, plan: Integers, phase: int, out: Samples
) -> float:
    up = plan[-1, 0]
    _deal(state, length, plan)
    energy = np.float32(0)
    for r in range(up):
        sums = _filter(state, taps, plan, phase, r, out.shape[0])
        for i in range(sums.shape[0]):
            value = min(max(sums[i], np.float32(-32768)), np.float32(32767))
            energy += value * value
            out[r + i * up] = np.int16(np.rint(value))
    _keep_history(state, length, plan[-1, 2])
    return float(energy)


@_compiled
def resample_pcm(
    source: Samples, state: Floats, taps: Floats, plan: Integers, phase: int, out: Samples
) -> float:
    """PCM to PCM at another rate."""
    length, history = source.shape[0], plan[-1, 2]
    for i in range(length):
        state[history + i] = source[i]
    return _filter_to_pcm(state, length, taps, plan, phase, out)


@_compiled
def resample_from_mulaw(
    source: Words, state: Floats, taps: Floats, plan: Integers, phase: int, out: Samples
) -> float:
    """Mu-law to PCM at another rate."""
    length, history = source.shape[0], plan[-1, 2]
    for i in range(length):
        state[history + i] = _DECODE[source[i]]
    return _filter_to_pcm(state, length, taps, plan, phase, out)


@_compiled
def resample_to_mulaw(
    source: Samples, state: Floats, taps: Floats, plan: Integers, phase: int, out: Words
) -> float:
    """PCM at another rate to mu-law."""
    up, length, history = plan[-1, 0], source.shape[0], plan[-1, 2]
    for i in range(length):
        state[history + i] = source[i]
    _deal(state, length, plan)
    energy = np.float32(0)
    for r in range(up):
        sums = _filter(state, taps, plan, phase, r, out.shape[0])
        for i in range(sums.shape[0]):
            value = min(max(sums[i], np.float32(-32768)), np.float32(32767))
            energy += value * value
            out[r + i * up] = _ENCODE[(np.int32(np.rint(value)) >> 2) + 8192]
    _keep_history(state, length, history)
    return float(energy)


@_compiled
def decode_mulaw(source: Words, out: Samples) -> float:
    energy = np.float32(0)
    for i in range(source.shape[0]):
        value = _DECODE[source[i]]
        energy += value * value
        out[i] = np.int16(value)
    return float(energy)


@_compiled
def encode_mulaw(source: Samples, out: Words) -> float:
    energy = np.float32(0)
    for i in range(source.shape[0]):
        value = np.float32(source[i])
        energy += value * value
        out[i] = _ENCODE[(np.int32(source[i]) >> 2) + 8192]
    return float(energy)


@_compiled
def energy_of_pcm(source: Samples) -> float:
    energy = np.float32(0)
    for i in range(source.shape[0]):
        value = np.float32(source[i])
        energy += value * value
    return float(energy)


@_compiled
def energy_of_mulaw(source: Words) -> float:
    energy = np.float32(0)
    for i in range(source.shape[0]):
        value = _DECODE[source[i]]
        energy += value * value
    return float(energy)
