"""Hundreds of calls while callbacks get lost and programs are killed: every call ends, once, as it really did."""

import asyncio
import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
import redis.asyncio
from installation import ENDED, PROVIDERS, Installation, Json, Ringing, agent_that

from carrier_sim import Callee, CallReport, Faults
from offhook.identities import INBOUND_FALLBACK_PATH, INBOUND_PATH, status_path
from offhook_agent import Call
from offhook_dev import soak
from offhook_dev.simulated import VONAGE_CREDENTIALS, credentials

CALLS: Final = int(os.environ.get("OFFHOOK_SOAK_CALLS", "300"))
_AT_ONCE: Final = 15
_CALL_WITHIN_S: Final = 150.0
# On a machine that is too slow for all of them, calls that have not begun by then are left out.
_BEGUN_WITHIN_S: Final = 140.0
_SETTLED_WITHIN_S: Final = 400.0
_ASKED_WITHIN_S: Final = 60.0
_VICTIMS: Final = ("call-tracker", "number-sync", "webhook-gateway", "kafka")
_ROUNDS: Final = 2
_DEAD_S: Final = 1.0
_ALIVE_S: Final = 4.0

# Real silences are minutes; the machine that tests has none.
_SETTINGS: Final[dict[str, dict[str, str]]] = {
    "call-tracker": {"OFFHOOK_SILENCE_FACTOR": "0.1"},
    "number-sync": {
        "OFFHOOK_OUTCOME_GRACE_S": "8",
        "OFFHOOK_PROVIDER_DEADLINE_S": "6",
        "OFFHOOK_SYNC_RATE_PER_S": "50",
    },
}
# A third account at each provider, which may have one call at a time.
_LIMITED: Final[dict[str, dict[str, str]]] = {
    "twilio": {"account_sid": "AC" + "0" * 31 + "3", "auth_token": "not-a-real-auth-token-3333333333"},
    "vonage": VONAGE_CREDENTIALS | {"application_id": "aaaaaaaa-0000-4000-8000-000000000003"},
}


@dataclass
class Placed:
    """A wish that came true, or did not: `run` None was refused, `report` None was never dialled."""

    wish: soak.Wish
    number: str = ""
    run: str | None = None
    refusal: str = ""
    report: CallReport | None = None
    trouble: str = ""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def soaked(
    _kafka_can_be_had: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """An installation of its own: what is killed here is nobody else's."""
    async with Installation(tmp_path_factory.mktemp("soak"), service_env=_SETTINGS) as running:
        yield running


class Soak:
    """Places the calls and keeps what is known about each."""

    def __init__(self, installation: Installation, tally: soak.Tally) -> None:
        self.installation = installation
        self.tally = tally
        self.placed: list[Placed] = []
        self.workflows: dict[str, str] = {}
        self.limited: dict[str, str] = {}
        self.numbers: dict[tuple[str, str], str] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._over = asyncio.Event()
        self._until = 0.0

    async def prepare(self, listening: str, leaving: str) -> None:
        """Two workflows: one whose agent listens for ever, one whose agent leaves."""
        installation = self.installation
        self.workflows = {
            "listens": await installation.workflow(listening),
            "leaves": await installation.workflow(leaving),
        }
        for provider, (name, workflow) in itertools.product(PROVIDERS, self.workflows.items()):
            self.numbers[provider, name] = await installation.number(provider, workflow)
        keys = credentials(installation.home)
        urls = {
            "answer_url": installation.origin + INBOUND_PATH,
            "event_url": installation.origin + status_path(),
        }
        twilio, vonage = _LIMITED["twilio"], _LIMITED["vonage"]
        installation.sim.twilio.add_account(twilio["account_sid"], twilio["auth_token"])
        installation.sim.vonage.add_application(
            **vonage, private_key=keys["vonage"]["private_key"], **urls, answer_method="POST",
            fallback_answer_url=installation.origin + INBOUND_FALLBACK_PATH, fallback_method="POST",
        )  # fmt: skip
        for provider in PROVIDERS:
            account = _LIMITED[provider] | (
                {"private_key": keys["vonage"]["private_key"]} if provider == "vonage" else {}
            )
            self.limited[provider] = await installation.configuration(
                provider, account, name=f"{provider} with a limit", max_concurrent_calls=1
            )
            number = self.numbers[provider, "limited"] = f"+1415555019{len(self.limited)}"
            if provider == "twilio":
                installation.sim.twilio.add_number(twilio["account_sid"], number)
            else:
                installation.sim.vonage.add_number(vonage["application_id"], number)
            await installation.demo.post(
                f"/telephony-configurations/{self.limited[provider]}/phone-numbers",
                {"number": number, "workflow_id": self.workflows["listens"], "default_caller_id": True},
            )
        await installation.known()

    # --- the calls -------------------------------------------------------------------------------------------------------

    async def place_all(self) -> None:
        """All calls, some at a time, while one program after the other is killed."""
        began = time.monotonic()
        self._until = began + _BEGUN_WITHIN_S
        killing = asyncio.create_task(self._kill_in_turn())
        try:
            await asyncio.gather(*(self._place(wish) for wish in self.tally.wishes))
        finally:
            self._over.set()
            await killing
        self.tally.seconds = time.monotonic() - began

    async def _kill_in_turn(self) -> None:
        servers = self.installation.stack.servers
        for name in _VICTIMS * _ROUNDS:
            if await self._is_over_within(_ALIVE_S):
                return
            servers[name].kill()
            self.tally.kills[name] += 1
            await asyncio.sleep(_DEAD_S)
            await servers[name].start()

    async def _is_over_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    async def _place(self, wish: soak.Wish) -> None:
        async with self._slots:
            if time.monotonic() > self._until:
                return
            placed = Placed(wish)
            self.placed.append(placed)
            try:
                async with asyncio.timeout(_CALL_WITHIN_S):
                    if wish.direction == "inbound":
                        await self._ring(placed)
                    else:
                        await self._dial(placed)
            except TimeoutError:
                placed.trouble = f"not over after {_CALL_WITHIN_S:g} s"

    async def _ring(self, placed: Placed) -> None:
        wish = placed.wish
        name = {"agent-hangs-up": "leaves", "at-the-limit": "limited"}.get(wish.kind, "listens")
        placed.number = self.numbers[wish.provider, name]
        ringing = self.installation.ring(wish.provider, placed.number, *wish.caller.steps, faults=wish.faults)
        placed.run = ringing.run
        placed.report = ringing.call.report
        if wish.kind == "caller-gives-up":
            await asyncio.sleep(0.02 * (wish.ordinal % 5))
            ringing.call.end("caller", "hung-up")
        elif wish.kind == "operator-hangs-up":
            await self._hang_up_while(ringing.run, ringing)
        await asyncio.shield(ringing.task)

    async def _dial(self, placed: Placed) -> None:
        wish = placed.wish
        name = "leaves" if wish.kind == "agent-hangs-up" else "listens"
        placed.number = (
            "+141555501" if wish.kind == "invalid-number" else self.installation.callee(wish.callee)
        )
        configuration = (self.limited if wish.kind == "at-the-limit" else self.installation.configurations)[
            wish.provider
        ]
        body = {
            "workflow_id": self.workflows[name],
            "configuration_id": configuration,
            "to": placed.number,
            "ring_timeout_s": soak.RING_TIMEOUT_S if wish.kind == "no-answer" else 30,
        }
        answer = await self._insist(
            "POST", "/calls", json=body, headers={"Idempotency-Key": f"soak-{wish.ordinal}"}
        )
        if answer.status_code != 202:
            placed.refusal = str(answer.json().get("reason", answer.status_code))
            return
        placed.run = answer.json()["workflow_run_id"]
        while not (calls := self.installation.dials(placed.number)):
            record = await self.installation.look(placed.run)
            if record is not None and record["status"] in ENDED:
                return
            await asyncio.sleep(0.2)
        call = calls[0]
        placed.report = call.report
        if wish.kind in ("operator-hangs-up", "canceled-while-ringing"):
            ringing = Ringing(placed.run, call, asyncio.create_task(_report_of(call)))
            await self._hang_up_while(placed.run, ringing, answered=wish.kind == "operator-hangs-up")
        await call.until_over()

    async def _hang_up_while(self, run: str, ringing: Ringing, *, answered: bool = True) -> None:
        while answered and not ringing.call.report.streams and not ringing.call.is_over:
            await asyncio.sleep(0.05)
        while not ringing.call.is_over:
            # An inbound call's record may be a moment behind, and a killed program forgets no order, but may miss one.
            answer = await self._insist("POST", f"/calls/{run}/hangup", json={})
            if answer.status_code != 404:
                return
            await asyncio.sleep(0.2)

    async def _insist(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Ask until somebody answers, as a good client does."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await self.installation.demo.client.request(method, path, **request)
                if answer.status_code < 500:
                    return answer
            await asyncio.sleep(0.3)

    # --- the records -----------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Wait until all calls have ended, for as long as reconciliation may take."""
        began = time.monotonic()
        while time.monotonic() - began < _SETTLED_WITHIN_S:
            if not await self._records(active=True) and not await self._leases():
                break
            await asyncio.sleep(0.5)
        self.tally.settled_s = time.monotonic() - began

    async def judge(self) -> None:
        """Compare every record with what the carrier knows."""
        tally = self.tally
        tally.wishes = [placed.wish for placed in self.placed]
        tally.count_callbacks(placed.report for placed in self.placed if placed.report is not None)
        records = await self._records()
        tally.records["all"] = len(records)
        by_call = Counter(
            record["provider_call_id"] for record in records if record["provider_call_id"] is not None
        )
        for call_id, count in by_call.items():
            if count > 1:
                tally.blame("with several records", f"{call_id} has {count}")
        for placed in self.placed:
            await self._judge(placed)
        for lease in await self._leases():
            tally.blame("leases left over", lease)

    async def _judge(self, placed: Placed) -> None:
        tally, wish, report = self.tally, placed.wish, placed.report
        about = f"{wish.ordinal} {wish.provider} {wish.direction} {wish.kind} {placed.run}"
        if wish.direction == "outbound":
            dials = len(self.installation.dials(placed.number))
            if placed.refusal:
                tally.refused[placed.refusal] += 1
                if dials:
                    tally.blame("dialled although refused", about)
                return
            if dials > 1:
                tally.blame("dialled twice", about)
        assert placed.run is not None
        try:
            record = await self._look(placed.run)
        except (TimeoutError, httpx.HTTPStatusError) as error:
            tally.blame("cannot be asked", f"{about}: {error!r}")
            return
        if record is None:
            if wish.direction == "outbound" or (report is not None and soak.was_served(report)):
                tally.blame("without a record", about)
            else:
                tally.records["met nobody"] += 1
            return
        tally.outcomes[record["status"]] += 1
        tally.records["reconciled"] += bool(record.get("reconciled"))
        tally.records["with a price"] += record["price"] is not None
        seen = f"{about}: {record['status']} {record['end_reason']} {record['ended_by']}"
        if record["status"] not in ENDED:
            tally.blame("calls without an end", f"{seen} {placed.trouble}")
            return
        if report is None:
            # Never dialled: the record has to say so.
            if record["status"] != "failed" or record["end_reason"] != "dial-failed":
                tally.blame("with a wrong outcome", f"{seen}, and it was never dialled")
            return
        truth = f"; really {report.status} {report.ended_by} {report.end_cause}, {report.faults}"
        if record["status"] != soak.status_of(report):
            tally.blame("with a wrong outcome", seen + truth)
        reasons = soak.reasons_of(wish, report)
        if reasons is not None and (record["end_reason"], record["ended_by"]) not in reasons:
            tally.blame("with a wrong cause", seen + truth)
        logged = {
            event["data"]["provider_status"]
            for event in record["events"]
            if event["type"] == "offhook.call.status.v1"
        }
        for word in soak.acknowledged(report):
            if word not in logged:
                tally.blame("acknowledged and lost", f"{word} of {seen}{truth}")

    async def _look(self, run: str) -> Json | None:
        """The record of a call; None: there is none. Raises `TimeoutError` when nobody answers."""
        async with asyncio.timeout(_ASKED_WITHIN_S):
            answer = await self._insist("GET", f"/calls/{run}")
        if answer.status_code == 404:
            return None
        record: Json = answer.raise_for_status().json()
        return record

    async def _leases(self) -> list[str]:
        client = redis.asyncio.from_url(self.installation.stack.redis_url, decode_responses=True)
        try:
            return [key async for key in client.scan_iter("offhook:leases:*")]
        finally:
            await client.aclose()

    async def _records(self, active: bool | None = None) -> list[Json]:
        found: list[Json] = []
        query: dict[str, Any] = {"limit": 200} | ({} if active is None else {"active": active})
        while True:
            answer = await self.installation.demo.client.get("/calls", params=query)
            answer.raise_for_status()
            page = answer.json()
            found += page["calls"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]


async def _report_of(call: Any) -> CallReport:
    await call.until_over()
    report: CallReport = call.report
    return report


async def listen(call: Call) -> None:
    async for _ in call.audio():
        pass


async def leave(call: Call) -> None:
    await asyncio.sleep(0.4)


def test_the_plan_of_a_soak_has_every_kind_of_call_at_both_providers() -> None:
    wishes = soak.plan(300, PROVIDERS)
    kinds = {(wish.direction, wish.kind) for wish in wishes}
    assert {kind for direction, kind in kinds if direction == "outbound"} == set(soak.OUTBOUND)
    assert {kind for direction, kind in kinds if direction == "inbound"} == set(soak.INBOUND)
    assert len({(wish.provider, wish.direction, wish.kind) for wish in wishes}) == 2 * len(kinds)
    assert any(wish.faults == Faults(drop=1.0) for wish in wishes)
    assert wishes == soak.plan(300, PROVIDERS)


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(1800)
async def test_every_call_ends_once_as_it_really_did_whatever_is_lost_or_killed(
    soaked: Installation, record_property: Callable[[str, object], None]
) -> None:
    tally = soak.Tally(soak.plan(CALLS, PROVIDERS))
    async with agent_that(listen) as listening, agent_that(leave) as leaving:
        running = Soak(soaked, tally)
        await running.prepare(listening, leaving)
        soaked.sim.callees.default = Callee(outcome="failed")
        await running.place_all()
        await running.settle()
        await running.judge()
    record_property("figures", tally.table())
    assert not tally.wrong, tally.complaints()
    assert set(tally.kills) == set(_VICTIMS)
    assert tally.refused["limit-reached"] > 0
    assert len(tally.wishes) >= CALLS / 3
