"""The one Kafka producer of a process: FastStream's producer with order, raw headers and self-repair.

What FastStream and aiokafka leave open, and this closes:

* aiokafka lets a later `send` overtake an earlier one that waits for a full batch to drain. A lock keeps the
  order of the calls, so that one key's events reach their partition in the order in which they were
  published.
* After a batch has failed for good, aiokafka's idempotent producer keeps counting sequence numbers, and the
  broker refuses everything that follows on that partition (`OutOfOrderSequenceNumber`). A producer that has
  failed a batch is replaced before the next record is sent.
* FastStream adds a `correlation_id` header to every record and only takes text as header values.
* `stop()` of an idempotent producer waits for ever while the broker is away. Here it waits for a bounded
  time.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from aiokafka.structs import RecordMetadata
from faststream.kafka.publisher.producer import AioKafkaFastProducerImpl
from faststream.kafka.publisher.state import RealProducer
from faststream.kafka.response import KafkaPublishCommand
from typing_extensions import override

if TYPE_CHECKING:
    from fast_depends.library.serializer import SerializerProto
    from faststream._internal.parser import CodecProto

log = logging.getLogger(__name__)

_STOP_TIMEOUT_S: Final = 3.0

Headers = Iterable[tuple[str, bytes]]
Acknowledgement = asyncio.Future[RecordMetadata]


class RecordProducer(AioKafkaFastProducerImpl):
    """Sends records in the order of the calls. Built by the bus, connected by FastStream's broker."""

    __slots__ = ("_background", "_broken", "_factory", "_order")

    def __init__(self, factory: Callable[[], AIOKafkaProducer]) -> None:
        super().__init__(parser=None, decoder=None)
        self._factory = factory
        self._order = asyncio.Lock()
        self._broken: AIOKafkaProducer | None = None
        self._background: set[asyncio.Task[None]] = set()

    @override
    async def connect(
        self,
        producer: AIOKafkaProducer,
        serializer: "SerializerProto | None",
        codec: "CodecProto | None" = None,
    ) -> None:
        try:
            await super().connect(producer, serializer, codec)
        except BaseException:
            await producer.stop()
            raise

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers
    ) -> Acknowledgement:
        """Hand a record to the accumulator; the future returned is done when all in-sync replicas have it.

        Raises `MessageSizeTooLargeError` for a record over the limit, `KafkaError` when it cannot be queued.
        """
        async with self._order:
            if self._broken is not None:
                await self._replace(self._broken)
            producer = self._producer.producer
            try:
                future: Acknowledgement = await producer.send(topic, value, key, headers=list(headers))
            except (MessageSizeTooLargeError, KafkaTimeoutError):
                raise
            except KafkaError:
                self._broken = producer
                raise
        future.add_done_callback(lambda done: self._note_failure(producer, done))
        return future

    @override
    async def publish(self, cmd: KafkaPublishCommand) -> Acknowledgement | RecordMetadata:
        headers = [
            (name, text if isinstance(text, bytes) else str(text).encode())
            for name, text in cmd.headers.items()
        ]
        future = await self.send(cmd.destination, cmd.body, cmd.key, headers)
        return future if cmd.no_confirm else await future

    async def partitions_for(self, topic: str) -> set[int]:
        """The partitions of a topic; fetched once, then refreshed in the background every few minutes."""
        return set(await self._producer.producer.partitions_for(topic))

    @override
    async def disconnect(self) -> None:
        if self._producer:
            await _stop(self._producer.producer)
        for task in tuple(self._background):
            await task
        await super().disconnect()

    def _note_failure(self, producer: AIOKafkaProducer, future: Acknowledgement) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._broken = producer

    async def _replace(self, broken: AIOKafkaProducer) -> None:
        if self._producer.producer is broken:
            log.warning("kafka producer failed a batch for good: replacing it")
            fresh = self._factory()
            try:
                await fresh.start()
            except BaseException:
                await fresh.stop()
                raise
            self._producer = RealProducer(fresh)
            task = asyncio.create_task(_stop(broken))
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        self._broken = None


async def _stop(producer: AIOKafkaProducer) -> None:
    """Flush and close; when the broker is away, give up flushing after some seconds."""
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait({stopping}, timeout=_STOP_TIMEOUT_S)
    if done:
        await stopping
        return
    log.warning("kafka producer closed with unacknowledged records: the broker does not answer")
    stopping.cancel()
    await producer.client.close()
    # With its connections closed the sender fails at once; it still has to be told to stop retrying.
    sender: asyncio.Task[Any] | None = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
        await asyncio.wait({sender}, timeout=_STOP_TIMEOUT_S)
