import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from installation import Installation

from offhook_dev.errors import DevError
from offhook_dev.kafka import KafkaServer
from offhook_dev.pytest_plugin import real_is_required


@pytest.fixture(scope="session")
def _kafka_can_be_had() -> None:
    try:
        KafkaServer.install()
    except DevError as error:
        if real_is_required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installation(
    _kafka_can_be_had: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """One running stack with simulated carriers, for all end-to-end tests."""
    async with Installation(tmp_path_factory.mktemp("installation")) as running:
        yield running
