"""Where recordings are kept: a folder and a bucket do the same."""

import os
import stat
from pathlib import Path

import pytest

from call_tracker.recording.folder import FolderStorage
from call_tracker.recording.s3 import S3Storage
from call_tracker.recording.settings import StorageSettings
from call_tracker.recording.storage import NotStored, Storage, StorageUnavailable, check_key
from offhook.settings import SettingsError, read_settings
from offhook_dev.ports import free_port
from offhook_dev.s3 import ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY, S3Server

KEY = "calls/2026/11/22/run-1.wav"


class Settings(StorageSettings):
    SECRETS = frozenset()


def bucket(url: str, prefix: str = "", secret: str = SECRET_ACCESS_KEY) -> S3Storage:
    return S3Storage(
        BUCKET,
        endpoint=url,
        region="us-east-1",
        prefix=prefix,
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=secret,
    )


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.real)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return FolderStorage(tmp_path / "recordings")
    server: S3Server = request.getfixturevalue("s3_server")
    return bucket(server.url, f"tests/{os.urandom(4).hex()}")


async def test_what_was_stored_is_read_whole_and_in_parts(storage: Storage) -> None:
    await storage.put(KEY, b"0123456789" * 10)
    await storage.put(KEY, b"abcdefghij" * 10)
    assert await storage.size(KEY) == 100
    assert await storage.read(KEY, 0, 1000) == b"abcdefghij" * 10
    assert await storage.read(KEY, 95, 3) == b"fgh"
    assert await storage.read(KEY, 95, 50) == b"fghij"


async def test_a_large_file_is_stored_as_it_is(storage: Storage, tmp_path: Path) -> None:
    large = tmp_path / "large.wav"
    large.write_bytes(os.urandom(17 * 1024 * 1024))
    await storage.put_file(KEY, large)
    assert await storage.size(KEY) == large.stat().st_size
    assert await storage.read(KEY, 16_000_000, 100) == large.read_bytes()[16_000_000:16_000_100]


async def test_what_was_deleted_is_not_there_and_can_be_deleted_again(storage: Storage) -> None:
    await storage.put(KEY, b"x")
    await storage.delete(KEY)
    await storage.delete(KEY)
    with pytest.raises(NotStored):
        await storage.size(KEY)
    with pytest.raises(NotStored):
        await storage.read(KEY, 0, 1)


async def test_keys_of_a_folder_are_listed_with_their_time(storage: Storage) -> None:
    assert [key async for key, _ in storage.keys("calls")] == []
    for key in (KEY, f"{KEY}.json", "segments/a1.taps"):
        await storage.put(key, b"x")
    found = {key: stored async for key, stored in storage.keys("calls")}
    assert {KEY, f"{KEY}.json"} <= set(found)
    assert "segments/a1.taps" not in found
    assert all(stored.tzinfo is not None for stored in found.values())


@pytest.mark.parametrize(
    "key", ["../x", "a/../b", "/etc/passwd", "a//b", ".hidden", "a\0b", "a/", "", "ä.wav", "a" * 301]
)
async def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        check_key(key)
    with pytest.raises(ValueError, match="no key"):
        await FolderStorage(tmp_path / "recordings").put(key, b"x")
    assert list(tmp_path.rglob("*")) == []


async def test_folders_and_files_are_for_their_owner_alone_and_empty_days_go(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path / "recordings")
    await storage.put(KEY, b"x")
    for path in (tmp_path / "recordings").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if path.is_file() else 0o700)
    await storage.delete(KEY)
    assert list((tmp_path / "recordings").iterdir()) == []


async def test_a_folder_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("not a folder")
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        await FolderStorage(tmp_path / "recordings").put(KEY, b"x")


async def test_a_bucket_whose_keys_are_wrong_says_so_and_not_the_keys(s3_server: S3Server) -> None:
    with pytest.raises(StorageUnavailable, match="privileges") as refusal:
        await bucket(s3_server.url, secret="not-the-secret").put(KEY, b"x")
    assert "not-the-secret" not in str(refusal.value)


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(StorageUnavailable):
        await bucket(f"http://127.0.0.1:{free_port()}").read(KEY, 0, 1)


def test_settings_name_a_folder_or_a_bucket_with_its_keys(tmp_path: Path) -> None:
    assert isinstance(read_settings(Settings, recordings_dir=tmp_path).recordings(), FolderStorage)
    with pytest.raises(SettingsError, match="OFFHOOK_RECORDINGS_S3_ACCESS_KEY_ID"):
        read_settings(Settings, recordings_s3_bucket="b")
    keys = {"recordings_s3_access_key_id": "id", "recordings_s3_secret_access_key": "the-secret"}
    settings = read_settings(
        Settings, recordings_s3_bucket="b", recordings_s3_endpoint="https://s3.example.com", **keys
    )
    assert isinstance(settings.recordings(), S3Storage)
    assert "the-secret" not in repr(settings)
