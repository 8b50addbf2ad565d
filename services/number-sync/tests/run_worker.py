"""A process that carries out commands, for tests that kill it: `run_worker.py DATABASE_URL PROVIDER_URL`."""

import asyncio
import sys
from dataclasses import replace

from dialling import HASTY, make_worker

from number_sync.database import Database
from offhook.providers import registry


async def main(database_url: str, provider_url: str) -> None:
    registry.rest("twilio")  # the SDK takes a while to import; what is timed begins after it
    worker = make_worker(
        Database(database_url), provider_url, replace(HASTY, lease_s=0.6, outcome_grace_s=0.4)
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
