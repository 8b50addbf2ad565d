"""One round of letting go: numbers that were deleted here, with the credentials they had."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from number_sync import credentials as creds
from number_sync.database import Clock, Database, now_ms
from number_sync.sync import detaching, state, store
from number_sync.sync.leases import Lease
from number_sync.sync.pacing import paced_as
from number_sync.sync.releasing import release_line, release_shared
from number_sync.sync.requests import AccountRequests, Requests, TroubleError
from number_sync.sync.state import Schedule
from offhook.errors import KeyringError
from offhook.providers.base import ProviderAdapter
from offhook.providers.rest import MAX_ONE_BY_ONE
from offhook.security.keyring import Keyring

log = structlog.get_logger(__name__)


class Farewell:
    """`run` is the whole of it. Database errors pass through."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        requests: Requests,
        providers: Mapping[str, ProviderAdapter],
        lease: Lease,
        *,
        schedule: Schedule,
        clock: Clock,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._requests = requests
        self._providers = providers
        self._lease = lease
        self._schedule = schedule
        self._clock = clock

    async def run(self, group: detaching.Group) -> None:
        try:
            await self._run(group)
        except (SQLAlchemyError, OSError):
            raise
        except Exception:
            # As in a round.
            async with self._database.read() as connection:
                rows = await detaching.due(connection, group, now=self._now())
            await self._troubled(rows, TroubleError(state.CRASHED))
            raise

    async def _run(self, group: detaching.Group) -> None:
        async with self._database.read() as connection:
            rows = await detaching.due(connection, group, now=self._now())
        if not rows:
            return
        adapter = self._providers.get(group.provider)
        # Sealed anew when the key ring is rotated, or when the credentials were changed: the last ones are the best.
        try:
            credentials = creds.unseal(
                self._keyring, rows[-1].sealed_credentials or "", context=group.configuration_id
            )
        except KeyringError:
            await self._give_up(rows, state.KEY_LOST.sentence)
            return
        if adapter is None:
            await self._give_up(rows, state.NO_ADAPTER.sentence)
            return
        account = self._requests.account(adapter, paced_as(group.user_id, group.account), credentials)
        try:
            few = [row.e164 for row in rows] if len(rows) <= MAX_ONE_BY_ONE else None
            lines = {
                line.e164: line
                for line in await account.ask("lines", lambda rest: rest.lines(few), deadlines=4)
            }
        except TroubleError as trouble:
            await self._troubled(rows, trouble)
            return
        for position, row in enumerate(rows):
            if not self._lease.holds:
                return
            async with self._database.write() as connection:
                if not await detaching.still_open(connection, row):
                    continue
                line = lines.get(row.e164)
                held = line is not None and await detaching.hand_over(connection, row, line.reference)
            try:
                if not held:
                    await release_line(account, line, detaching.book_of(row))
                await self._release_shared(account, group, row)
            except TroubleError as trouble:
                await self._troubled([row], trouble)
                if trouble.obstacle.code in state.TRANSIENT:
                    await self._troubled(rows[position + 1 :], trouble, tried=False)
                    return
                continue
            async with self._database.write() as connection:
                await detaching.close(connection, row, state=detaching.DONE)
                await store.compare_anew(connection, row.e164, at=self._now())
            log.info("number.let_go", configuration_id=group.configuration_id)

    async def _release_shared(self, account: AccountRequests, group: detaching.Group, row: Row[Any]) -> None:
        if row.shared:
            await release_shared(
                self._database,
                account,
                group.provider,
                group.account,
                user_id=row.user_id,
                known=[detaching.shared_of(row)],
            )

    async def _troubled(self, rows: Sequence[Row[Any]], trouble: TroubleError, *, tried: bool = True) -> None:
        now = self._now()
        tried = tried and not trouble.resting
        log.warning("detachment.trouble", reason=trouble.obstacle.code, numbers=len(rows))
        async with self._database.write() as connection:
            for row in rows:
                if now - row.created_at >= detaching.PATIENCE_MS:
                    await detaching.close(
                        connection, row, state=detaching.GIVEN_UP, sentence=trouble.obstacle.sentence
                    )
                    continue
                attempts = row.attempts + tried
                await detaching.postpone(
                    connection,
                    row,
                    due_at=self._schedule.again(now, attempts, trouble.retry_after_s),
                    attempts=attempts,
                    sentence=trouble.obstacle.sentence,
                )

    async def _give_up(self, rows: Sequence[Row[Any]], sentence: str) -> None:
        log.warning("detachment.given_up", numbers=len(rows))
        async with self._database.write() as connection:
            for row in rows:
                await detaching.close(connection, row, state=detaching.GIVEN_UP, sentence=sentence)

    def _now(self) -> int:
        return now_ms(self._clock)
