import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

sys.path.insert(0, str(Path(__file__).parent))

from customer import Customer
from published_specs import PublishedSpecs

from carrier_sim import CarrierSim

# A shell's background jobs are started with SIGINT ignored, and so is everything they start: Ctrl-C could not be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def sim() -> AsyncIterator[CarrierSim]:
    async with CarrierSim() as simulation:
        yield simulation


@pytest.fixture
async def customer(sim: CarrierSim) -> AsyncIterator[Customer]:
    async with Customer(sim) as running:
        yield running


@pytest.fixture(scope="session")
def specs() -> PublishedSpecs:
    return PublishedSpecs()


@pytest.fixture(scope="session")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
