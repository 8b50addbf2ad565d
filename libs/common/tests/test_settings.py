"""Settings come from the environment; what is wrong with them is said in sentences, without any secret."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from offhook.security.api_keys import new_api_key, setting_entry
from offhook.security.keyring import new_key
from offhook.settings import ServiceSettings, SettingsError, read_settings

GOOD = {
    "OFFHOOK_KEYRING": new_key("k1"),
    "OFFHOOK_TOKEN_KEY": base64.b64encode(b"t" * 32).decode(),
    "OFFHOOK_API_KEYS": setting_entry("anna", new_api_key()),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OFFHOOK_"):
            monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def problems(cls: type[ServiceSettings] = ServiceSettings) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read_settings(cls)
    return caught.value.problems


def test_variables_have_the_prefix_and_the_rest_has_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFHOOK_KAFKA_BOOTSTRAP", "k1:9092,k2:9092")
    monkeypatch.setenv("OFFHOOK_LOG_FORMAT", "Console")
    settings = read_settings(ServiceSettings)
    assert settings.kafka_bootstrap == "k1:9092,k2:9092"
    assert settings.log_format == "console"
    assert (settings.partitions, settings.replication_factor) == (12, 1)
    assert settings.keyring.get_secret_value() == GOOD["OFFHOOK_KEYRING"]


def test_every_missing_secret_is_one_sentence_that_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OFFHOOK_KEYRING")
    monkeypatch.setenv("OFFHOOK_TOKEN_KEY", "")
    keyring, token_key = problems()
    assert keyring.startswith("OFFHOOK_KEYRING is not set: the keys that seal credentials")
    assert token_key.startswith("OFFHOOK_TOKEN_KEY is not set: ")


def test_a_service_says_which_secrets_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlyTheApi(ServiceSettings):
        SECRETS: ClassVar[frozenset[str]] = frozenset({"api_keys"})

    monkeypatch.delenv("OFFHOOK_KEYRING")
    monkeypatch.delenv("OFFHOOK_TOKEN_KEY")
    assert read_settings(OnlyTheApi).keyring.get_secret_value() == ""
    monkeypatch.delenv("OFFHOOK_API_KEYS")
    assert len(problems(OnlyTheApi)) == 1


def test_a_required_setting_of_a_service_is_named_when_it_is_missing() -> None:
    class WithDatabase(ServiceSettings):
        database_url: str

    assert problems(WithDatabase) == ("OFFHOOK_DATABASE_URL is not set",)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("KAFKA_BOOTSTRAP", "localhost", "expected host:port"),
        ("REDIS_URL", "localhost:6379", "expected a URL that begins with redis://"),
        ("LISTEN_PORT", "web", "should be a valid integer"),
        ("LISTEN_PORT", "70000", "less than or equal to 65535"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("KEYRING", "k1:c2hvcnQ=", "has 5 bytes, expected 32"),
        ("TOKEN_KEY", "c2hvcnQ=", "at least 32 bytes"),
        ("API_KEYS", "anna:plain-key", "not user_id:sha256hex"),
    ],
)
def test_a_wrong_value_is_explained(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"OFFHOOK_{name}", value)
    (problem,) = problems()
    assert problem.startswith(f"OFFHOOK_{name} is ")
    assert sentence in problem


@pytest.mark.parametrize("name", ["KEYRING", "TOKEN_KEY", "API_KEYS"])
def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"OFFHOOK_{name}", "not-a-good-secret")
    assert "not-a-good-secret" not in "".join(problems())


def test_the_repr_shows_no_secret() -> None:
    shown = repr(read_settings(ServiceSettings))
    assert not any(secret in shown for secret in GOOD.values())


def test_a_list_that_is_no_json_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithOrigins(ServiceSettings):
        extra_origins: tuple[str, ...] = ()

    monkeypatch.setenv("OFFHOOK_EXTRA_ORIGINS", "https://a.example")
    (problem,) = problems(WithOrigins)
    assert "extra_origins" in problem


def test_a_process_without_its_settings_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    program = "from offhook.settings import *; load_settings(ServiceSettings)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OFFHOOK_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["OFFHOOK_KEYRING", "OFFHOOK_TOKEN_KEY", "OFFHOOK_API_KEYS"]
