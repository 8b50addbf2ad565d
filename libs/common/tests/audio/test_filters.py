"""The filters, measured: the figures in the module's docstring are asserted here, on 16-bit samples in 20 ms
frames.
"""

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

from offhook.audio import DELAY_MS, RATES, RateError, Resampler
from offhook.audio.filters import advance, plan_filter, prototype

PAIRS = tuple(permutations(RATES, 2))
SPEECH_HZ = (300, 440, 700, 1000, 1500, 1999, 2500, 3000, 3300)
Signal = npt.NDArray[np.float64]


def sine(frequency: float, rate: int, seconds: float = 1.0, peak: float = 16000) -> Signal:
    return peak * np.sin(2 * np.pi * frequency / rate * np.arange(int(rate * seconds)) + 0.3)


def resampled(wave: Signal, in_rate: int, out_rate: int) -> Signal:
    """What comes out of 20 ms frames, without the first 100 ms."""
    resampler = Resampler(in_rate, out_rate)
    pcm = np.rint(wave).astype(np.int16).tobytes()
    size = in_rate // 25
    out = b"".join(resampler.process(pcm[start : start + size]) for start in range(0, len(pcm), size))
    return np.frombuffer(out, np.int16).astype(float)[out_rate // 10 :]


def fit(wave: Signal, frequency: float, rate: int) -> tuple[float, float, Signal]:
    """Amplitude and phase of the sine of this frequency nearest to `wave`, and what is left when it is taken
    away.
    """
    angle = 2 * np.pi * frequency / rate * np.arange(len(wave))
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    (s, c), *_ = np.linalg.lstsq(basis, wave, rcond=None)
    return float(np.hypot(s, c)), float(np.arctan2(c, s)), wave - basis @ np.array([s, c])


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
@pytest.mark.parametrize("frequency", SPEECH_HZ)
def test_a_sine_of_speech_keeps_its_level_and_75_db_of_signal_to_noise(
    frequency: int, in_rate: int, out_rate: int
) -> None:
    amplitude, _, rest = fit(resampled(sine(frequency, in_rate), in_rate, out_rate), frequency, out_rate)
    assert abs(20 * np.log10(amplitude / 16000)) < 0.1
    assert 20 * np.log10(amplitude / np.sqrt(2) / rest.std()) > 75


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_the_passband_is_flat_to_85_percent_of_the_lower_nyquist_frequency(
    in_rate: int, out_rate: int
) -> None:
    edge = 0.85 * min(in_rate, out_rate) / 2
    for frequency in np.linspace(50, edge, 40):
        amplitude, _, _ = fit(resampled(sine(frequency, in_rate), in_rate, out_rate), frequency, out_rate)
        assert abs(20 * np.log10(amplitude / 16000)) < 0.1, f"{frequency} Hz"


@pytest.mark.parametrize(("in_rate", "out_rate"), [pair for pair in PAIRS if pair[0] < pair[1]])
@pytest.mark.parametrize("frequency", SPEECH_HZ)
def test_images_are_70_db_down(frequency: int, in_rate: int, out_rate: int) -> None:
    out = resampled(sine(frequency, in_rate), in_rate, out_rate)
    for image in (k * in_rate + sign * frequency for k in (1, 2) for sign in (-1, 1)):
        if image < out_rate / 2:
            amplitude, _, _ = fit(out, image, out_rate)
            assert 20 * np.log10(amplitude / 16000) < -70, f"image at {image} Hz"


@pytest.mark.parametrize(("in_rate", "out_rate"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_what_would_alias_into_the_passband_is_70_db_down(in_rate: int, out_rate: int) -> None:
    for frequency in np.linspace(1.15 * out_rate / 2 + 5, in_rate / 2 - 50, 25):
        out = resampled(sine(frequency, in_rate), in_rate, out_rate)
        assert out.std() * np.sqrt(2) < 16000 * 10 ** (-70 / 20), f"{frequency} Hz"


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_every_frequency_is_delayed_by_the_same_two_and_a_half_milliseconds(
    in_rate: int, out_rate: int
) -> None:
    for frequency in (300, 1100, 2700):
        _, phase, _ = fit(resampled(sine(frequency, in_rate), in_rate, out_rate), frequency, out_rate)
        # 100 ms are a whole number of periods of each of these frequencies.
        shift = (0.3 - phase) / (2 * np.pi * frequency) * 1000
        period = 1000 / frequency
        assert (shift - DELAY_MS + period / 2) % period - period / 2 == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_the_compiled_filter_is_the_plain_convolution(in_rate: int, out_rate: int) -> None:
    plan = plan_filter(in_rate, out_rate)
    noise = np.random.default_rng(7).integers(-20000, 20000, in_rate // 5).astype(np.int16)
    spread = np.zeros(len(noise) * plan.up)
    spread[:: plan.up] = noise
    expected = np.convolve(spread, prototype(in_rate, out_rate))[: len(spread) : plan.down]
    got = np.frombuffer(Resampler(in_rate, out_rate).process(noise.tobytes()), np.int16)
    assert np.abs(got - np.clip(expected, -32768, 32767)).max() <= 0.51


def test_full_scale_is_clipped_and_does_not_wrap() -> None:
    square = np.where(np.arange(1600) // 40 % 2, 32767, -32768).astype(np.int16)
    out = np.frombuffer(Resampler(8000, 16000).process(square.tobytes()), np.int16).astype(int)
    assert out.max() == 32767
    assert out.min() == -32768
    assert np.abs(np.diff(out)).max() < 45000  # a wrap would jump by 65535


def test_a_rate_that_telephony_does_not_use_is_refused() -> None:
    with pytest.raises(RateError, match="44100"):
        plan_filter(44100, 8000)


@pytest.mark.parametrize(("up", "down"), [(2, 1), (1, 2), (3, 1), (1, 3), (3, 2), (2, 3)])
def test_over_time_exactly_as_many_samples_come_out_as_the_ratio_says(up: int, down: int) -> None:
    phase, total_in, total_out = 0, 0, 0
    for length in (0, 1, 2, 3, 160, 161, 7, 320, 1, 1, 1, 959):
        count, phase = advance(length, phase, up, down)
        total_in += length
        total_out += count
        assert total_out == -(-total_in * up // down)
