"""Settings of Kafka's security are whole or refused: nothing meant to protect is silently left out."""

import os
import ssl
from pathlib import Path
from typing import ClassVar

import pytest
import trustme

from offhook.kafka_security import KafkaSecurity
from offhook.settings import ServiceSettings, SettingsError, read_settings


class Settings(ServiceSettings):
    SECRETS: ClassVar[frozenset[str]] = frozenset()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OFFHOOK_"):
            monkeypatch.delenv(name)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """An authority, a certificate with its key, the key of another one, and nothing of the kind."""
    ca = trustme.CA()
    one, other = ca.issue_cert("one.example.com"), ca.issue_cert("other.example.com")
    texts = {
        "ca": ca.cert_pem.bytes(),
        "cert": one.cert_chain_pems[0].bytes(),
        "key": one.private_key_pem.bytes(),
        "other_key": other.private_key_pem.bytes(),
        "empty": b"",
        "nonsense": b"not PEM",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    return {name: tmp_path / name for name in (*texts, "absent")}


def security(monkeypatch: pytest.MonkeyPatch, **values: object) -> KafkaSecurity:
    for name, value in values.items():
        monkeypatch.setenv(f"OFFHOOK_KAFKA_{name.upper()}", str(value))
    return read_settings(Settings).kafka_security


def objections(monkeypatch: pytest.MonkeyPatch, **values: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        security(monkeypatch, **values)
    return caught.value.problems


SASL = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "recorder", "sasl_password": "hunter2"}


def test_without_settings_there_is_no_security(monkeypatch: pytest.MonkeyPatch) -> None:
    assert security(monkeypatch).client_options() == {"security_protocol": "PLAINTEXT", "ssl_context": None}


def test_a_whole_set_of_settings_makes_the_options_of_a_client(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]
) -> None:
    found = security(monkeypatch, security_protocol="sasl_ssl", ca_file=files["ca"], **SASL)
    options = found.client_options()
    context = options.pop("ssl_context")
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "recorder",
        "sasl_plain_password": "hunter2",
    }
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert "hunter2" not in repr(found) + repr(read_settings(Settings))


def test_a_certificate_and_its_key_are_shown_to_the_broker(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]
) -> None:
    found = security(monkeypatch, security_protocol="SSL", cert_file=files["cert"], key_file=files["key"])
    assert found.ssl_context() is not None
    assert not found.sasl


def test_what_sasl_needs_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert objections(monkeypatch, security_protocol="SASL_PLAINTEXT") == tuple(
        f"OFFHOOK_KAFKA_SASL_{name} is not set, but OFFHOOK_KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT"
        for name in ("MECHANISM", "USERNAME", "PASSWORD")
    )


def test_a_password_or_a_file_that_would_not_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]
) -> None:
    found = objections(monkeypatch, ca_file=files["ca"], **SASL)
    assert len(found) == 4
    assert all("is set, but OFFHOOK_KAFKA_SECURITY_PROTOCOL is PLAINTEXT" in sentence for sentence in found)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (
            {"ca_file": "absent"},
            "OFFHOOK_KAFKA_CA_FILE is wrong: {absent} cannot be read (No such file or directory)",
        ),
        ({"ca_file": "empty"}, "OFFHOOK_KAFKA_CA_FILE is wrong: {empty} is empty"),
        ({"ca_file": "nonsense"}, "cannot be used"),
        (
            {"cert_file": "cert"},
            "OFFHOOK_KAFKA_CERT_FILE and OFFHOOK_KAFKA_KEY_FILE go together: set both or none",
        ),
        ({"cert_file": "cert", "key_file": "other_key"}, "a certificate with the key that belongs to it"),
    ],
    ids=["absent", "empty", "nonsense", "half", "foreign-key"],
)
def test_files_that_cannot_be_used_are_found_at_the_start(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, Path], named: dict[str, str], sentence: str
) -> None:
    values = {name: files[file] for name, file in named.items()}
    (found,) = objections(monkeypatch, security_protocol="SSL", **values)
    assert sentence.format(**files) in found


def test_a_word_kafka_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = objections(monkeypatch, security_protocol="TLS")
    assert found.startswith("OFFHOOK_KAFKA_SECURITY_PROTOCOL is wrong: ")
