"""Tasks that should run for ever."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class EndlessTasks:
    """A process's endless tasks. A fault that ends one is logged at once, and is a problem of the process from then on:
    nothing but a new process begins it again."""

    def __init__(self, remedy: str = "restart the process") -> None:
        """`remedy` is what an operator shall do."""
        self._remedy = remedy
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin `work`; `name` is for operators."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_end)
        self._tasks.append(task)

    def problems(self) -> Iterable[str]:
        """Those that have ended, in sentences; nothing once they were told to."""
        return [f"{task.get_name()} has stopped: {self._remedy}" for task in self._tasks if task.done()]

    async def stop(self) -> None:
        """End them and wait until they have."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        log.error(
            "a task that should run for ever has stopped", task=task.get_name(), exc_info=task.exception()
        )
