"""What users have, as number-sync publishes it: configurations, numbers, workflows, held in memory; and the installation's
own address."""

from collections.abc import Iterable

from offhook.bus import Bus
from offhook.records import ConfigurationRecord, NumberRecord, PublicUrlRecord, WorkflowRecord
from offhook.topics import CONFIGURATIONS, NUMBERS, SETTINGS, WORKFLOWS


class Directories:
    """The directories, indexed for dialling. Make it before the bus starts."""

    def __init__(self, bus: Bus) -> None:
        self._configurations = bus.directory(CONFIGURATIONS, ConfigurationRecord)
        self._numbers = bus.directory(NUMBERS, NumberRecord)
        self._workflows = bus.directory(WORKFLOWS, WorkflowRecord)
        self._settings = bus.directory(SETTINGS, PublicUrlRecord)
        self._configurations.add_index("user", lambda record: record.user_id)
        self._numbers.add_index("configuration", lambda record: record.configuration_id)
        self._workflows.add_index("user", lambda record: record.user_id)

    def public_url(self) -> str | None:
        """Where the installation is reached from outside, without a slash at the end."""
        record = self._settings.get(PublicUrlRecord.KEY)
        return None if record is None else record.url

    def workflow(self, workflow_id: str) -> WorkflowRecord | None:
        return self._workflows.get(workflow_id)

    def workflows_of(self, user_id: str) -> Iterable[WorkflowRecord]:
        return self._workflows.by("user", user_id)

    def configuration(self, configuration_id: str) -> ConfigurationRecord | None:
        return self._configurations.get(configuration_id)

    def configurations_of(self, user_id: str) -> Iterable[ConfigurationRecord]:
        return self._configurations.by("user", user_id)

    def numbers_of(self, configuration_id: str) -> Iterable[NumberRecord]:
        return self._numbers.by("configuration", configuration_id)
