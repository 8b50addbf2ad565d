"""The consumer that FastStream's subscribers fetch with: aiokafka's, which also tells how it is.

FastStream only logs an error of the fetch and tries again; health would know nothing of it.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError


class WatchedConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka is untyped
    """`problem` is what the last fetch failed with; None when it did not."""

    problem: str | None = None

    async def getmany(self, *partitions: Any, **options: Any) -> Any:
        try:
            fetched = await super().getmany(*partitions, **options)
        except KafkaError as error:
            self.problem = repr(error)
            raise
        self.problem = None
        return fetched
