import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from customer import Customer

from carrier_sim import CarrierSim


@pytest.fixture
async def sim() -> AsyncIterator[CarrierSim]:
    async with CarrierSim() as simulation:
        yield simulation


@pytest.fixture
async def customer(sim: CarrierSim) -> AsyncIterator[Customer]:
    async with Customer(sim) as running:
        yield running
