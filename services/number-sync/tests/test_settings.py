"""Settings: what is wrong is one clear sentence without the secret in it."""

from pathlib import Path

import pytest
from running_number_sync import KEYRING, SESSION_KEY

from number_sync.settings import NumberSyncSettings, public_origin
from offhook.errors import SettingsError
from offhook.settings import read_settings


def test_without_a_database_url_the_store_is_in_the_state_directory(tmp_path: Path) -> None:
    settings = read_settings(NumberSyncSettings, keyring=KEYRING, session_key=SESSION_KEY, state_dir=tmp_path)
    assert settings.database == f"sqlite+aiosqlite:///{tmp_path}/number-sync.sqlite3"
    assert settings.api_url("twilio") is None
    assert settings.api_url("a-new-provider") is None


@pytest.mark.parametrize(
    "text",
    [
        "https://voice.example.com",
        "https://voice.example.com/",
        " https://Voice.example.com ",
        "http://127.0.0.1:8080",
    ],
)
def test_a_public_url_is_an_origin(text: str) -> None:
    assert public_origin(text) == text.strip().rstrip("/").lower()


@pytest.mark.parametrize(
    "text",
    [
        "voice.example.com",
        "wss://voice.example.com",
        "https://",
        "https://u:p@x",
        "https://x/path",
        "https://x?y",
        "https://x:y",
        "https://[x",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        public_origin(text)


@pytest.mark.parametrize("given", [{"provider_deadline_s": 60}, {"outcome_grace_s": 25}])
def test_nothing_is_given_up_while_its_provider_may_still_answer(given: dict[str, float]) -> None:
    with pytest.raises(SettingsError) as wrong:
        read_settings(NumberSyncSettings, keyring=KEYRING, session_key=SESSION_KEY, **given)
    [sentence] = wrong.value.problems
    assert "OFFHOOK_OUTCOME_GRACE_S" in sentence
    assert "OFFHOOK_PROVIDER_DEADLINE_S" in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("public_url", "https://u:canary@voice.example.com"),
        ("database_url", "mysql://u:canary@db/x"),
        ("database_url", "canary"),
        ("twilio_api_url", "canary"),
    ],
)
def test_a_wrong_setting_is_named_and_not_repeated(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        read_settings(NumberSyncSettings, keyring=KEYRING, session_key=SESSION_KEY, **{name: value})
    [sentence] = wrong.value.problems
    assert sentence.startswith(f"OFFHOOK_{name.upper()} is wrong")
    assert "canary" not in sentence
