"""Fixtures: a database of each kind, the running service on a bus in memory, a client."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the test modules share

from running_number_sync import KEYRING, KEYS, NOBODY, PUBLIC_URL, SESSION_KEY, RunService, Service

from carrier_sim import CarrierSim
from carrier_sim.config import SimConfig
from number_sync.app import build
from number_sync.database import Database
from number_sync.settings import NumberSyncSettings
from offhook.bus.testing import MemoryCluster, memory_bus
from offhook.providers import registry
from offhook.security.api_keys import setting_entry

for name in registry.PROVIDERS:
    registry.rest(
        name
    )  # the vendors' SDKs take seconds to import, which are not to count against a request's deadline


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: a SQLite file, and a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The database with its tables."""
    database = Database(database_url)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
async def carrier() -> AsyncIterator[CarrierSim]:
    """Twilio and Vonage. Run the service with `at(carrier)`."""
    async with CarrierSim(SimConfig(tls=False, allow_plain=True)) as sim:
        yield sim


@pytest.fixture
def run_service(database_url: str, tmp_path: Path) -> RunService:
    """Run number-sync, more than once on the same database if need be. Keywords are settings, or the `cluster`."""

    @asynccontextmanager
    async def run(cluster: MemoryCluster | None = None, **settings: Any) -> AsyncIterator[Service]:
        values: dict[str, Any] = {
            "database_url": database_url,
            "keyring": KEYRING,
            "api_keys": ",".join(setting_entry(user, key) for user, key in KEYS.items()),
            "session_key": SESSION_KEY,
            "public_url": PUBLIC_URL,
            "state_dir": tmp_path,
            # Saving tries the credentials: nobody's real provider is to hear of it.
            "twilio_api_url": NOBODY,
            "vonage_api_url": NOBODY,
        }
        async with memory_bus("number-sync", cluster) as bus:
            app = build(NumberSyncSettings(**{**values, **settings}), bus).app
            async with app.router.lifespan_context(app):
                yield Service(app, bus, database_url)

    return run


@pytest.fixture
async def service(run_service: RunService) -> AsyncIterator[Service]:
    async with run_service() as running:
        yield running


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.api
