import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

sys.path.insert(0, str(Path(__file__).parent))

from browser import Desk
from installation import Installation

from offhook_dev.chromium import launched
from offhook_dev.errors import DevError
from offhook_dev.kafka import KafkaServer
from offhook_dev.pytest_plugin import has_failed, real_is_required


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
    async with Installation(tmp_path_factory.mktemp("installation"), recorder=True) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    """One running Chromium."""
    async with launched() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def desk(
    request: pytest.FixtureRequest, browser: Browser, installation: Installation
) -> AsyncIterator[Desk]:
    """Where a test's people sit: each with a fresh browser profile. What a browser complains about fails the test."""
    module = request.node.path.stem.removeprefix("test_")
    async with Desk(browser, installation.stack.address.http_url, module) as desk:
        yield desk
        if has_failed(request.node) or desk.complaints:
            await desk.keep_failure(request.node.name)
        assert desk.complaints == []
