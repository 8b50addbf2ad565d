"""What a filter means, and that no combination of filters makes the database sort or read what is not shown."""

import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from events_of_calls import NOON, Call
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.store import CallFilter, Database, Position, Store
from call_tracker.store.figures import figures
from call_tracker.store.searching import Fragment, find, fragment, micros
from offhook_dev import many_calls

USER: Final = "user-1"
MANY: Final = 100_000
UNTIL: Final = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("+1 (415) 555-01", Fragment(("+141555501",))),
        ("0044 20 79", Fragment(("+442079",))),
        ("4155", Fragment(("+4155", "4155"), ("4155",))),
        ("020 7946", Fragment(("+0207946", "0207946"), ("0207946", "207946"))),
        ("0100", Fragment(("+0100", "0100"), ("0100",))),
        ("0000", None),  # 00 is the international prefix, and what remains is too short
        ("415", None),
        ("sip:alice", None),
        ("+1415%", None),
        ("٣٤٥٦", None),
    ],
)
def test_a_fragment_is_the_beginning_or_the_end_of_a_number(typed: str, found: Fragment | None) -> None:
    assert fragment(typed) == found


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    database = Database(database_url)
    await database.migrate()
    yield Store(database, lambda: NOON)
    await database.close()


async def runs(store: Store, **which: Any) -> list[str]:
    found, _ = await store.calls(which.pop("user", USER), CallFilter(**which), limit=50)
    return [record.workflow_run_id for record in found]


async def test_calls_are_found_by_what_people_know_of_them(store: Store) -> None:
    first = Call("run-1", call_id="CA1")
    second = Call("run-2", call_id="CA2")
    other = Call("run-3", call_id="CA3", user="user-2")
    await store.apply([*first.twilio_outbound(), second.received(60), other.requested(90)])
    assert await runs(store) == ["run-2", "run-1"]
    assert await runs(store, words="run-1") == ["run-1"]
    assert await runs(store, words=" CA2 ") == ["run-2"]
    assert await runs(store, words="CA3") == []  # somebody else's
    assert await runs(store, words="0199") == ["run-2", "run-1"]
    assert await runs(store, number="+1 415 555", words="0100") == ["run-2", "run-1"]
    assert await runs(store, number="+44 415") == []
    assert await runs(store, words="no such thing") == []
    assert await runs(store, end_reason="callee-hung-up") == ["run-1"]
    assert await runs(store, since=NOON + timedelta(seconds=30)) == ["run-2"]
    assert await runs(store, until=NOON + timedelta(seconds=30)) == ["run-1"]
    assert await runs(store, active=True, number="0199") == ["run-2"]
    assert await runs(store, words="CA1", direction="inbound") == []


async def test_a_call_from_a_number_to_itself_is_one_call(store: Store) -> None:
    call = Call()
    await store.apply([call.requested().__class__(**_with_numbers(call, "+14155550100", "+14155550100"))])
    assert await runs(store, number="0100") == ["run-1"]


def _with_numbers(call: Call, from_number: str, to_number: str) -> dict[str, Any]:
    told = call.requested()
    data = told.data.model_copy(update={"from_number": from_number, "to_number": to_number})
    return {field: getattr(told, field) for field in told.__dataclass_fields__} | {"data": data}


async def test_pages_of_a_number_follow_each_other_without_a_gap(store: Store) -> None:
    for number in range(12):
        await store.apply([Call(f"run-{number:02d}", call_id=f"CA{number}").received(number // 2)])
    found: list[str] = []
    after: Position | None = None
    while True:
        page, after = await store.calls(USER, CallFilter(number="5550199"), limit=5, after=after)
        found += [record.workflow_run_id for record in page]
        if after is None:
            break
    assert found == sorted(found, reverse=True)
    assert len(found) == len(set(found)) == 12


# --- a hundred thousand calls


@pytest.fixture(scope="module")
def many_url(postgres_server: Any) -> str:
    return str(postgres_server.create_database("many_calls"))


@pytest.fixture
async def many(many_url: str) -> AsyncIterator[Database]:
    """A database with a hundred thousand calls of one user, and some of another."""
    database = Database(many_url)
    await database.migrate()
    async with database.read() as connection:
        filled = (await connection.execute(text("SELECT count(*) FROM calls"))).scalar_one()
    if not filled:
        await many_calls.fill(many_url, MANY, user_id=USER, until=UNTIL)
        await many_calls.fill(many_url, 100, user_id="user-2", until=UNTIL, seed=5)
    yield database
    await database.close()


FILTERS: Final[dict[str, Any]] = {
    "status": ("completed", "failed"),
    "direction": ("inbound",),
    "workflow_id": ("workflow-3", "no-such"),
    "provider": ("vonage",),
    "end_reason": ("busy", "invalid-number"),
    "number": ("+14155550101", "0101", "+44"),
    "active": (True, False),
    "time": ("day", "old"),
}


def _combinations(most: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{}]
    for size in range(1, most + 1):
        for names in itertools.combinations(FILTERS, size):
            found += [
                dict(zip(names, values, strict=True))
                for values in itertools.product(*(FILTERS[name] for name in names))
            ]
    found.append({name: values[0] for name, values in FILTERS.items() if name != "active"})
    return found


def _filter(chosen: dict[str, Any]) -> CallFilter:
    chosen = dict(chosen)
    match chosen.pop("time", None):
        case "day":
            chosen |= {"since": UNTIL - timedelta(days=1)}
        case "old":
            chosen |= {"since": UNTIL - timedelta(days=20), "until": UNTIL - timedelta(days=19)}
    if chosen.get("number") == "+44":
        chosen["number"] = "+4420"
    return CallFilter(**chosen)


class Plans:
    """The plan of every statement that a connection runs from now on."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.nodes: list[dict[str, Any]] = []
        self._connection = connection

    async def of(self, work: Any) -> list[dict[str, Any]]:
        statements: list[tuple[str, Any]] = []

        def before(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            statements.append((statement, parameters))

        engine = self._connection.sync_connection
        event.listen(engine, "before_cursor_execute", before)
        try:
            await work
        finally:
            event.remove(engine, "before_cursor_execute", before)
        nodes: list[dict[str, Any]] = []
        for statement, parameters in statements:
            explained = await self._connection.exec_driver_sql(
                f"EXPLAIN (FORMAT JSON) {statement}", tuple(parameters)
            )
            found = explained.scalar_one()
            plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
            nodes += _flat(plan)
        return nodes


def _flat(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _flat(child))]


async def test_no_combination_of_filters_sorts_or_reads_the_whole_table(many: Database) -> None:
    async with many.read() as connection:
        plans = Plans(connection)
        bad: list[str] = []
        behind = Position(micros(UNTIL - timedelta(hours=6)), "8")
        for chosen in _combinations(3):
            for after in (None, behind) if len(chosen) < 3 else (None,):
                nodes = await plans.of(find(connection, USER, _filter(chosen), limit=50, after=after))
                kinds = {node["Node Type"] for node in nodes}
                if kinds & {"Sort", "Incremental Sort", "Seq Scan", "Bitmap Heap Scan", "Parallel Seq Scan"}:
                    bad.append(f"{chosen} {after}: {kinds}")
    assert not bad, "\n".join(bad[:20])


async def test_the_figures_of_a_day_read_nothing_but_an_index(many: Database) -> None:
    async with many.read() as connection:
        nodes = await Plans(connection).of(figures(connection, USER, UNTIL - timedelta(days=1), UNTIL))
    scans = [node for node in nodes if "Scan" in node["Node Type"]]
    assert [(node["Node Type"], node["Index Name"]) for node in scans] == [
        ("Index Only Scan", "ix_calls_newest")
    ]
    assert not [node for node in nodes if node["Node Type"] == "Sort"]


async def test_every_call_of_a_hundred_thousand_is_on_one_page(many: Database) -> None:
    store = Store(many, lambda: UNTIL)
    for which in (CallFilter(), CallFilter(status="failed"), CallFilter(number="0101")):
        found: list[str] = []
        after: Position | None = None
        while len(found) < 2000:
            page, after = await store.calls(USER, which, limit=200, after=after)
            found += [str(record.requested_at) for record in page]
            assert {record.user_id for record in page} == {USER}
            if after is None:
                break
        assert found == sorted(found, reverse=True)
        assert len(found) >= 2000
