"""All services are rolled while people are talking: no call is cut, and no webhook is refused."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
import websockets
from installation import PROVIDERS, STATUSES, Installation, Json, Outcome, Ringing, outcome_of
from rogue_carrier import RogueCarrier

from carrier_sim import Callee, Caller, CallReport, HangUp, Press, Say, StayUntilHungUp, WaitForAgent
from carrier_sim.caller import Step
from offhook.identities import media_path, status_path
from offhook_dev.postgres import PostgresServer
from offhook_dev.programs import Program
from offhook_dev.rolling import DRAIN_DELAY_S, Answer, Rollout, Tally, tell_to_end
from offhook_dev.stack import RECORDER

pytestmark = [
    pytest.mark.real,
    pytest.mark.alone,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(1800),
]

LIVE: Final = 20
_LONG_EACH: Final = LIVE // 4  # of each provider and direction
_SHORT: Final = 4
# The others have one instance, and two while they are rolled: then nobody else reads on while partitions change hands.
_REPLICAS: Final = {"media-bridge": 2, "webhook-gateway": 2}
_ORDER: Final = ("number-sync", "call-tracker", RECORDER, "webhook-gateway", "media-bridge")
_PATIENCE_S: Final = 30.0
_BEGINS_WITHIN_S: Final = 120.0
_STORED_WITHIN_S: Final = 60.0
_CALLBACKS_PER_S: Final = 10
_LOOKS_EVERY_S: Final = 0.5

_WORDS: Final = (Say(0.6), WaitForAgent(quiet_s=0.5, timeout_s=_PATIENCE_S))
_LONG: Final = (WaitForAgent(timeout_s=_PATIENCE_S), *(_WORDS * 100))
_SHORT_TALK: Final = (WaitForAgent(timeout_s=_PATIENCE_S), *_WORDS)

_DRAINS: Final = {"OFFHOOK_DRAIN_DELAY_S": str(DRAIN_DELAY_S), "OFFHOOK_DRAIN_TIMEOUT_S": "120"}
# What a slow machine brings about is not asked here: bodies that come in pieces, sockets on which nothing comes.
_SETTINGS: Final[dict[str, dict[str, str]]] = {
    "call-tracker": _DRAINS,
    "media-bridge": {**_DRAINS, "OFFHOOK_START_TIMEOUT_S": "20"},
    "webhook-gateway": {**_DRAINS, "OFFHOOK_BODY_TIMEOUT_S": "20"},
    "number-sync": {**_DRAINS, "OFFHOOK_SYNC_RATE_PER_S": "50"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rolled(
    _kafka_can_be_had: None, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """An installation of its own, with several instances of its services on shared databases."""
    names = {service: f"rolling_{service.replace('-', '_')}" for service in ("call-tracker", "number-sync")}
    urls = {service: postgres_server.create_database(name) for service, name in names.items()}
    home = tmp_path_factory.mktemp("rolling")
    async with Installation(
        home, service_env=_SETTINGS, database_urls=urls, recorder=True, replicas=_REPLICAS
    ) as running:
        yield running
    for name in names.values():
        postgres_server.drop_database(name)


@dataclass
class Placed:
    """A call of the load, and how it has to end. `recorded`: all of it can be heard afterwards."""

    ringing: Ringing
    expected: Outcome
    recorded: bool = False

    @property
    def report(self) -> CallReport:
        return self.ringing.call.report


class Load:
    """People who talk, and what the edge answered to everybody."""

    def __init__(self, installation: Installation, tally: Tally) -> None:
        self.installation = installation
        self.tally = tally
        self.numbers: dict[str, str] = {}
        self.recorded: dict[str, str] = {}
        self.workflow = ""
        self.placed: list[Placed] = []
        self.long: list[Placed] = []
        self._over = asyncio.Event()

    async def prepare(self) -> None:
        self.workflow = await self.installation.workflow()
        recorded = await self.installation.workflow(record_audio=True)
        for provider in PROVIDERS:
            self.numbers[provider] = await self.installation.number(provider, self.workflow)
            self.recorded[provider] = await self.installation.number(provider, recorded)
        await self.installation.known()

    @property
    def live(self) -> int:
        return sum(not placed.ringing.task.done() and placed.report.streams > 0 for placed in self.placed)

    # --- calls

    async def call_in(
        self, provider: str, *steps: Step, recorded: bool = False, by: str = "caller"
    ) -> Placed:
        number = (self.recorded if recorded else self.numbers)[provider]
        ringing = self.installation.ring(provider, number, *steps)
        return self._keep(provider, "inbound", Placed(ringing, _ended_by(by), recorded))

    async def call_out(self, provider: str, *steps: Step, by: str = "callee") -> Placed:
        number = self.installation.callee(Callee(0.3, caller=Caller(steps)))
        wish = {
            "workflow_id": self.workflow,
            "configuration_id": self.installation.configurations[provider],
            "to": number,
        }
        answer = await self.ask("POST", "/calls", wish)
        assert answer is not None
        assert answer.status_code == 202, answer.text
        async with asyncio.timeout(_BEGINS_WITHIN_S):
            while not (calls := self.installation.dials(number)):
                await asyncio.sleep(0.05)
        ringing = Ringing(
            answer.json()["workflow_run_id"], calls[0], asyncio.create_task(_report_of(calls[0]))
        )
        return self._keep(provider, "outbound", Placed(ringing, _ended_by(by)))

    def _keep(self, provider: str, direction: str, placed: Placed) -> Placed:
        self.placed.append(placed)
        self.tally.calls[f"{provider} {direction}"] += 1
        return placed

    async def begin_long(self) -> None:
        """Calls that go on until `end_long`."""
        for provider, number in itertools.product(PROVIDERS, range(_LONG_EACH)):
            self.long.append(await self.call_in(provider, *_LONG, recorded=number == 0))
            self.long.append(await self.call_out(provider, *_LONG))
        await self.all_talk()

    async def all_talk(self) -> None:
        """Returns when all long calls have had an answer from their agents once more."""
        await asyncio.gather(*(self.installation.answers(each.ringing, 1) for each in self.long))

    async def end_long(self) -> None:
        for each in self.long:
            if each.report.caller_audio_lost_ms:
                self.tally.blame(
                    f"{each.ringing.run}: {each.report.caller_audio_lost_ms} ms were said to nobody"
                )
            party = "callee" if each.report.direction == "outbound" else "caller"
            each.ringing.call.end(party, "hung-up")  # type: ignore[arg-type]
        await asyncio.gather(*(each.ringing.task for each in self.long))

    async def _short_calls(self, slot: int) -> None:
        """One call after the other: by both carriers, in both directions, ended by either side."""
        kinds = itertools.product(("caller", "agent"), PROVIDERS, ("in", "out"))
        for by, provider, direction in itertools.islice(itertools.cycle(kinds), slot, None):
            if self._over.is_set():
                return
            end = (Press("#"), StayUntilHungUp(_PATIENCE_S)) if by == "agent" else (HangUp(),)
            if direction == "in":
                placed = await self.call_in(provider, *_SHORT_TALK, *end, by=by)
            else:
                placed = await self.call_out(
                    provider, *_SHORT_TALK, *end, by="callee" if by == "caller" else by
                )
            await placed.ringing.task

    # --- requests

    async def ask(self, method: str, path: str, body: Json | None = None) -> httpx.Response | None:
        """The API, as a program uses it."""
        sent, began = time.time(), time.monotonic()
        try:
            answer = await self.installation.demo.client.request(method, path, json=body)
        except httpx.TransportError as error:
            self.tally.requests.append(Answer(sent, (time.monotonic() - began) * 1000, None))
            self.tally.blame(f"{method} {path}: {error!r}")
            return None
        self.tally.requests.append(Answer(sent, (time.monotonic() - began) * 1000, answer.status_code))
        if answer.status_code >= 400:
            self.tally.blame(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer

    async def _look_around(self) -> None:
        for path in itertools.cycle(("/calls?limit=5", "/workflows")):
            await self.ask("GET", path)
            self.tally.live.append(self.live)
            await asyncio.sleep(_LOOKS_EVERY_S)

    async def _call_back(self, carrier: RogueCarrier, provider: str) -> None:
        """A carrier that repeats itself: the last word about a call that is over, some times a second."""
        order = await carrier.order(provider, self.numbers[provider])
        fields = carrier.twilio_call("", order.call_id, CallStatus="completed", CallDuration="3")
        event = {
            "uuid": order.call_id, "conversation_uuid": "CON-1", "status": "completed", "direction": "inbound",
            "timestamp": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip
        while True:
            sent, began = time.time(), time.monotonic()
            status, trouble = None, ""
            try:
                if provider == "twilio":
                    status = (await carrier.twilio(status_path(), fields)).status_code
                else:
                    status = (await carrier.vonage(status_path(), event)).status_code
            except httpx.TransportError as error:
                trouble = repr(error)
            took = time.monotonic() - began
            self.tally.webhooks.append(Answer(sent, took * 1000, status, trouble))
            await asyncio.sleep(max(0.0, 1 / _CALLBACKS_PER_S - took))

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Short calls, callbacks and requests meanwhile. The short calls have ended when it returns."""
        carrier = RogueCarrier(self.installation)
        work = self.installation.in_background
        others = [work(self._call_back(carrier, provider)) for provider in PROVIDERS]
        others.append(work(self._look_around()))
        short = [work(self._short_calls(slot)) for slot in range(_SHORT)]
        try:
            yield
            self._over.set()
            await asyncio.gather(*short)
        finally:
            for task in (*others, *short):
                task.cancel()
            for ended in await asyncio.gather(*others, return_exceptions=True):
                if not isinstance(ended, asyncio.CancelledError):
                    self.tally.blame(f"the load itself failed: {ended!r}")
            await carrier.http.aclose()

    # --- afterwards

    async def judge(self) -> None:
        for placed in self.placed:
            began = time.time() - (time.monotonic() - placed.report._begun)
            self.tally.webhooks += [
                Answer(began + each.at_ms / 1000, each.ms, each.status_code, each.error or "")
                for each in placed.report.callbacks
            ]
        self.tally.webhooks.sort(key=lambda answer: answer.sent)
        for answer in self.tally.webhooks:
            if answer.kind != "2xx":
                self.tally.blame(f"a webhook: {answer}")
        await asyncio.gather(*(self._judge(placed) for placed in self.placed))

    async def _judge(self, placed: Placed) -> None:
        report, run = placed.report, placed.ringing.run
        about = f"{report.provider} {report.direction} {run}"
        for one in report.violations:
            self.tally.blame(f"{about}: {one.code} {one.message}")
        for unmet in report.unmet:
            self.tally.blame(f"{about}: {unmet}")
        if report.streams != 1:
            self.tally.blame(f"{about}: it had {report.streams} streams")
        record = await self.installation.record(run, within_s=60)
        if outcome_of(record) != placed.expected:
            self.tally.blame(f"{about}: its record says {outcome_of(record)}")
        stopped = [event["data"] for event in record["events"] if "media.stopped" in event["type"]]
        self.tally.gaps_ms += [data["quality"]["longest_gap_ms"] for data in stopped]
        if placed.recorded:
            gaps = await self._gaps_of_recording(run)
            if gaps:
                self.tally.blame(f"{about}: its recording has gaps: {gaps}")
            self.tally.recorded += 1

    async def _gaps_of_recording(self, run: str) -> Json | None:
        """In ms, once the recorder has written it; None: there are none."""
        path = f"{self.installation.stack.address.http_url}/calls/{run}/waveform.json"
        async with asyncio.timeout(_STORED_WITHIN_S):
            while (shape := await self.installation.demo.client.get(path)).status_code == 404:
                await asyncio.sleep(0.2)
        return shape.json()["gaps_ms"] or None


def _ended_by(party: str) -> Outcome:
    return STATUSES, f"{party}-hung-up", party


async def _report_of(call: Any) -> CallReport:
    await call.until_over()
    report: CallReport = call.report
    return report


def bridges_of(record: Json, kind: str = "started") -> list[str]:
    """Who carried the call's streams, in order."""
    return [
        event["source"].rpartition("/")[2] for event in record["events"] if f"media.{kind}" in event["type"]
    ]


async def takes_no_more(bridge: Program) -> None:
    """Wait until a bridge that was told to end refuses new sockets."""
    url = f"ws://127.0.0.1:{bridge.port}{media_path('w', 'u', 'r')}"
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            with pytest.raises(websockets.InvalidStatus) as refusal:
                await websockets.connect(url, proxy=None)
            if refusal.value.response.status_code == 503:
                return
            await asyncio.sleep(0.05)


async def live_page(installation: Installation) -> str:
    """Follow a live page to its end; what it said last."""
    origin = installation.stack.address.http_url
    last = ""
    async with installation.demo.client.stream("GET", f"{origin}/calls/live", timeout=None) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            last = line if line.startswith("event:") else last
    return last


def spools(installation: Installation, instances: list[Program]) -> list[str]:
    """Events that ended processes have left on their disks."""
    folders = (installation.stack.state(instance.name) for instance in instances)
    return [str(path) for folder in folders for path in folder.glob("spool/*.spool")]


async def test_while_every_service_is_rolled_no_call_is_cut_and_no_webhook_is_refused(
    rolled: Installation, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally()
    load = Load(rolled, tally)
    rollout = Rollout(rolled.stack)
    await load.prepare()
    try:
        await load.begin_long()
        async with load.going_on():
            page = rolled.in_background(live_page(rolled))
            old: list[Program] = []
            for service in _ORDER:
                ending = rolled.stack.instances(service)
                old += ending
                roll = await rollout.replace(service)
                tally.rolls.append(roll)
                roll.live_calls = load.live
                await load.all_talk()
                if service == "media-bridge":
                    # The old bridges go on with their calls until the last one has ended.
                    assert all(bridge.running for bridge in ending)
                    await load.end_long()
                await rollout.finish(roll)
        async with asyncio.timeout(30):
            assert await page == "event: ended"
        await load.judge()
        new = {bridge.name.replace(".", "-") for bridge in rolled.stack.instances("media-bridge")}
        for placed in load.long:
            record = await rolled.record(placed.ringing.run)
            if new.intersection(bridges_of(record)) or bridges_of(record) != bridges_of(record, "stopped"):
                tally.blame(f"{placed.ringing.run}: carried by {bridges_of(record)}")
            tally.carried_over += 1
        last = await rolled.record(load.placed[-1].ringing.run)
        assert new.issuperset(bridges_of(last))
        waiting = (await rolled.demo.client.get("/dead-letters")).json()
        assert waiting["dead_letters"] == [], waiting
    finally:
        record_property("figures", tally.table())
    assert not tally.wrong, "\n".join(tally.wrong)
    assert [code for roll in tally.rolls for code in roll.exit_codes] == [0] * len(old)
    assert spools(rolled, old) == []
    assert min(roll.live_calls for roll in tally.rolls) >= LIVE


async def test_calls_longer_than_the_drain_are_handed_over_and_new_ones_go_elsewhere(
    rolled: Installation,
) -> None:
    load = Load(rolled, Tally())
    rollout = Rollout(rolled.stack)
    await load.prepare()
    before = rolled.stack.instances("media-bridge")
    deadline = await rolled.stack.instance("media-bridge", {"OFFHOOK_DRAIN_TIMEOUT_S": "1"}).start()
    told_twice, idle, heir = [
        await rolled.stack.instance("media-bridge", {"OFFHOOK_DRAIN_TIMEOUT_S": "3600"}).start()
        for _ in range(3)
    ]
    calls = []
    for bridge, provider in zip((deadline, told_twice), PROVIDERS, strict=True):
        await rollout.route("media-bridge", [bridge])
        # Words that fall into the hand-over are said again soon.
        calls.append(rolled.endless(provider, load.numbers[provider]))
        await rolled.answers(calls[-1], 1)
    # The edge does not notice that the others are about to end, or have ended.
    await rollout.route("media-bridge", [told_twice, idle, heir])
    for bridge in (told_twice, idle):
        tell_to_end(bridge)
    assert await rollout.end_of(idle) == 0
    await takes_no_more(told_twice)
    elsewhere = [rolled.endless(provider, load.numbers[provider]) for provider in PROVIDERS]
    await asyncio.gather(*(rolled.answers(call, 1) for call in elsewhere))
    assert told_twice.running
    await rollout.route("media-bridge", [heir])
    for bridge in (told_twice, deadline):
        tell_to_end(bridge)
    assert await rollout.end_of(told_twice) == 0
    assert await rollout.end_of(deadline) == 0
    await asyncio.gather(*(rolled.answers(call, 2) for call in (*calls, *elsewhere)))
    for call in (*calls, *elsewhere):
        call.call.end("caller", "hung-up")
        await call.task
        record = await rolled.record(call.run, lambda record: outcome_of(record) == _ended_by("caller"))
        names = [bridge.name.replace(".", "-") for bridge in (deadline, told_twice, heir)]
        if call in calls:
            assert bridges_of(record) == [names[calls.index(call)], names[2]]
            stopped = [
                event["data"]["reason"] for event in record["events"] if "media.stopped" in event["type"]
            ]
            assert stopped[0] == "shutdown"
        else:
            assert bridges_of(record) == [names[2]]
            assert [one.code for one in call.call.report.violations] == []
    await rollout.route("media-bridge", [*before, heir])
