"""Who may see what of the webhook log and of the dead letters.

A call is its user's. A provider's request is of whoever holds the account it names, and anybody can write somebody else's
account into a configuration of his own; so an account is of the users whose credentials the provider has verified, and of
its only holder while nobody's are. What is nobody's is for operators alone: the users that `OFFHOOK_OPERATORS` names.
"""

from collections.abc import Collection
from dataclasses import dataclass

from offhook.bus import Bus
from offhook.records import ConfigurationRecord, PublicUrlRecord
from offhook.topics import CONFIGURATIONS, SETTINGS


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who looks. `accounts` are (provider, account) pairs; an operator sees everything without them."""

    user_id: str
    operator: bool
    accounts: frozenset[tuple[str, str]]


class Viewers:
    """Knows operators and accounts. Make it before the bus starts."""

    def __init__(self, bus: Bus, operators: Collection[str]) -> None:
        self._operators = frozenset(operators)
        self._configurations = bus.directory(CONFIGURATIONS, ConfigurationRecord)
        self._configurations.add_index("holders", lambda record: (record.provider, record.account))
        self._configurations.add_index("held by", lambda record: record.user_id)
        self._settings = bus.directory(SETTINGS, PublicUrlRecord)

    def viewer(self, user_id: str) -> Viewer:
        """What the user may see now."""
        if user_id in self._operators:
            return Viewer(user_id, True, frozenset())
        accounts = {
            (record.provider, record.account)
            for record in self._configurations.by("held by", user_id)
            if self._is_of(user_id, record)
        }
        return Viewer(user_id, False, frozenset(accounts))

    def configuration(self, configuration_id: str) -> ConfigurationRecord | None:
        return self._configurations.get(configuration_id)

    def public_url(self) -> str | None:
        """Where providers reach the installation, without a slash at the end."""
        published = self._settings.get(PublicUrlRecord.KEY)
        return None if published is None else published.url.rstrip("/")

    def _is_of(self, user_id: str, record: ConfigurationRecord) -> bool:
        holders = self._configurations.by("holders", (record.provider, record.account))
        proven = {holder.user_id for holder in holders if holder.verification == "verified"}
        return user_id in (proven or {holder.user_id for holder in holders}) and (
            bool(proven) or len({holder.user_id for holder in holders}) == 1
        )
