"""Import: the numbers an account owns at its provider, and those of them that are wanted here."""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, not_, select

from number_sync import credentials as creds
from number_sync.configurations import find_configuration
from number_sync.database import Database
from number_sync.errors import ConflictError, NumberSyncError, ProviderTroubleError
from number_sync.inquiries import Inquiries
from number_sync.numbers import Listed, Numbers, only_claimed
from number_sync.schema import number_states, phone_numbers
from number_sync.sync.pacing import paced_as
from offhook.errors import KeyringError
from offhook.providers.base import Line, ProviderAdapter, RestError
from offhook.security.keyring import Keyring

MAX_AT_ONCE: Final = 500
"""Numbers of one import."""
# A transaction each would take longer than an edge waits for an answer; one for all would keep other writers out.
_IN_ONE_TRANSACTION: Final = 100
_DEADLINE_S: Final = 30.0
_KEEP_S: Final = 60.0
_KEPT: Final = 16
_MAX_LABEL: Final = 100
# Kinds of `RestError` that pass by themselves.
_PASSING: Final = frozenset({"busy", "unavailable", "unknown-outcome", "too-early"})


@dataclass(frozen=True, slots=True)
class Available:
    """A number of the account. `number` is E.164; `name` is what it is called at the provider; `country` is ISO 3166 or ''.

    `added`: it is in this configuration. `elsewhere`: in another one, perhaps somebody else's.
    """

    number: str
    name: str
    country: str
    voice: bool
    added: bool
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A number that was not imported, and why."""

    number: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Snapshot:
    taken_at: float
    lines: Mapping[str, Line]  # by E.164, in order


class Imports:
    """What the provider has told is kept for a minute, to page through it and to import from it."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        providers: Mapping[str, ProviderAdapter],
        numbers: Numbers,
        inquiries: Inquiries,
        *,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._providers = providers
        self._numbers = numbers
        self._inquiries = inquiries
        self._deadline_s = deadline_s
        # By the sealed credentials: others see another account.
        self._snapshots: OrderedDict[str, _Snapshot] = OrderedDict()

    async def available(
        self, user_id: str, configuration_id: str, *, limit: int, after: str | None = None
    ) -> tuple[list[Available], str | None]:
        """The account's numbers in order, at most `limit` after the number `after`; and what to give as the next `after`.

        Without `after` the provider is asked anew. Raises `ProviderTroubleError`.
        """
        lines = await self._lines(user_id, configuration_id, anew=after is None)
        wanted = [line for e164, line in lines.items() if after is None or e164 > after]
        page = wanted[:limit]
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(phone_numbers.c.e164, phone_numbers.c.configuration_id)
                .join(number_states, number_states.c.number_id == phone_numbers.c.id)
                .where(phone_numbers.c.e164.in_([line.e164 for line in page]), not_(only_claimed(user_id)))
            )
            holders = {row.e164: row.configuration_id for row in rows}
        found = [
            Available(
                number=line.e164,
                name=_one_line(line.name),
                country=line.country,
                voice=line.voice,
                added=holders.get(line.e164) == configuration_id,
                elsewhere=holders.get(line.e164, configuration_id) != configuration_id,
            )
            for line in page
        ]
        return found, page[-1].e164 if len(wanted) > limit else None

    async def add(
        self,
        user_id: str,
        configuration_id: str,
        numbers: Sequence[str],
        *,
        workflow_id: str | None = None,
    ) -> tuple[list[Row[Any]], list[Refused]]:
        """Add those of `numbers` (E.164) that the account owns; the name at the provider becomes the label.

        One that cannot be added is refused with the reason; the others come in. Raises
        `ProviderTroubleError`, and `NotFoundError` for the configuration.
        """
        lines = await self._lines(user_id, configuration_id, anew=False)
        added: list[Row[Any]] = []
        refused: list[Refused] = []
        wanted: list[Listed] = []
        for number in dict.fromkeys(numbers):
            line = lines.get(number)
            if line is None:
                refused.append(Refused(number, "this account does not own it at the provider"))
            elif not line.voice:
                refused.append(Refused(number, "the provider says that it cannot take calls"))
            else:
                wanted.append(Listed(number, _label(line), line.reference))
        for begin in range(0, len(wanted), _IN_ONE_TRANSACTION):
            part = wanted[begin : begin + _IN_ONE_TRANSACTION]
            outcomes = await self._numbers.create_many(
                user_id, configuration_id, part, workflow_id=workflow_id
            )
            for each, outcome in zip(part, outcomes, strict=True):
                if isinstance(outcome, NumberSyncError):
                    refused.append(Refused(each.e164, str(outcome)))
                else:
                    added.append(outcome)
        return added, refused

    async def _lines(self, user_id: str, configuration_id: str, *, anew: bool) -> Mapping[str, Line]:
        async with self._database.read() as connection:
            row = await find_configuration(connection, user_id, configuration_id)
        kept = self._snapshots.get(row.sealed_credentials)
        if kept is not None and not anew and time.monotonic() - kept.taken_at < _KEEP_S:
            return kept.lines
        adapter = self._providers.get(row.provider)
        if adapter is None:
            raise ConflictError(f"this version has no adapter for {row.provider}")
        try:
            credentials = creds.unseal(self._keyring, row.sealed_credentials, context=row.id)
        except KeyringError:
            raise ConflictError(
                "the stored credentials cannot be opened, because the key ring has lost their key; enter them again"
            ) from None
        try:
            found = await self._inquiries.ask(
                adapter.name,
                paced_as(row.user_id, row.account),
                credentials,
                "lines",
                lambda rest: rest.lines(),
                within_s=self._deadline_s,
            )
        except RestError as error:
            raise _trouble(adapter, credentials, error) from None
        lines = {line.e164: line for line in sorted(found, key=lambda line: line.e164)}
        self._snapshots[row.sealed_credentials] = _Snapshot(time.monotonic(), lines)
        self._snapshots.move_to_end(row.sealed_credentials)
        while len(self._snapshots) > _KEPT:
            self._snapshots.popitem(last=False)
        return lines


def _trouble(
    adapter: ProviderAdapter, credentials: Mapping[str, str], error: RestError
) -> ProviderTroubleError:
    why = adapter.lines.explain(error)
    secrets = creds.secrets_in(adapter.credentials_model, credentials)
    return ProviderTroubleError(
        why.code,
        creds.without(why.sentence, secrets),
        creds.without(why.remedy, secrets),
        passing=error.kind in _PASSING,
        retry_after_s=error.retry_after_s,
    )


def _one_line(name: str) -> str:
    """A name from the provider, as it may be shown."""
    shown = "".join(character for character in " ".join(name.split()) if character.isprintable())
    return shown[:_MAX_LABEL].strip()


def _label(line: Line) -> str:
    """What the number is called at the provider, unless that is the number itself, as providers name new ones."""
    name = _one_line(line.name)
    digits = "".join(character for character in name if character.isdigit())
    is_the_number = not any(map(str.isalpha, name)) and line.e164.endswith(digits)
    return "" if is_the_number else name
