"""One round: the numbers of one configuration that are due are compared with the provider, and set where they differ.

One look at the provider serves all of them. What is about to be set is committed before it is sent, and what the
provider answers is looked at before a number is called synced: a process may die anywhere in between, and the next
round finds out where things stand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from number_sync import credentials as creds
from number_sync.database import Clock, Database, now_ms
from number_sync.sync import state, store
from number_sync.sync.leases import Lease
from number_sync.sync.pacing import paced_as
from number_sync.sync.releasing import release_line, release_shared
from number_sync.sync.requests import AccountRequests, Requests, TroubleError
from number_sync.sync.state import Review, Schedule, Standing
from number_sync.sync.store import DueNumber, Work
from offhook.errors import KeyringError
from offhook.identities import INBOUND_FALLBACK_PATH, INBOUND_PATH, status_path
from offhook.providers.base import Line, LineUrls, Obstacle, ProviderAdapter, Rest, Settings, Wanted
from offhook.providers.rest import MAX_ONE_BY_ONE
from offhook.security.keyring import Keyring
from offhook.telemetry import metrics

PUSHES: Final = 50
"""Numbers that one round sets; the others stay due, and those that have changed meanwhile come first."""
_LIST_DEADLINES: Final = 4
_TOO_MANY_TROUBLES: Final = 3
_REFUSALS: Final = ("credentials-refused", "account-suspended")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A number that is about to be set. `after` is what was committed of it."""

    number: DueNumber
    line: Line
    review: Review
    after: Standing


class Round:
    """`run` is the whole of it. Database errors pass through; everything from the provider becomes a state.

    `doubt` is told of a configuration whose credentials the provider takes although they are not verified, or no longer
    takes although they are.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        requests: Requests,
        providers: Mapping[str, ProviderAdapter],
        lease: Lease,
        *,
        schedule: Callable[[str], Schedule],
        doubt: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._requests = requests
        self._providers = providers
        self._lease = lease
        self._schedule_of = schedule
        self._doubt = doubt
        self._clock = clock
        self._schedule = Schedule(1, 1)

    async def run(self, configuration_id: str) -> None:
        self._schedule = self._schedule_of(configuration_id)
        try:
            await self._run(configuration_id)
        except (SQLAlchemyError, OSError):
            raise
        except Exception:
            # Told, and due later: else it would be first in turn for ever. Read anew: what was committed holds.
            async with self._database.read() as connection:
                work = await store.work_of(connection, configuration_id, now=self._now())
            if work is not None:
                await self._troubled(work.numbers, TroubleError(state.CRASHED))
            raise

    async def _run(self, configuration_id: str) -> None:
        async with self._database.read() as connection:
            work = await store.work_of(connection, configuration_id, now=self._now())
        if work is None or not work.numbers:
            return
        wanted, unwanted = await self._unwanted_at_rest(work)
        if not wanted and not unwanted:
            return
        adapter = self._providers.get(work.configuration.provider)
        if adapter is None:
            await self._troubled([*wanted, *unwanted], TroubleError(state.NO_ADAPTER))
            return
        try:
            credentials = creds.unseal(
                self._keyring, work.configuration.sealed_credentials, context=configuration_id
            )
        except KeyringError:
            await self._troubled([*wanted, *unwanted], TroubleError(state.KEY_LOST))
            return
        configuration = work.configuration
        paced = paced_as(configuration.user_id, configuration.account)
        account = self._requests.account(adapter, paced, credentials)
        verified = configuration.verification == "verified"
        try:
            lines = await self._lines(account, [*wanted, *unwanted])
        except TroubleError as trouble:
            if verified and trouble.obstacle.code in _REFUSALS:
                self._doubt(configuration_id)
            await self._troubled([*wanted, *unwanted], trouble)
            return
        if not verified:
            self._doubt(configuration_id)
        if wanted:
            assert work.public_url is not None
            await self._bring(work, account, _urls(work.public_url), wanted, lines)
        if unwanted:
            await self._let_go(work, account, unwanted, lines)

    async def _unwanted_at_rest(self, work: Work) -> tuple[list[DueNumber], list[DueNumber]]:
        """The numbers that are to be answered, and those that are not but have something of ours at the provider. The
        rest needs no look."""
        wanted, unwanted, at_rest = [], [], []
        shared_remains = bool(work.shared.ours) and not work.any_answered
        now = self._now()
        for number in work.numbers:
            if number.answered and work.public_url is not None:
                wanted.append(number)
            elif number.answered:
                at_rest.append((number, state.stranded(number.standing, now=now)))
            elif number.standing.book.ours or shared_remains:
                unwanted.append(number)
            else:
                at_rest.append((number, state.released(number.standing, _why_not(number), now=now)))
        if at_rest:
            async with self._database.write() as connection:
                for number, standing in at_rest:
                    await store.save(connection, number, standing)
        return wanted, unwanted

    async def _lines(self, account: AccountRequests, numbers: Sequence[DueNumber]) -> dict[str, Line]:
        few = [number.e164 for number in numbers] if len(numbers) <= MAX_ONE_BY_ONE else None
        lines = await account.ask("lines", lambda rest: rest.lines(few), deadlines=_LIST_DEADLINES)
        return {line.e164: line for line in lines}

    # --- numbers that are to be answered

    async def _bring(
        self,
        work: Work,
        account: AccountRequests,
        urls: LineUrls,
        numbers: Sequence[DueNumber],
        lines: Mapping[str, Line],
    ) -> None:
        rules = account.adapter.lines
        configuration = work.configuration
        wanted = rules.wanted(account.credentials, urls)
        shared: Review | None = None
        if wanted.shared:
            try:
                found = await account.ask("shared", lambda rest: rest.shared())
            except TroubleError as trouble:
                await self._troubled(numbers, trouble)
                return
            shared = self._review(work, account, work.shared, wanted.shared, found)
        now = self._now()
        pending: list[_Pending] = []
        drifted = 0
        # Before anything is set: what is there, and what is about to be ours.
        async with self._database.write() as connection:
            # As everybody who changes it: the configuration is locked first, then its numbers.
            if not await store.lock(connection, configuration.id, account=configuration.account):
                return
            for number in numbers:
                line = lines.get(number.e164)
                review: Review | None = None
                if line is None:
                    after = state.obstructed(
                        number.standing, state.NOT_OWNED, reference=None, now=now, schedule=self._schedule
                    )
                elif (obstacle := rules.obstacle(line)) is not None:
                    after = state.obstructed(
                        number.standing,
                        obstacle,
                        reference=line.reference,
                        now=now,
                        schedule=self._schedule,
                    )
                else:
                    review = self._review(work, account, number.standing.book, wanted.line, line.settings)
                    after = state.observed(
                        number.standing,
                        review,
                        shared,
                        reference=line.reference,
                        now=now,
                        schedule=self._schedule,
                    )
                    drifted += review.fresh or (shared is not None and shared.fresh)
                # What was deleted or changed meanwhile is not set, nor what it shares: nobody would set it back.
                if not await store.save(connection, number, after) or line is None or review is None:
                    continue
                if review.push or (shared is not None and shared.push):
                    pending.append(_Pending(number, line, review, after))
            if shared is not None and (pending or not shared.push):
                await store.save_shared(
                    connection, configuration.id, shared.book, account=configuration.account
                )
        if drifted:
            metrics.DRIFT.labels(account.adapter.name, "found").inc(drifted)
        if not pending:
            return
        if shared is not None and shared.push:
            shared = await self._push_shared(work, account, wanted, shared, pending)
            if shared is None:
                return
        await self._push_lines(work, account, wanted, shared, pending[:PUSHES])

    async def _push_shared(
        self,
        work: Work,
        account: AccountRequests,
        wanted: Wanted,
        shared: Review,
        pending: Sequence[_Pending],
    ) -> Review | None:
        """What the application is like now; None when the round is over."""
        if not self._lease.holds:
            return None
        push = dict(shared.push)
        try:
            found = await account.ask("set-shared", lambda rest: rest.set_shared(push))
        except TroubleError as trouble:
            await self._troubled([_then(each) for each in pending], trouble)
            return None
        answered = self._review(work, account, shared.book, wanted.shared, found)
        async with self._database.write() as connection:
            await store.save_shared(
                connection, work.configuration.id, answered.book, account=work.configuration.account
            )
        return answered

    async def _push_lines(
        self,
        work: Work,
        account: AccountRequests,
        wanted: Wanted,
        shared: Review | None,
        pending: Sequence[_Pending],
    ) -> None:
        troubles = 0
        for position, each in enumerate(pending):
            if not self._lease.holds:
                return
            async with self._database.read() as connection:
                if not await store.unchanged(connection, each.number):
                    continue  # what is wanted has changed meanwhile: the next round begins anew
            line = each.line
            if each.review.push:
                try:
                    line = await account.ask("set-line", partial(_set, each))
                except TroubleError as trouble:
                    troubles += 1
                    await self._troubled([_then(each)], trouble)
                    if _ends_the_round(trouble, troubles):
                        await self._stop(trouble, [_then(left) for left in pending[position + 1 :]])
                        return
                    continue
            await self._answered(work, account, wanted, shared, each, line)

    async def _answered(
        self,
        work: Work,
        account: AccountRequests,
        wanted: Wanted,
        shared: Review | None,
        each: _Pending,
        line: Line,
    ) -> None:
        review = self._review(work, account, each.after.book, wanted.line, line.settings)
        after = state.observed(
            each.after,
            review,
            shared,
            reference=line.reference,
            now=self._now(),
            schedule=self._schedule,
            pushed=True,
        )
        async with self._database.write() as connection:
            await store.save(connection, each.number, after)
        repaired = each.after.state == "drifted" and after.state == "synced"
        if repaired:
            metrics.DRIFT.labels(account.adapter.name, "repaired").inc()
        log.info(
            "number.set",
            number_id=each.number.number_id,
            settings=sorted(each.review.push),
            state=after.state,
            reason=after.reason,
        )

    def _review(
        self, work: Work, account: AccountRequests, book: state.Book, wanted: Settings, found: Settings
    ) -> Review:
        return state.review(
            book,
            wanted,
            found,
            same=account.adapter.lines.same,
            repair=work.configuration.repair_drift,
            now=self._now(),
        )

    # --- numbers that are not

    async def _let_go(
        self,
        work: Work,
        account: AccountRequests,
        numbers: Sequence[DueNumber],
        lines: Mapping[str, Line],
    ) -> None:
        now = self._now()
        leaving = [
            replace(number, standing=state.letting_go(number.standing, _why_not(number), now=now))
            for number in numbers[:PUSHES]
        ]
        async with self._database.write() as connection:
            for number in leaving:
                await store.save(connection, number, number.standing)
        troubles = 0
        gone: list[DueNumber] = []
        for position, number in enumerate(leaving):
            if not self._lease.holds:
                return
            async with self._database.read() as connection:
                if not await store.unchanged(connection, number):
                    continue
            try:
                await release_line(account, lines.get(number.e164), number.standing.book)
            except TroubleError as trouble:
                troubles += 1
                await self._troubled([number], trouble)
                if _ends_the_round(trouble, troubles):
                    await self._stop(trouble, leaving[position + 1 :])
                    break
            else:
                gone.append(number)
        if not gone:
            return
        configuration = work.configuration
        try:
            await release_shared(
                self._database,
                account,
                configuration.provider,
                configuration.account,
                user_id=configuration.user_id,
            )
        except TroubleError as trouble:
            await self._troubled(gone, trouble)
            return
        now = self._now()
        async with self._database.write() as connection:
            for number in gone:
                await store.save(
                    connection, number, state.released(number.standing, _why_not(number), now=now)
                )

    # --- trouble

    async def _troubled(self, numbers: Sequence[DueNumber], trouble: TroubleError) -> None:
        now = self._now()
        log.warning("sync.trouble", reason=trouble.obstacle.code, numbers=len(numbers))
        async with self._database.write() as connection:
            if trouble.resting:
                rested = now + int((trouble.retry_after_s or 0) * 1000)
                await store.postpone(connection, numbers, due_at=rested)
                return
            for number in numbers:
                after = state.troubled(
                    number.standing,
                    trouble.obstacle,
                    now=now,
                    schedule=self._schedule,
                    retry_after_s=trouble.retry_after_s,
                )
                await store.save(connection, number, after)

    async def _stop(self, trouble: TroubleError, left: Sequence[DueNumber]) -> None:
        """The trouble is not this one number's. The others were not tried."""
        if trouble.obstacle.code not in state.TRANSIENT:
            await self._troubled(left, trouble)
            return
        wait = max(self._schedule.retry, int((trouble.retry_after_s or 0) * 1000))
        async with self._database.write() as connection:
            await store.postpone(connection, left, due_at=self._now() + wait)

    def _now(self) -> int:
        return now_ms(self._clock)


def _ends_the_round(trouble: TroubleError, so_far: int) -> bool:
    code = trouble.obstacle.code
    return (
        trouble.resting
        or code in ("rate-limited", *_REFUSALS)
        or (code in state.TRANSIENT and so_far >= _TOO_MANY_TROUBLES)
    )


def _set(pending: _Pending, rest: Rest) -> Line:
    return rest.set_line(pending.line, dict(pending.review.push))


def _then(pending: _Pending) -> DueNumber:
    return replace(pending.number, standing=pending.after)


def _why_not(number: DueNumber) -> Obstacle:
    return state.NO_WORKFLOW if number.active else state.INACTIVE


def _urls(public_url: str) -> LineUrls:
    return LineUrls(
        inbound=public_url + INBOUND_PATH,
        fallback=public_url + INBOUND_FALLBACK_PATH,
        status=public_url + status_path(),
    )
