"""Credentials are tried at their provider, and what it says is kept beside them.

Trying never stands in the way of saving: what cannot be tried is "not verified". An answer counts for the credentials
that were tried, and only until a later attempt has been answered; any other is dropped. Nor does an attempt that found
nothing out replace one that did.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from sqlalchemy import Row, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import credentials as creds
from number_sync import publishing
from number_sync.configurations import find_configuration
from number_sync.database import Clock, Database, now_ms
from number_sync.inquiries import Inquiries
from number_sync.schema import configurations
from number_sync.sync.pacing import paced_as
from offhook.errors import KeyringError
from offhook.providers.base import AccountFacts, ProviderAdapter, RestError
from offhook.providers.obstacles import ObstacleCode
from offhook.security.keyring import Keyring

State = Literal["verified", "refused", "not-verified"]

KEY_LOST: Final = "key-lost"
NO_ADAPTER: Final = "no-adapter"
DEADLINE_S: Final = 8.0
_LONGEST_TEXT: Final = 2000
_LONGEST_NAME: Final = 200
# Kinds of `RestError` with which the provider has made up its mind about the credentials.
_REFUSALS: Final = frozenset({"credentials", "rejected", "gone"})


@dataclass(frozen=True, slots=True)
class Verification:
    """What the provider said to the credentials. `at`: when it was asked, ms since 1970; None: never yet.

    `code` and `sentence` (with the remedy) say why they are not verified. `account_name` is the provider's name for the
    account; only an answer that has just come has it.
    """

    state: State
    code: str | None = None
    sentence: str | None = None
    at: int | None = None
    account_name: str | None = None


_LOST: Final = Verification(
    "refused",
    KEY_LOST,
    "The stored credentials cannot be opened: the key ring no longer has the key they were sealed with. "
    "Enter them again, or put the key back into OFFHOOK_KEYRING.",
)


# Stored before such credentials were refused where they are entered.
_UNSENDABLE: Final = (
    "There is an invisible or typographic character in the stored credentials, with which the provider cannot be asked. "
    "Enter them again."
)


class Verifier:
    """Call `test` after every save that had credentials in it, and whenever somebody asks for it."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        providers: Mapping[str, ProviderAdapter],
        inquiries: Inquiries,
        *,
        clock: Clock,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._providers = providers
        self._inquiries = inquiries
        self._clock = clock
        self._deadline_s = deadline_s

    def of(self, row: Row[Any]) -> Verification:
        """What is known of a configuration's credentials."""
        if self._open(row) is None:
            return _LOST
        return _stored(row)

    async def test(self, user_id: str, configuration_id: str) -> Verification:
        """Try the credentials, keep the answer if it is one, and return it. Takes at most `deadline_s` and the database's time.

        When the credentials were changed meanwhile, or a later attempt has been answered already, that is what is
        returned. Raises `NotFoundError`.
        """
        async with self._database.read() as connection:
            row = await find_configuration(connection, user_id, configuration_id)
        credentials = self._open(row)
        if credentials is None:
            return _LOST
        adapter = self._providers.get(row.provider)
        if adapter is None:
            return Verification(
                "not-verified", NO_ADAPTER, f"This version has no adapter for {row.provider[:32]}."
            )
        asked_at = now_ms(self._clock)
        answer = await self._try(adapter, paced_as(row.user_id, row.account), credentials, asked_at)
        return await self._keep(configuration_id, credentials, answer)

    async def objection(
        self, user_id: str, adapter: ProviderAdapter, credentials: Mapping[str, str]
    ) -> str | None:
        """Try credentials that are not stored. Why the provider does not accept them, or could not say; None: it does."""
        paced = paced_as(user_id, adapter.account_of(credentials))
        answer = await self._try(adapter, paced, credentials, now_ms(self._clock))
        return None if answer.state == "verified" else answer.sentence

    async def _try(
        self, adapter: ProviderAdapter, paced: str, credentials: Mapping[str, str], asked_at: int
    ) -> Verification:
        try:
            facts = await self._inquiries.ask(
                adapter.name,
                paced,
                credentials,
                "check",
                lambda rest: rest.check(),
                within_s=self._deadline_s,
            )
        except RestError as error:
            why = adapter.lines.explain(error)
            secrets = creds.secrets_in(adapter.credentials_model, credentials)
            sentence = creds.without(f"{why.sentence} {why.remedy}".strip(), secrets)[:_LONGEST_TEXT]
            state: State = "refused" if error.kind in _REFUSALS else "not-verified"
            return Verification(state, why.code[:64], sentence, asked_at)
        except UnicodeEncodeError:
            return Verification("refused", ObstacleCode.CREDENTIALS_REFUSED.value, _UNSENDABLE, asked_at)
        name = _presentable(facts)
        return Verification("verified", None, f"The provider knows this account as {name}.", asked_at, name)

    async def _keep(
        self, configuration_id: str, tried: Mapping[str, str], answer: Verification
    ) -> Verification:
        async def work(connection: AsyncConnection) -> Verification:
            row = (
                await connection.execute(
                    select(configurations).where(configurations.c.id == configuration_id).with_for_update()
                )
            ).first()
            if row is None:
                return answer
            # Compared in clear: the same credentials may have been sealed again with another key.
            if self._open(row) != tried:
                return self.of(row)
            if answer.state == "not-verified" and row.verification != "not-verified":
                return answer
            kept = await connection.execute(
                update(configurations)
                .where(
                    configurations.c.id == configuration_id,
                    or_(configurations.c.verified_at.is_(None), configurations.c.verified_at <= answer.at),
                )
                .values(
                    verification=answer.state,
                    verification_code=answer.code,
                    verification_text=answer.sentence,
                    verified_at=answer.at,
                )
            )
            if kept.rowcount and row.verification != answer.state:
                # Nothing is placed with refused credentials: whoever takes orders to call has to know.
                changed = select(configurations).where(configurations.c.id == configuration_id)
                await publishing.publish_configuration(connection, (await connection.execute(changed)).one())
            return answer if kept.rowcount else _stored(row)

        return await self._database.transact(work)

    def _open(self, row: Row[Any]) -> dict[str, str] | None:
        try:
            return creds.unseal(self._keyring, row.sealed_credentials, context=row.id)
        except KeyringError:
            return None


def _stored(row: Row[Any]) -> Verification:
    state = cast(State, row.verification)
    return Verification(state, row.verification_code, row.verification_text, row.verified_at)


def _presentable(facts: AccountFacts) -> str:
    """The account's name as its owner wrote it, or its id: on one line, of bounded length."""
    name = " ".join(facts.name.split()) or facts.account
    return "".join(character for character in name if character.isprintable())[:_LONGEST_NAME]
