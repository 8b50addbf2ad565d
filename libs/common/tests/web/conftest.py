"""Fixtures: a service with pages."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the test modules share

from pages_under_test import Service, make_service

from offhook.web.login import LoginLimit


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = make_service(tmp_path, LoginLimit(None, clock=lambda: 0))
    yield made
    await made.site.close()
