"""Mu-law against two oracles: Python's `audioop` and the properties G.711 promises."""

import warnings

import numpy as np
import pytest

from offhook.audio import g711

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    audioop = pytest.importorskip("audioop", reason="audioop left the standard library in Python 3.13")

EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16).tobytes()
EVERY_WORD = bytes(range(256))


def test_every_code_word_decodes_as_audioop_decodes_it() -> None:
    assert g711.mulaw_to_pcm16(EVERY_WORD) == audioop.ulaw2lin(EVERY_WORD, 2)


def test_every_sample_encodes_as_audioop_encodes_it() -> None:
    assert g711.pcm16_to_mulaw(EVERY_SAMPLE) == audioop.lin2ulaw(EVERY_SAMPLE, 2)


def test_a_code_word_survives_decoding_and_encoding() -> None:
    # 0x7F and 0xFF are minus and plus zero; PCM has one zero.
    assert g711.pcm16_to_mulaw(g711.mulaw_to_pcm16(EVERY_WORD)) == EVERY_WORD.replace(b"\x7f", b"\xff")


def test_silence_is_the_word_of_zero() -> None:
    assert g711.pcm16_to_mulaw(b"\0\0") == bytes([g711.SILENCE])


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="even number"):
        g711.pcm16_to_mulaw(b"\0")
