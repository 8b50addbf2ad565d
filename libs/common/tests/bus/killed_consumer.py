"""A process for `test_outages`: handles events, says which, and hangs in the middle of a batch until it is killed.

Arguments: bootstrap, topic, group, and the event (counted from 1) at which it hangs.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from offhook.bus import Bus, PlainBusSettings
from offhook.events import Event
from offhook.topics import Topic


async def main(bootstrap: str, name: str, group: str, last: int) -> None:
    settings = PlainBusSettings(bootstrap)
    bus, seen = Bus(settings, service="consumer"), 0

    async def handle(events: Sequence[Event[Any]]) -> None:
        nonlocal seen
        for event in events:
            print(json.dumps([event.subject, event.data.at_ms]), flush=True)  # noqa: T201 - the test reads it
            seen += 1
            if seen == last:
                await asyncio.sleep(3600)
            await asyncio.sleep(0.001)

    topic = Topic(name, "workflow_run_id", "delete", None, (), (), "")
    bus.consume(topic, group=group, handler=handle, batch_size=40, session_timeout_s=3)
    await bus.start()
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
