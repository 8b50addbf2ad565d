"""Fixtures: the service with a carrier simulator as its providers, and somebody logged in."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the test modules share

from browsing import Browser
from running_number_sync import TWILIO, RunService, Service, at

from carrier_sim import CarrierSim


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Pages look the same on every database: SQLite will do."""
    return f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def account(carrier: CarrierSim) -> Any:
    """Ada's account at the simulated Twilio."""
    return carrier.twilio.add_account(TWILIO["account_sid"], TWILIO["auth_token"])


@pytest.fixture
async def service(run_service: RunService, carrier: CarrierSim, account: Any) -> AsyncIterator[Service]:
    async with run_service(**at(carrier)) as running:
        yield running


@pytest.fixture
async def ada(service: Service) -> Browser:
    return await Browser(service).log_in("ada")


@pytest.fixture
async def bob(service: Service) -> Browser:
    return await Browser(service).log_in("bob")
