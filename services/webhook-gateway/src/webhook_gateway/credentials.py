"""Provider credentials, opened from their sealed form once and kept until the record changes."""

import json
from collections.abc import Mapping

import structlog

from offhook.errors import KeyringError
from offhook.records import ConfigurationRecord
from offhook.security.keyring import Keyring
from offhook.telemetry import metrics

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class CredentialBook:
    """Opens `sealed_credentials`. Holds plain credentials in memory only, and only of records that still
    exist."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._open: dict[str, tuple[str, Mapping[str, str] | None]] = {}

    def of(self, record: ConfigurationRecord) -> Mapping[str, str] | None:
        """The credentials; None (logged once a record) when they cannot be read with our keys."""
        known = self._open.get(record.configuration_id)
        if known is not None and known[0] == record.sealed_credentials:
            return known[1]
        credentials = self._read(record)
        self._open[record.configuration_id] = (record.sealed_credentials, credentials)
        return credentials

    def forget(self, configuration_id: str) -> None:
        """The record changed or is gone."""
        self._open.pop(configuration_id, None)

    def _read(self, record: ConfigurationRecord) -> Mapping[str, str] | None:
        try:
            plain = json.loads(self._keyring.open(record.sealed_credentials, context=record.configuration_id))
        except (KeyringError, ValueError) as error:
            # The text of the error could hold what was decrypted.
            problem = type(error).__name__
        else:
            if isinstance(plain, dict):
                return {str(name): value for name, value in plain.items() if isinstance(value, str)}
            problem = "not a JSON object"
        metrics.CREDENTIALS_UNREADABLE.labels(record.provider).inc()
        _log.error("credentials-unreadable", configuration_id=record.configuration_id, problem=problem)
        return None
