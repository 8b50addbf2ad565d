"""Resampling between 8, 16 and 24 kHz: one 20 ms frame in, one 20 ms frame out. See `filters` for the
design.
"""

from offhook.audio.filters import DELAY_MS, RATES, RateError
from offhook.audio.transcode import Resampler, warm_up

__all__ = ["DELAY_MS", "RATES", "RateError", "Resampler", "warm_up"]
