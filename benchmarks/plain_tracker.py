"""The alternative to call-tracker in `tracker`: a consumer as it is usually written, one event at a time.

A database session for each event: skip it if its id is known, insert it, load the call, move its status on unless it has
ended, commit; then commit the offset. It keeps no facts, undoes no disorder and publishes nothing.
"""

import asyncio
import json
import os

from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import String, Text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from offhook.topics import CALL_EVENTS

ENDED = {"completed", "busy", "no-answer", "failed", "canceled"}


class Base(DeclarativeBase):
    pass


class StoredEvent(Base):
    __tablename__ = "plain_events"
    ce_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    workflow_run_id: Mapped[str] = mapped_column(String(64), index=True)
    type: Mapped[str] = mapped_column(String(100))
    data: Mapped[str] = mapped_column(Text)


class StoredCall(Base):
    __tablename__ = "plain_calls"
    workflow_run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[str] = mapped_column(String(20))


async def main() -> None:
    engine = create_async_engine(os.environ["BENCH_DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(engine)
    consumer = AIOKafkaConsumer(
        CALL_EVENTS.name,
        bootstrap_servers=os.environ["BENCH_KAFKA"],
        group_id="plain",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    async for record in consumer:
        headers = {name: value.decode() for name, value in record.headers}
        data = json.loads(record.value)
        run = data["workflow_run_id"]
        async with sessions() as session, session.begin():
            if await session.get(StoredEvent, headers["ce_id"]) is None:
                session.add(
                    StoredEvent(
                        ce_id=headers["ce_id"],
                        workflow_run_id=run,
                        type=headers["ce_type"],
                        data=record.value.decode(),
                    )
                )
                call = await session.get(StoredCall, run, with_for_update=True)
                status = data.get("status") or "initiated"
                if call is None:
                    session.add(StoredCall(workflow_run_id=run, status=status))
                elif call.status not in ENDED and data.get("status"):
                    call.status = status
        await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})


if __name__ == "__main__":
    asyncio.run(main())
