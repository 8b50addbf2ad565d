"""What the gateway knows about configurations, numbers, workflows and the public URL: the compacted topics,
in memory."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from offhook.bus import Bus
from offhook.records import ConfigurationRecord, NumberRecord, PublicUrlRecord, WorkflowRecord
from offhook.topics import CONFIGURATIONS, NUMBERS, SETTINGS, WORKFLOWS

_FORMER: Final = 5


class Records:
    """Look-ups over the directories. Make it before the bus starts; it is as current as the topics have been
    read."""

    def __init__(self, bus: Bus, extra_origins: tuple[str, ...] = ()) -> None:
        self.configurations = bus.directory(CONFIGURATIONS, ConfigurationRecord)
        self.configurations.add_index("account", lambda record: (record.provider, record.account))
        self.configurations.add_index("user", lambda record: (record.provider, record.user_id))
        self._numbers = bus.directory(NUMBERS, NumberRecord)
        self._numbers.add_index("address", lambda record: (record.configuration_id, record.e164))
        self._workflows = bus.directory(WORKFLOWS, WorkflowRecord)
        self._settings = bus.directory(SETTINGS, PublicUrlRecord)
        self._settings.on_change(self._remember)
        self._former: deque[str] = deque(maxlen=_FORMER)
        self._extra_origins = tuple(origin.rstrip("/") for origin in extra_origins)

    def configurations_of(self, provider: str, account: str) -> list[ConfigurationRecord]:
        """Every configuration that claims the account, in an order that is the same in every process."""
        found = self.configurations.by("account", (provider, account))
        return sorted(found, key=lambda record: record.configuration_id) if len(found) > 1 else list(found)

    def configurations_at(self, provider: str, users: Iterable[str]) -> list[ConfigurationRecord]:
        """The configurations of these users at a provider; of everybody when there are none."""
        named = sorted(users)
        if named:
            return [record for user in named for record in self.configurations.by("user", (provider, user))]
        return [record for record in self.configurations.values() if record.provider == provider]

    def former_origins(self) -> tuple[str, ...]:
        """Base URLs that were the published one before, as far as this process has seen them; the latest first."""
        current = self.origins()
        return tuple(origin for origin in self._former if origin not in current)

    def _remember(self, key: str, old: PublicUrlRecord | None, new: PublicUrlRecord | None) -> None:
        if old is not None and key == PublicUrlRecord.KEY:
            origin = old.url.rstrip("/")
            if origin in self._former:
                self._former.remove(origin)
            self._former.appendleft(origin)

    def number(self, configuration: ConfigurationRecord, e164: str) -> NumberRecord | None:
        found = self._numbers.by("address", (configuration.configuration_id, e164))
        return min(found, key=lambda record: record.number_id) if found else None

    def workflow(self, workflow_id: str) -> WorkflowRecord | None:
        return self._workflows.get(workflow_id)

    def origins(self) -> tuple[str, ...]:
        """The public base URLs providers may have used: the published one first, then those of the
        settings."""
        published = self._settings.get(PublicUrlRecord.KEY)
        if published is None:
            return self._extra_origins
        return (published.url.rstrip("/"), *self._extra_origins)
