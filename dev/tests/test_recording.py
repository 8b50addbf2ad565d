"""Recorded calls on the whole installation: what was said on both channels at its time, whoever was killed meanwhile."""

import asyncio
import io
import wave
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from installation import PROVIDERS, Finished, Installation, Json, Ringing

from call_tracker.recording.sound import CHANNELS
from offhook.audio.g711 import mulaw_to_pcm16

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.asyncio(loop_scope="session")]

_FRAME_S: Final = 0.02
_LOUD: Final = 500.0  # of 32768, root mean square: well above silence, well below a voice
_STORED_WITHIN_S: Final = 180.0

Frames = npt.NDArray[np.bool_]


def audible(samples: npt.NDArray[np.int16], rate: int) -> Frames:
    """For each 20 ms whether there is sound."""
    size = round(rate * _FRAME_S)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    found: Frames = np.sqrt((frames**2).mean(axis=1)) > _LOUD
    return found


def channels(content: bytes) -> tuple[int, dict[str, npt.NDArray[np.int16]]]:
    """Rate and samples of a two-channel file, PCM or mu-law."""
    rate = int.from_bytes(content[24:28], "little")
    data = content[content.index(b"data") + 8 :]
    if content[20] == 7:
        data = mulaw_to_pcm16(data)
    else:
        with wave.open(io.BytesIO(content)) as file:
            assert file.getnchannels() == 2
    both = np.frombuffer(data, np.int16).reshape(-1, 2)
    return rate, {name: both[:, index] for index, name in enumerate(CHANNELS)}


def delay(recorded: Frames, truth: Frames) -> int:
    """How many frames after the truth's beginning the recording begins, where they agree best."""
    agreement = np.correlate(truth * 2.0 - 1, recorded * 2.0 - 1, mode="full")
    return int(agreement.argmax()) - (len(recorded) - 1)


def disagreement(recorded: Frames, truth: Frames, at: int, gaps_ms: list[list[int]]) -> int:
    """How many frames say something else, outside of gaps."""
    counted = np.ones(len(recorded), np.bool_)
    for start, end in gaps_ms:
        counted[max(0, start // 20 - 1) : end // 20 + 2] = False
    line = np.zeros(len(recorded), np.bool_)
    first, last = max(0, -at), min(len(recorded), len(truth) - at)
    line[first:last] = truth[first + at : last + at]
    return int(((recorded != line) & counted).sum())


async def stored(installation: Installation, run: str) -> tuple[Json, bytes]:
    """Waveform and file, when the recorder has written them."""
    client = installation.demo.client
    origin = installation.stack.address.http_url
    async with asyncio.timeout(_STORED_WITHIN_S):
        while (shape := await client.get(f"{origin}/calls/{run}/waveform.json")).status_code != 200:
            assert shape.status_code == 404, shape.text
            await asyncio.sleep(0.2)
    return shape.json(), (await client.get(f"{origin}/calls/{run}/recording")).content


def check(call: Finished, shape: Json, content: bytes) -> None:
    rate, recorded = channels(content)
    report = call.report
    truths = {"caller": report.spoken, "agent": report.heard}
    delays = {}
    for name in CHANNELS:
        truth = audible(np.frombuffer(truths[name], np.int16), report.sample_rate)
        found = audible(recorded[name], rate)
        assert found.any()
        delays[name] = delay(found, truth)
        wrong = disagreement(found, truth, delays[name], shape["gaps_ms"])
        # Sounds begin and end within a frame of the truth; each has two ends.
        assert wrong < 0.06 * len(found), (name, wrong, len(found))
    # Both channels are on one clock: what the caller hears left the bridge a little before.
    assert abs(delays["agent"] - delays["caller"]) <= 12, delays


async def begin(installation: Installation) -> list[Ringing]:
    """A recorded call at each provider, in the middle of a conversation."""
    workflow = await installation.workflow(record_audio=True)
    numbers = {provider: await installation.number(provider, workflow) for provider in PROVIDERS}
    await installation.known()
    calls = [installation.endless(provider, number) for provider, number in numbers.items()]
    await asyncio.gather(*(installation.answers(call, 1) for call in calls))
    return calls


async def answered(installation: Installation, calls: list[Ringing]) -> None:
    await asyncio.gather(*(installation.answers(call, 1) for call in calls))


async def end(installation: Installation, calls: list[Ringing]) -> list[Finished]:
    finished = []
    for call in calls:
        call.call.end("caller", "hung-up")
        report = await call.task
        record: dict[str, Any] = await installation.record(
            call.run, lambda record: record["status"] == "completed"
        )
        finished.append(Finished(call.run, report, record))
    return finished


async def test_a_recorder_that_is_killed_loses_nothing(installation: Installation) -> None:
    calls = await begin(installation)
    recorder = installation.stack.programs["recorder"]
    recorder.kill()
    await answered(installation, calls)
    await recorder.start()
    for call in await end(installation, calls):
        shape, content = await stored(installation, call.run)
        assert shape["gaps_ms"] == []
        check(call, shape, content)
        record = await installation.record(call.run, lambda record: record["recording"] is not None)
        assert record["recording"]["size_bytes"] == len(content)


async def test_a_bridge_that_is_killed_leaves_one_gap_and_the_rest_at_its_time(
    installation: Installation,
) -> None:
    calls = await begin(installation)
    bridge = installation.stack.programs["media-bridge"]
    bridge.kill()
    await bridge.start()
    await answered(installation, calls)
    for call in await end(installation, calls):
        shape, content = await stored(installation, call.run)
        ((start, until),) = shape["gaps_ms"]
        assert 0 < start < until < shape["duration_ms"]
        page = await installation.demo.client.get(f"{installation.stack.address.http_url}/calls/{call.run}")
        assert page.text.count('class="gap"') == 1
        check(call, shape, content)
