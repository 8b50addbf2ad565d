"""`python -m webhook_gateway`: serve until SIGTERM."""

from offhook.bus import Bus
from offhook.http import run
from offhook.settings import load_settings
from offhook.telemetry import logging
from webhook_gateway.app import SERVICE, build
from webhook_gateway.settings import GatewaySettings


def main() -> None:
    settings = load_settings(GatewaySettings)
    logging.configure(SERVICE, settings)
    app = build(settings, Bus(settings, service=SERVICE))
    run(app, settings, drain=app.state.drain)


if __name__ == "__main__":
    main()
