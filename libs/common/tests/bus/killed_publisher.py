"""A process for `test_outages`: emits events without end and says where each one went, until it is killed.

Arguments: bootstrap, and the directory of the spool.
"""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from offhook.bus import Bus, Outlet, PlainBusSettings
from offhook.events import DtmfReceived, new_event
from offhook.topics import CALL_EVENTS


async def main(bootstrap: str, directory: str) -> None:
    settings = PlainBusSettings(bootstrap)
    bus = Bus(settings, service="publisher")
    await bus.start()
    outlet = Outlet(bus, Path(directory), ack_timeout_s=0.3)
    await outlet.start()
    print("started", flush=True)  # noqa: T201 - the test reads it
    number = 0
    while True:
        data = DtmfReceived(workflow_run_id="run", epoch=1, digit="1", at_ms=number)
        event = new_event(data, source="/test", time=datetime.now(UTC), subject="run", event_id=f"e{number}")
        print(await outlet.emit(CALL_EVENTS, event), flush=True)  # noqa: T201 - the test reads it
        number += 1
        await asyncio.sleep(0.001)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
