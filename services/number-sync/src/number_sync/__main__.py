"""`python -m number_sync`: serve until SIGTERM."""

from number_sync.app import SERVICE, build
from number_sync.settings import NumberSyncSettings
from offhook.bus import Bus
from offhook.http import run
from offhook.settings import load_settings
from offhook.telemetry import logging


def main() -> None:
    settings = load_settings(NumberSyncSettings)
    logging.configure(SERVICE, settings)
    service = build(settings, Bus(settings, service=SERVICE))
    run(service.app, settings, drain=service.drain)


if __name__ == "__main__":
    main()
