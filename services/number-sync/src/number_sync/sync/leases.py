"""One process at a time works on an account of a provider, also when it is in several configurations."""

import hashlib

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from number_sync.database import Clock, Database, now_ms
from number_sync.schema import leases


def lease_name(provider: str, account: str) -> str:
    """At most 64 characters, whatever an account is called."""
    return "sync:" + hashlib.sha256(f"{provider}\n{account}".encode()).hexdigest()[:48]


class Lease:
    """The right to work on one account until `expires_at`. Renew it, and look at `holds` before each step that counts."""

    def __init__(self, database: Database, name: str, owner: str, *, lasts_s: float, clock: Clock) -> None:
        self._database = database
        self._name = name
        self._owner = owner
        self._lasts_ms = int(lasts_s * 1000)
        self._clock = clock
        self.expires_at = 0
        self._ends = False

    @property
    def holds(self) -> bool:
        return not self._ends and now_ms(self._clock) < self.expires_at

    def end(self) -> None:
        """Whoever works under it is to come to an end."""
        self._ends = True

    async def take(self) -> bool:
        """Whether nobody else has it."""
        now = now_ms(self._clock)
        async with self._database.read() as connection:
            held = (await connection.execute(select(leases).where(leases.c.name == self._name))).first()
        if held is not None and held.owner != self._owner and held.expires_at >= now:
            return False
        if held is not None:
            return await self.renew()
        until = now + self._lasts_ms
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    insert(leases).values(name=self._name, owner=self._owner, expires_at=until)
                )
        except IntegrityError:
            return False  # somebody else, just now
        self.expires_at = until
        return True

    async def renew(self) -> bool:
        """Whether it is still (or again) ours."""
        now = now_ms(self._clock)
        until = now + self._lasts_ms
        async with self._database.write() as connection:
            taken = await connection.execute(
                update(leases)
                .where(
                    leases.c.name == self._name,
                    or_(leases.c.owner == self._owner, leases.c.expires_at < now),
                )
                .values(owner=self._owner, expires_at=until)
            )
        self.expires_at = until if taken.rowcount else 0
        return taken.rowcount == 1

    async def release(self) -> None:
        """Let another process go on at once."""
        self.expires_at = 0
        async with self._database.write() as connection:
            await connection.execute(
                delete(leases).where(leases.c.name == self._name, leases.c.owner == self._owner)
            )
