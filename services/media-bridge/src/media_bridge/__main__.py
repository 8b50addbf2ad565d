"""`python -m media_bridge`: carry calls until SIGTERM, and then until the last one has ended."""

import logging as standard_logging
import sys

from media_bridge.app import SERVICE, admin_settings, build
from media_bridge.settings import BridgeSettings
from offhook.bus import Bus
from offhook.http import ListenError, run
from offhook.settings import load_settings
from offhook.telemetry import logging


def main() -> None:
    settings = load_settings(BridgeSettings)
    logging.configure(SERVICE, settings)
    # picows tells of every connection; ours are told by the calls they belong to.
    standard_logging.getLogger("picows").setLevel(standard_logging.WARNING)
    app = build(
        settings, Bus(settings, service=SERVICE), Bus(settings, service=SERVICE, client=f"{SERVICE}-taps")
    )
    try:
        app.state.bridge.bind()
    except ListenError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the person at the terminal, whatever the log format
        sys.exit(2)
    run(app, admin_settings(settings), drain=app.state.drain)


if __name__ == "__main__":
    main()
