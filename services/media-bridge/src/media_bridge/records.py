"""What the bridge knows about configurations, workflows and the public URL: the compacted topics, in
memory.
"""

from collections.abc import Mapping

import msgspec
import structlog

from offhook.bus import Bus
from offhook.errors import KeyringError
from offhook.records import ConfigurationRecord, PublicUrlRecord, WorkflowRecord
from offhook.security.keyring import Keyring
from offhook.topics import CONFIGURATIONS, SETTINGS, WORKFLOWS

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Records:
    """Look-ups over the directories. Make it before the bus starts. Opened secrets are kept until their
    record changes."""

    def __init__(self, bus: Bus, keyring: Keyring, extra_origins: tuple[str, ...] = ()) -> None:
        self._keyring = keyring
        self._opened: dict[str, tuple[str, dict[str, str] | None]] = {}
        self._configurations = bus.directory(CONFIGURATIONS, ConfigurationRecord)
        self._configurations.add_index("user", lambda record: record.user_id)
        self._configurations.on_change(lambda key, old, new: self._forget(key))
        self._workflows = bus.directory(WORKFLOWS, WorkflowRecord)
        self._workflows.on_change(lambda key, old, new: self._forget(key))
        self._settings = bus.directory(SETTINGS, PublicUrlRecord)
        self._extra_origins = tuple(origin.rstrip("/") for origin in extra_origins)

    def workflow(self, workflow_id: str) -> WorkflowRecord | None:
        return self._workflows.get(workflow_id)

    def configurations_of(self, user_id: str, provider: str) -> list[ConfigurationRecord]:
        """A user's configurations at a provider, in an order that is the same in every process."""
        found = (each for each in self._configurations.by("user", user_id) if each.provider == provider)
        return sorted(found, key=lambda record: record.configuration_id)

    def origins(self) -> tuple[str, ...]:
        """The public base URLs providers may have used: the published one first, then those of the
        settings.
        """
        published = self._settings.get(PublicUrlRecord.KEY)
        if published is None:
            return self._extra_origins
        return (published.url.rstrip("/"), *self._extra_origins)

    def credentials(self, configuration: ConfigurationRecord) -> Mapping[str, str] | None:
        """None (and one line in the log) when they do not open with our keys."""
        return self._open(configuration.configuration_id, configuration.sealed_credentials)

    def agent_headers(self, workflow: WorkflowRecord) -> Mapping[str, str] | None:
        """The headers of the agent's handshake; none at all is an empty mapping, None means that they do not
        open.
        """
        if workflow.sealed_headers is None:
            return {}
        return self._open(workflow.workflow_id, workflow.sealed_headers)

    def _open(self, key: str, sealed: str) -> dict[str, str] | None:
        known = self._opened.get(key)
        if known is not None and known[0] == sealed:
            return known[1]
        plain: dict[str, str] | None = None
        try:
            fields = msgspec.json.decode(self._keyring.open(sealed, context=key), type=dict[str, object])
            plain = {name: value for name, value in fields.items() if isinstance(value, str)}
        except (KeyringError, msgspec.DecodeError) as error:
            # The text of the error could hold what was decrypted.
            _log.error("sealed-text-unreadable", record=key, problem=type(error).__name__)
        self._opened[key] = (sealed, plain)
        return plain

    def _forget(self, key: str) -> None:
        self._opened.pop(key, None)
