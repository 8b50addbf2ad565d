"""Tasks that should run for ever."""

import asyncio

import structlog

log = structlog.get_logger(__name__)


def tell_end(task: asyncio.Task[None]) -> None:
    """To be called when such a task is done: a fault that ended it is logged, a cancellation is not."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task that should run for ever has stopped", task=task.get_name(), exc_info=error)
