"""The service, put together: the bridge on one port, health and metrics on another."""

import gc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from media_bridge.bridge import Bridge
from media_bridge.facts import Teller
from media_bridge.records import Records
from media_bridge.settings import BridgeSettings
from media_bridge.shared_state import SharedState
from media_bridge.taps import TapWriter
from offhook.audio import warm_up
from offhook.bus import Bus, Outlet
from offhook.http import create_app
from offhook.security.keyring import Keyring
from offhook.security.tokens import MediaTokens
from offhook.topics import CALL_NOTICES

SERVICE: Final = "media-bridge"
# After the drain, what was told of calls that were handed over.
_LAST_WORDS_S: Final = 2.0


def build(settings: BridgeSettings, bus: Bus, taps: Bus | None = None) -> FastAPI:
    """The application for health and metrics; its lifespan starts and stops everything, the bridge
    (`app.state.bridge`), `bus` and `taps` included. Audio of calls that are recorded goes to `taps`, in a process that
    carries calls another one than `bus`. Serve it at `admin_settings` and drain with `app.state.drain`."""
    records = Records(bus, Keyring.parse(settings.keyring.get_secret_value()), settings.extra_origins)
    state = SharedState(settings.redis_url, settings.bridge_id, timeout_s=settings.redis_timeout_s)
    outlet = Outlet(bus, settings.state_dir / "spool")

    writer = TapWriter(
        taps or bus, f"/media-bridge/{settings.bridge_id}", max_bytes=settings.max_tap_mb * 1024 * 1024
    )
    bridge = Bridge(settings, records, state, Teller(outlet), writer, MediaTokens.parse(settings.token_key))

    bus.listen(CALL_NOTICES, bridge.take_notice)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warm_up()
        await state.start()
        try:
            await bus.start()
            await outlet.start()
            writer.start()
            await bridge.start()
            # What lives as long as the process is not looked at again: a full collection over the compiler's
            # heap stops all calls for tens of milliseconds.
            gc.collect()
            gc.freeze()
            yield
        finally:
            gc.unfreeze()
            await bridge.stop()
            await writer.stop()
            await outlet.stop(_LAST_WORDS_S)
            if taps is not None:
                await taps.stop()
            await bus.stop()
            await state.stop()

    def without_public_url() -> Iterable[str]:
        if not records.origins():
            yield "no public URL is known: number-sync has not published one"

    def without_redis() -> Iterable[str]:
        if state.problem is not None:
            yield state.problem

    bus.add_check(without_redis)
    bus.add_check(writer.problems)
    app = create_app(
        SERVICE,
        bus,
        checks=[without_public_url, bridge.problems],
        lifespan=lifespan,
        docs_url=None,
        openapi_url=None,
    )

    async def drain() -> None:
        await bridge.drain()
        # The spool is lost with a disk that goes with the process.
        await outlet.emptied()

    app.state.bridge = bridge
    app.state.drain = drain
    return app


def admin_settings(settings: BridgeSettings) -> BridgeSettings:
    """The settings as `offhook.http.serve` reads them: health and metrics listen at the admin address."""
    return settings.model_copy(
        update={"listen_host": settings.admin_host, "listen_port": settings.admin_port}
    )
