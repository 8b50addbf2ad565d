"""Finding a call at its provider of which only the numbers and the time are known.

Never somebody else's: two runs may have dialled the same number from the same number within the same seconds, and the
provider does not tell which of its calls is whose. A call that could be another run's, too, is nobody's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from number_sync.orders import dials
from number_sync.orders.command import Command
from number_sync.orders.context import Account, Context
from offhook.providers.base import Seen

# How far the provider's clock may be off ours, and its seconds are whole ones.
_CLOCK: Final = timedelta(seconds=10)
# A provider that is asked for more calls per second than it begins lets them wait.
_QUEUED: Final = timedelta(seconds=90)
_LONGEST_CALL: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Sought:
    """What is known of a call. `began_at`: when it was, or may have been, asked for."""

    run_id: str
    from_number: str
    to_number: str
    began_at: datetime

    @property
    def after(self) -> datetime:
        return self.began_at - _CLOCK

    def before(self, deadline_s: float) -> datetime:
        return self.began_at + timedelta(seconds=deadline_s) + _QUEUED


@dataclass(frozen=True, slots=True)
class Found:
    """`call` is the one, if it is certain; `candidates` says how many it may have been."""

    call: Seen | None
    candidates: int


async def find(context: Context, command: Command, account: Account, sought: Sought) -> Found:
    """Raises `RestError`."""
    deadline_s = context.settings.deadline_s
    seen = await context.ask(
        command,
        "find-call",
        account,
        lambda rest: rest.find(sought.from_number, sought.to_number, sought.after, sought.before(deadline_s)),
        paced=True,
    )
    # After the answer: what was dialled meanwhile may be in it. Rivals first: one that is settled in between is then taken.
    async with context.database.read() as connection:
        rivals = await dials.unsettled_between(
            connection,
            provider=command.data.provider,
            account=account.configuration.account,
            numbers=(sought.from_number, sought.to_number),
            but=sought.run_id,
            since=int((sought.began_at - _LONGEST_CALL).timestamp() * 1000),
        )
        taken = await dials.runs_of_calls(connection, [one.provider_call_id for one in seen])
    free = [one for one in seen if taken.get(one.provider_call_id, sought.run_id) == sought.run_id]
    return choose(free, [_moment(at) for at in rivals], deadline_s)


def choose(calls: Sequence[Seen], rivals: Iterable[datetime], deadline_s: float) -> Found:
    """The one of `calls` that can be nobody else's. `rivals`: when other runs between the same numbers were dialled whose
    calls are not known either. Pure."""
    others = [Sought("", "", "", began_at) for began_at in rivals]
    own = [call for call in calls if not any(_may_be(call, other, deadline_s) for other in others)]
    return Found(own[0] if len(own) == 1 else None, len(calls))


def _may_be(call: Seen, sought: Sought, deadline_s: float) -> bool:
    """Whether the call's time allows it to be this one; a provider may not tell it before the call's end."""
    return call.began_at is None or sought.after <= call.began_at <= sought.before(deadline_s)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
