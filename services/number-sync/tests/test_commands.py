"""`offhook keys`: what is printed, what is stored, and what is said when it does not work."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running_number_sync import KEYRING, TWILIO

from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.keys import Keys
from offhook.providers import registry
from offhook.security.api_keys import digest_of
from offhook.security.keyring import Keyring


def offhook(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command as an operator does."""
    return subprocess.run(
        [Path(sys.executable).parent / "offhook", *arguments],
        env={"PATH": os.environ["PATH"], "OFFHOOK_STATE_DIR": str(home), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        cwd=home,
        timeout=60,
    )


async def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    none = offhook("keys", "list", home=tmp_path)
    assert (none.returncode, none.stdout) == (0, "")
    assert "offhook keys create --user" in none.stderr
    made = offhook("keys", "create", "--user", "ada", "--label", "laptop", home=tmp_path)
    key = made.stdout.strip()
    assert made.returncode == 0, made.stderr
    assert key.startswith("ohk_")
    assert key not in made.stderr
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/number-sync.sqlite3")
    (row,) = await Keys(database, clock=lambda: 0).list()
    await database.close()
    assert (row.user_id, row.label, row.digest) == ("ada", "laptop", digest_of(key))
    listed = offhook("keys", "list", "--user", "ada", home=tmp_path).stdout
    assert row.id in listed
    assert "laptop" in listed
    assert key not in listed
    assert row.digest not in listed
    revoked = offhook("keys", "revoke", row.id, home=tmp_path)
    assert revoked.stdout == f"Key {row.id} of ada is revoked.\n"
    assert key.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_what_does_not_work_is_one_sentence(tmp_path: Path) -> None:
    for arguments, sentence in (
        (("create", "--user", "a b"), "A user is 1 to 64 of A-Z a-z 0-9 _ -."),
        (("revoke", "nothing"), "There is no such key; `offhook keys list` names them all."),
    ):
        done = offhook("keys", *arguments, home=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{sentence}\n")
    url = "postgresql+asyncpg://user:secret@127.0.0.1:1/none"
    away = offhook("keys", "list", home=tmp_path, OFFHOOK_DATABASE_URL=url)
    assert away.returncode == 1
    assert away.stderr.startswith("The database cannot be used")
    assert "secret" not in away.stderr
    no_ring = offhook("keys", "rotate", home=tmp_path)
    assert no_ring.returncode == 2
    assert "OFFHOOK_KEYRING is not set" in no_ring.stderr
    assert "Traceback" not in away.stderr + no_ring.stderr


@pytest.mark.parametrize("with_the_old_key", [True, False])
async def test_rotate_seals_again_with_the_first_key_and_says_what_is_lost(
    tmp_path: Path, with_the_old_key: bool
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/number-sync.sqlite3"
    database = Database(url)
    await database.migrate()
    configurations = Configurations(database, Keyring.parse(KEYRING), registry.PROVIDERS, clock=lambda: 0)
    row = await configurations.create("ada", name="Main", provider="twilio", credentials=TWILIO)
    await database.close()
    new = "k2:" + base64.b64encode(b"2" * 32).decode()
    ring = f"{new},{KEYRING}" if with_the_old_key else new
    done = offhook("keys", "rotate", home=tmp_path, OFFHOOK_KEYRING=ring)
    assert TWILIO["auth_token"] not in done.stdout + done.stderr
    if with_the_old_key:
        assert (done.returncode, done.stdout) == (0, "1 sealed again with key k2.\n")
    else:
        assert done.returncode == 1
        assert row.id in done.stderr
