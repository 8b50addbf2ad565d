"""Blocking calls: bounded in number, and not waited for longer than wanted."""

import asyncio
import threading

import pytest

from number_sync.blocking import Slots


async def test_results_and_errors_come_back() -> None:
    slots = Slots(1)

    def fail() -> None:
        raise LookupError("no")

    assert await (await slots.reserve()).start(lambda: 42) == 42
    with pytest.raises(LookupError):
        await (await slots.reserve()).start(fail)


async def test_a_call_that_was_left_behind_keeps_its_slot_until_it_ends() -> None:
    slots = Slots(1)
    release = threading.Event()
    running = (await slots.reserve()).start(lambda: release.wait(20))
    done, _ = await asyncio.wait({running}, timeout=0.05)
    assert not done
    running.cancel()
    waiting = asyncio.create_task(slots.reserve())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    release.set()
    (await waiting).release()


async def test_a_slot_that_was_not_used_is_given_back_once() -> None:
    slots = Slots(1)
    slot = await slots.reserve()
    slot.release()
    slot.release()
    used = await slots.reserve()
    await used.start(lambda: None)
    used.release()
    with pytest.raises(RuntimeError):
        used.start(lambda: None)
    held = await slots.reserve()
    waiting = asyncio.create_task(slots.reserve())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    held.release()
    (await waiting).release()
