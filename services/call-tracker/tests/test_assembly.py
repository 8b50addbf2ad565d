"""What a recording is made of: whatever came twice, late or not at all."""

import io
import random
import wave
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from call_tracker.recording.assembly import MAX_MS, Piece, Plan, Stream, audio_bytes, is_complete, plan
from call_tracker.recording.sound import MAX_POINTS, Mixer
from offhook.audio import Encoding, tone
from offhook.audio.g711 import mulaw_to_pcm16, pcm16_to_mulaw

NOON_US = 1_790_000_000_000_000
PCM: tuple[Encoding, int] = ("pcm_s16le", 8000)


def pieces_of(
    stream: Stream, duration_ms: int, *, ended: bool = True, like: tuple[Encoding, int] = PCM
) -> list[Piece]:
    encoding, rate = like
    made = []
    for index, offset in enumerate(range(0, duration_ms, 1000)):
        length = min(1000, duration_ms - offset)
        last = ended and offset + length == duration_ms
        made.append(Piece(stream, index, offset, length, encoding, rate, last, f"seg/{stream.epoch}", index))
    return made


def channels_of(piece: Piece) -> bytes:
    """Sound that says where it comes from: the sample is the epoch and the second, the agent's the same below zero."""
    value = piece.stream.epoch * 1000 + piece.index + 1
    samples = np.full(piece.duration_ms * piece.sample_rate // 1000, value, np.int16)
    both = samples.tobytes() + (-samples).tobytes()
    return both if piece.encoding == "pcm_s16le" else pcm16_to_mulaw(both)


def file_of(made: Plan) -> bytes:
    file = io.BytesIO()
    mixer = Mixer(made)
    file.write(mixer.header)
    for span in made.spans:
        mixer.add(span, b"" if span.piece is None else channels_of(span.piece), file.write)
    return file.getvalue()


def seconds_of(made: Plan) -> list[int]:
    """The caller's sample in the middle of each second of the file, after checking that the agent's is its mirror."""
    with wave.open(io.BytesIO(file_of(made))) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, made.sample_rate)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    assert len(samples) == made.duration_ms * made.sample_rate // 1000
    assert np.array_equal(samples[:, 0], -samples[:, 1])
    return [int(value) for value in samples[made.sample_rate // 2 :: made.sample_rate, 0]]


FIRST, SECOND = Stream(NOON_US, 1, "s1"), Stream(NOON_US + 8_000_000, 2, "s2")


def test_a_stream_that_came_whole_has_no_gap() -> None:
    pieces = pieces_of(FIRST, 3500)
    made = plan(pieces, NOON_US + 60_000_000)
    assert is_complete(pieces)
    assert (made.duration_ms, made.gaps_ms, made.began_us) == (3500, (), NOON_US)
    assert seconds_of(made) == [1001, 1002, 1003]


def test_streams_lie_where_they_were_and_what_one_left_open_is_a_gap() -> None:
    made = plan(pieces_of(FIRST, 3000, ended=False) + pieces_of(SECOND, 2000))
    assert made.gaps_ms == ((3000, 8000),)
    assert seconds_of(made) == [1001, 1002, 1003, 0, 0, 0, 0, 0, 2001, 2002]


def test_between_a_stream_that_ended_and_the_next_one_nothing_is_missing() -> None:
    made = plan(pieces_of(FIRST, 3000) + pieces_of(SECOND, 2000))
    assert made.gaps_ms == ()
    assert made.duration_ms == 10_000


def test_a_stream_of_which_nothing_came_is_a_gap_between_those_around_it() -> None:
    third = Stream(SECOND.started_us, 3, "s3")
    assert plan(pieces_of(FIRST, 3000) + pieces_of(third, 2000)).gaps_ms == ((3000, 8000),)


def test_a_stream_that_a_later_one_took_over_is_cut_there() -> None:
    made = plan(pieces_of(FIRST, 12_000, ended=False) + pieces_of(SECOND, 2000))
    assert made.gaps_ms == ()
    assert seconds_of(made) == [*range(1001, 1009), 2001, 2002]


def test_what_is_missing_at_the_end_is_a_gap_up_to_the_calls_end() -> None:
    pieces = pieces_of(FIRST, 3000, ended=False)
    made = plan(pieces, NOON_US + 5_500_000)
    assert not is_complete(pieces)
    assert (made.gaps_ms, made.duration_ms) == (((3000, 5500),), 5500)
    # An end long after, or a clock that is wrong: bounded.
    assert plan(pieces, NOON_US + 10**15).duration_ms == MAX_MS
    assert plan(pieces, NOON_US - 10**15).gaps_ms == ()


def test_a_recording_without_its_first_second_begins_with_a_gap() -> None:
    made = plan(pieces_of(FIRST, 3000)[1:])
    assert (made.began_us, made.gaps_ms) == (NOON_US, ((0, 1000),))


@given(st.data())
def test_repetition_and_disorder_change_nothing_and_loss_leaves_gaps_just_there(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=3))
    pieces, at = [], NOON_US
    for epoch, length in enumerate(lengths, 1):
        pieces += pieces_of(Stream(at, epoch, f"s{epoch}"), length)
        at += (length + data.draw(st.integers(0, 3000))) * 1000
    lost = data.draw(st.sets(st.sampled_from(pieces), max_size=len(pieces) - 1))
    kept = [piece for piece in pieces if piece not in lost]
    twice = data.draw(st.lists(st.sampled_from(kept), max_size=5))
    # The same tap, stored in another segment by a recorder that was killed.
    again = [replace(piece, segment="seg/later", at=7) for piece in twice]
    mixed = kept + twice + again
    random.Random(data.draw(st.integers())).shuffle(mixed)
    clean = plan(kept, at)
    assert plan(mixed, at) == clean
    missing = [True] * clean.duration_ms
    for piece in kept:
        start = (piece.stream.started_us - clean.began_us) // 1000 + piece.offset_ms
        missing[start : start + piece.duration_ms] = [False] * piece.duration_ms
    whole = plan(pieces, at)
    for start, end in clean.gaps_ms:
        assert all(missing[start:end])
    in_gaps = sum(end - start for start, end in clean.gaps_ms)
    if clean.began_us == whole.began_us:
        assert sum(missing) - in_gaps <= whole.duration_ms - sum(piece.duration_ms for piece in pieces)
    if not lost:
        assert (clean, clean.gaps_ms) == (whole, ())


def test_a_telephone_line_is_kept_as_it_is_in_mu_law() -> None:
    made = plan(pieces_of(FIRST, 1500, like=("mulaw", 8000)))
    content = file_of(made)
    assert content[20:22] == b"\x07\x00"
    data = content.index(b"data") + 8
    assert len(content) - data == 2 * 1500 * 8
    left = mulaw_to_pcm16(content[data::2])
    assert abs(np.frombuffer(left, np.int16)[0] - 1001) < 40


def test_streams_of_different_kinds_become_one_file_at_the_highest_rate() -> None:
    pieces = pieces_of(FIRST, 2000, like=("mulaw", 8000)) + pieces_of(SECOND, 1000, like=("pcm_s16le", 16000))
    made = plan(pieces)
    assert (made.encoding, made.sample_rate) == ("pcm_s16le", 16000)
    with wave.open(io.BytesIO(file_of(made))) as file:
        assert file.getnframes() == 9000 * 16
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    assert abs(int(samples[16 * 500, 0]) - 1001) < 60
    assert samples[16 * 8500].tolist() == [2001, -2001]


@pytest.mark.parametrize("duration_ms", [1, 19, 20, 999, 60_000, 7_200_000])
def test_a_waveform_shows_the_loudest_of_each_time_in_a_bounded_number_of_points(duration_ms: int) -> None:
    loud = tone.sine(440, 1000, 8000, level_dbfs=-3.1, fade_ms=0) if duration_ms >= 60_000 else b""
    pieces = pieces_of(FIRST, duration_ms)
    mixer = Mixer(plan(pieces))
    for piece in pieces:
        size = audio_bytes("pcm_s16le", 8000, piece.duration_ms)
        caller = loud if loud and piece.index == 30 else bytes(size)
        mixer.add(plan([piece]).spans[-1], caller + bytes(size), lambda _: None)
    shape = mixer.waveform()
    assert len(shape.caller) == len(shape.agent) <= MAX_POINTS
    assert len(shape.caller) * shape.bucket_ms >= duration_ms > (len(shape.caller) - 1) * shape.bucket_ms
    assert set(shape.agent) == {0}
    if loud:
        heard = [index for index, level in enumerate(shape.caller) if level > 90]
        assert heard
        assert all(30_000 - shape.bucket_ms < index * shape.bucket_ms < 31_000 for index in heard)
