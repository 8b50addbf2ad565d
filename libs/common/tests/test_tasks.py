"""Endless tasks: what ends one is told, what ends all does not."""

import asyncio

from structlog.testing import capture_logs

from offhook.tasks import EndlessTasks


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_fault_is_logged_and_is_a_problem_from_then_on() -> None:
    async def broken() -> None:
        raise KeyError("x")

    tasks = EndlessTasks()
    with capture_logs() as logs:
        tasks.start(forever(), "clock")
        tasks.start(broken(), "pump")
        assert list(tasks.problems()) == []
        while not tasks.problems():
            await asyncio.sleep(0)
        assert list(tasks.problems()) == ["pump has stopped: restart the process"]
        await tasks.stop()
    (entry,) = logs
    assert (entry["task"], entry["log_level"]) == ("pump", "error")
    assert isinstance(entry["exc_info"], KeyError)


async def test_one_that_only_returns_has_stopped_too() -> None:
    async def short() -> None:
        return

    tasks = EndlessTasks()
    tasks.start(short(), "pump")
    while not tasks.problems():
        await asyncio.sleep(0)
    assert list(tasks.problems()) == ["pump has stopped: restart the process"]


async def test_those_that_were_told_to_end_are_no_problem() -> None:
    ended = asyncio.Event()

    async def careful() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.set()

    tasks = EndlessTasks()
    with capture_logs() as logs:
        tasks.start(careful(), "pump")
        await asyncio.sleep(0)
        await tasks.stop()
    assert ended.is_set()
    assert (list(tasks.problems()), logs) == ([], [])
