"""Records taken, and sent, as they are: what dead letters need."""

from offhook.bus.testing import memory_bus
from offhook.topics import CALL_EVENTS, DEAD_LETTERS


async def test_records_that_are_no_events_are_handed_over_as_they_are_and_never_buried():
    seen = []

    async def take(records):
        seen.extend(records)

    async with memory_bus() as bus:
        bus.consume_records(DEAD_LETTERS, group="g", handler=take)
        await bus.start()
        await bus.republish(DEAD_LETTERS, b"\xff", None, [("dl_topic", b"\xfe"), ("dl_topic", b"twice")])
        await bus.settle()
        assert [(one.key, one.value, list(one.headers)) for one in seen] == [
            (b"\xff", None, [("dl_topic", b"\xfe"), ("dl_topic", b"twice")])
        ]
        assert len(bus.records(DEAD_LETTERS)) == 1


async def test_records_whose_handler_failed_come_again():
    attempts = []

    async def take(records):
        attempts.append(len(records))
        if len(attempts) == 1:
            raise OSError("the database is away")

    async with memory_bus() as bus:
        bus.consume_records(CALL_EVENTS, group="g", handler=take)
        await bus.start()
        await bus.republish(CALL_EVENTS, b"k", b"not an event", [])
        await bus.settle()
        assert attempts == [1, 1]
