"""A process that keeps numbers in sync, for tests that kill it: `run_reconciler.py DATABASE_URL CARRIER_URL`."""

import asyncio
import sys
from dataclasses import replace

from syncing import HASTY, Board

from number_sync.database import Database
from offhook.providers import registry


async def main(database_url: str, carrier_url: str) -> None:
    registry.rest("twilio")  # the SDK takes a while to import; what is timed begins after it
    board = Board(Database(database_url))
    reconciler = board.reconciler(replace(HASTY, lease_s=0.6), rest_of=registry.rest, url=carrier_url)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await reconciler.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
