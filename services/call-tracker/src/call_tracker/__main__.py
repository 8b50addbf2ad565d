"""`python -m call_tracker`: serve until SIGTERM. `… migrate`: bring the schema up to date. `… record`: be the recorder,
until SIGTERM."""

import asyncio
import sys

from call_tracker.app import SERVICE, build, migrate, utc_now
from call_tracker.recording import app as recording
from call_tracker.settings import TrackerSettings
from call_tracker.store import StoreError
from offhook.bus import Bus
from offhook.http import run
from offhook.settings import load_settings
from offhook.telemetry import logging


def main() -> None:
    if sys.argv[1:] == ["record"]:
        record()
        return
    settings = load_settings(TrackerSettings)
    logging.configure(SERVICE, settings)
    if sys.argv[1:] == ["migrate"]:
        try:
            asyncio.run(migrate(settings))
        except StoreError as error:
            sys.exit(f"The schema was not changed: {error}.")
    elif sys.argv[1:]:
        sys.exit("usage: python -m call_tracker [migrate|record]")
    else:
        run(build(settings, Bus(settings, service=SERVICE)), settings)


def record() -> None:
    settings = load_settings(recording.RecorderSettings)
    logging.configure(recording.SERVICE, settings)
    run(recording.build(settings, Bus(settings, service=recording.SERVICE), utc_now), settings)


if __name__ == "__main__":
    main()
