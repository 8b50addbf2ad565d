"""Sound: G.711, resampling in whole frames, levels and tones. Pure; the inner loops are compiled
(`kernels`).
"""

from offhook.audio.filters import DELAY_MS, FRAME_MS, RATES, RateError
from offhook.audio.transcode import Encoding, Resampler, Transcoder, frame_bytes, silence_byte, warm_up

__all__ = [
    "DELAY_MS",
    "FRAME_MS",
    "RATES",
    "Encoding",
    "RateError",
    "Resampler",
    "Transcoder",
    "frame_bytes",
    "silence_byte",
    "warm_up",
]
