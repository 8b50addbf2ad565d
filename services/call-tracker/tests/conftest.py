import sys
from pathlib import Path

import pytest

from call_tracker import app

sys.path.insert(0, str(Path(__file__).parent))  # the made-up calls are shared by the test modules


@pytest.fixture(autouse=True)
def patience_with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine a late answer is not an absent Redis."""
    monkeypatch.setattr(app, "REDIS_TIMEOUT_S", 5.0)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
