"""Every provider with every kind of agent: the same call, heard and answered."""

import contextlib
import sys
from asyncio import Task
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from installation import ANSWERED, PROVIDERS, STATUSES, Finished, Installation
from numpy.typing import NDArray

from carrier_sim import HangUp, Say, Wait
from offhook_dev.ports import free_port
from offhook_dev.programs import Program
from offhook_dev.stack import repository

pytestmark = [
    pytest.mark.real,
    pytest.mark.alone,
    pytest.mark.asyncio(loop_scope="session"),
]

AGENTS = ("pcm 8000", "pcm 16000", "pcm 24000", "pipecat")
PAIRS = [(provider, agent) for provider in PROVIDERS for agent in AGENTS]
Pairings = dict[tuple[str, str], "Task[Finished]"]


@contextlib.asynccontextmanager
async def pipecat(installation: Installation) -> AsyncIterator[str]:
    """The example pipeline, a program of its own; gives its URL."""
    port = free_port()
    program = Program(
        "pipecat",
        [sys.executable, str(repository() / "examples" / "pipecat_agent.py"), "--port", str(port)],
        installation.home,
        port=port,
        ready_url=f"http://127.0.0.1:{port}/healthz",
    )
    await program.start()
    try:
        yield f"ws://127.0.0.1:{port}/call"
    finally:
        await program.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def calls(installation: Installation) -> AsyncIterator[Pairings]:
    """All pairs on the line at once."""
    async with pipecat(installation) as url:
        numbers = {}
        for agent in AGENTS:
            if agent == "pipecat":
                workflow = await installation.workflow(url, agent_protocol="twilio")
            else:
                workflow = await installation.workflow(sample_rate=int(agent.split()[1]))
            for provider in PROVIDERS:
                numbers[provider, agent] = await installation.number(provider, workflow)
        await installation.known()
        running = {}
        for pair, number in numbers.items():
            # The example agent greets first; the pipeline has nothing to say until somebody speaks.
            begin = Wait(1.0) if pair[1] == "pipecat" else ANSWERED
            talk = (begin, Say(1.4), ANSWERED, HangUp())
            running[pair] = installation.in_background(installation.call(pair[0], number, *talk))
        yield running
        for task in running.values():
            await task


@pytest.mark.parametrize(("provider", "agent"), PAIRS)
async def test_caller_and_agent_hear_each_other_and_the_record_is_right(
    calls: Pairings, provider: str, agent: str
) -> None:
    call = await calls[provider, agent]
    assert call.objections == []
    assert call.outcome == (STATUSES, "caller-hung-up", "caller")
    assert call.record["provider"] == provider
    assert call.record["direction"] == "inbound"
    assert call.record["duration_s"] >= 1
    assert call.report.streams == 1
    assert call.report.caller_audio_lost_ms == 0
    (connected,) = call.told("agent.connected.v1")
    assert connected["protocol"] == ("twilio" if agent == "pipecat" else "pcm")
    # The agent heard the line from the beginning; the carrier's own clock says how long that was.
    assert call.record["caller_audio_ms"] > call.report.caller_audio_ms
    assert call.report.agent_audio_ms > 700


@pytest.mark.parametrize(("provider", "agent"), PAIRS)
async def test_what_the_agent_says_back_is_what_the_caller_said(
    calls: Pairings, provider: str, agent: str
) -> None:
    call = await calls[provider, agent]
    # What comes late leaves a moment of silence within the words, so silence is left out of both.
    (words, spoken_at), (heard, heard_at) = (
        voiced(pcm, call.report.sample_rate) for pcm in (call.report.spoken, call.report.heard)
    )
    assert len(words) > 800  # times 1 ms
    words, spoken_at = words[20:-20], spoken_at[20:-20]
    alike, at = likeness(words, heard)
    if agent == "pipecat":
        # It answers in real time and holds nothing back: the same words with six gaps are alike by 0.92, others by less
        # than 0.5.
        assert alike > 0.9
    else:
        # The example agent sends all of it at once: what the words have become longer by is silence that was put in.
        heard_at = heard_at[at : at + len(words)]
        silence_ms = np.ptp(heard_at) - np.ptp(spoken_at)
        assert alike > 0.97
        assert silence_ms <= 200 + 20 * call.report.late_frames


def voiced(pcm: bytes, sample_rate: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Root mean square of 40 ms, every ms, of what is left without the silence; and at which ms that was."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    size = sample_rate // 1000
    power = (samples[: len(samples) // size * size].reshape(-1, size) ** 2).mean(axis=1)
    audible = np.convolve(power, np.ones(5) / 5, mode="same") > 30**2
    loudness: NDArray[np.float64] = np.sqrt(np.convolve(power[audible], np.ones(40) / 40, mode="valid"))
    return loudness, np.flatnonzero(audible)[: len(loudness)]


def likeness(words: NDArray[np.float64], heard: NDArray[np.float64]) -> tuple[float, int]:
    """The best correlation of the words' loudness with any stretch of what was heard, and where: 1 is the same rhythm."""
    pieces = np.lib.stride_tricks.sliding_window_view(heard, len(words))
    spread = pieces.std(axis=1) * words.std() + 1e-9
    match = ((pieces - pieces.mean(axis=1, keepdims=True)) * (words - words.mean())).mean(axis=1) / spread
    return float(match.max()), int(match.argmax())
