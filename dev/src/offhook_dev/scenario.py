"""The demo's four calls: what is set up, who rings whom, what the caller does, and what must be true afterwards."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import httpx

from carrier_sim import Caller, CallReport
from offhook.topics import CONFIGURATIONS, WORKFLOWS, Topic
from offhook.topics import NUMBERS as NUMBER_RECORDS
from offhook_dev.errors import DevError
from offhook_dev.simulated import AGENT_HANGS_UP, CALLEES, CALLER_HANGS_UP, NUMBERS, PERSON
from offhook_dev.stack import Address

STATUSES: Final = ["initiated", "ringing", "answered", "completed"]


class Running(Protocol):
    """A stack that takes calls, wherever it runs."""

    @property
    def address(self) -> Address: ...

    async def caught_up(self, entries: Mapping[Topic, int], within_s: float = 15.0) -> None: ...


class Carrier(Protocol):
    """One provider, as far as a call into the stack needs it."""

    async def call_in(self, from_number: str, to_number: str, caller: Caller) -> CallReport: ...


class Carriers(Protocol):
    """A simulator, in this process or elsewhere."""

    @property
    def twilio(self) -> Carrier: ...

    @property
    def vonage(self) -> Carrier: ...

    async def next_report(self, provider_call_id: str) -> CallReport: ...


@dataclass(slots=True)
class DemoCall:
    """One of the four calls, while it happens and afterwards. `record` is what the calls API says."""

    provider: str
    direction: str
    expected_end: str
    workflow_run_id: str | None = None
    record: dict[str, Any] = field(default_factory=dict)
    report: CallReport | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> list[str]:
        return list(self.record.get("statuses", ()))

    def as_report(self) -> dict[str, Any]:
        """The call's entry in `var/demo/report.json`."""
        report = self.report
        return {
            "workflow_run_id": self.workflow_run_id,
            "provider": self.provider,
            "direction": self.direction,
            "statuses": self.statuses,
            "end_reason": self.record.get("end_reason"),
            "ended_by": self.record.get("ended_by"),
            "duration_s": self.record.get("duration_s"),
            "caller_audio_ms": self.record.get("caller_audio_ms", 0),
            "agent_audio_ms": report.agent_audio_ms if report else 0,
            "instructions_ms": round(report.instructions_ms[0], 1)
            if report and report.instructions_ms
            else None,
            "response_ms": round(max(report.response_ms), 1) if report and report.response_ms else None,
            "protocol_violations": len(report.violations) if report else 0,
            "problems": self.problems,
        }


class ApiError(DevError):
    """The stack's API answered with an error status."""


class Api:
    """The stack's own API, as its user sees it."""

    def __init__(self, stack: Running) -> None:
        self._client = httpx.AsyncClient(
            base_url=stack.address.http_url + "/api/v1",
            headers={"Authorization": f"Bearer {stack.address.api_key}"},
            timeout=20,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(
        self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return self._read(await self._client.post(path, json=body, headers=headers))

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._read(await self._client.patch(path, json=body))

    async def get(self, path: str) -> dict[str, Any]:
        return self._read(await self._client.get(path))

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            raise ApiError(
                f"{answer.request.method} {answer.request.url.path} was answered {answer.status_code}: {answer.text[:300]}"
            )
        body: dict[str, Any] = answer.json()
        return body


_WORKFLOW: Final = "Demo"
_DEMO_AGENT: Final = re.compile(r"ws://127\.0\.0\.1:\d+")


def _numbers_of(configuration: Mapping[str, Any]) -> str:
    return f"/telephony-configurations/{configuration['configuration_id']}/phone-numbers"


class Scenario:
    """Sets up two accounts with a number each and one workflow, then makes the four calls at once."""

    def __init__(self, stack: Running, sim: Carriers | None = None) -> None:
        self._stack = stack
        self._sim = sim
        self.api = Api(stack)
        self.workflow_id = ""
        self.configurations: dict[str, str] = {}
        self.calls = [
            DemoCall("twilio", "inbound", "caller"),
            DemoCall("twilio", "outbound", "agent"),
            DemoCall("vonage", "inbound", "agent"),
            DemoCall("vonage", "outbound", "callee"),
        ]

    async def set_up(self, credentials: dict[str, dict[str, str]], *, agent_moved: bool = False) -> None:
        """Workflow, configurations and numbers over the API, as an operator would: those that are missing. With workflows,
        but not this one, there is another person's set-up, which is left alone. `agent_moved`: a workflow that is there
        names the demo's agent by an address it does not have any more."""
        workflows = (await self.api.get("/workflows"))["workflows"]
        workflow = next((each for each in workflows if each["name"] == _WORKFLOW), None)
        if workflows and workflow is None:
            return
        agent_url = self._stack.address.agent_url
        if workflow is None:
            wanted = {"agent_url": agent_url, "agent_protocol": "pcm", "sample_rate": 16000}
            workflow = await self.api.post("/workflows", {"name": _WORKFLOW, **wanted})
        elif agent_moved and _DEMO_AGENT.fullmatch(workflow["agent_url"]):
            await self.api.patch(f"/workflows/{workflow['workflow_id']}", {"agent_url": agent_url})
        self.workflow_id = workflow["workflow_id"]
        known = (await self.api.get("/telephony-configurations"))["configurations"]
        # Whatever its owner calls a configuration by now: where the number is, nothing is missing.
        placed = {
            number["number"]: configuration["configuration_id"]
            for configuration in known
            for number in (await self.api.get(_numbers_of(configuration)))["phone_numbers"]
        }
        for provider, number in NUMBERS.items():
            if number in placed:
                self.configurations[provider] = placed[number]
                continue
            name = f"{provider} (simulated)"
            configuration = next((each for each in known if each["name"] == name), None)
            if configuration is None:
                wanted = {"name": name, "provider": provider, "credentials": credentials[provider]}
                configuration = await self.api.post("/telephony-configurations", wanted)
            self.configurations[provider] = configuration["configuration_id"]
            wanted = {"number": number, "workflow_id": self.workflow_id}
            await self.api.post(
                _numbers_of(configuration), {**wanted, "label": "demo", "default_caller_id": True}
            )
        # A call that comes sooner would be told that its number is unknown.
        await self._stack.caught_up(
            {CONFIGURATIONS: len(NUMBERS), NUMBER_RECORDS: len(NUMBERS), WORKFLOWS: 1}, within_s=60.0
        )

    async def run(
        self, changed: Callable[[], None], timeout_s: float = 180.0, settle_s: float = 60.0
    ) -> None:
        """Make the four calls; `changed` is called whenever a call's record has moved on. The calls may take `timeout_s`,
        their records `settle_s` more."""
        assert self._sim is not None
        sim = self._sim
        watcher = asyncio.create_task(self._watch(changed))
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                making = (
                    self._inbound(self.calls[0], sim.twilio, CALLER_HANGS_UP),
                    self._outbound(self.calls[1], sim),
                    self._inbound(self.calls[2], sim.vonage, AGENT_HANGS_UP),
                    self._outbound(self.calls[3], sim),
                )
                for call, made in zip(self.calls, making, strict=True):
                    group.create_task(self._make(call, made))
            await self._settle(settle_s)
        except TimeoutError:
            for call in self.calls:
                if call.report is None:
                    call.problems.append(f"the call had not ended after {timeout_s:.0f} s")
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            with contextlib.suppress(ApiError, httpx.HTTPError):
                await self._refresh()
            changed()
            await self.api.close()
        for call in self.calls:
            self._judge(call)

    @staticmethod
    async def _make(call: DemoCall, made: Coroutine[Any, Any, None]) -> None:
        """A call that cannot be made is one call's problem, not the end of the others."""
        try:
            await made
        except (DevError, httpx.HTTPError) as error:
            call.problems.append(str(error) or type(error).__name__)

    async def _inbound(self, call: DemoCall, carrier: Carrier, script: dict[str, Any]) -> None:
        call.report = await carrier.call_in(PERSON, NUMBERS[call.provider], Caller.from_data(script))

    async def _outbound(self, call: DemoCall, sim: Carriers) -> None:
        placed = await self.api.post(
            "/calls",
            {
                "workflow_id": self.workflow_id,
                "configuration_id": self.configurations[call.provider],
                "to": CALLEES[call.provider],
                "metadata": {"demo": True},
            },
            headers={"Idempotency-Key": f"demo-{call.provider}"},
        )
        call.workflow_run_id = placed["workflow_run_id"]
        while not (provider_call_id := call.record.get("provider_call_id")):
            if call.record.get("status") == "failed":
                return
            await asyncio.sleep(0.05)
        call.report = await sim.next_report(provider_call_id)

    async def _watch(self, changed: Callable[[], None]) -> None:
        while True:
            try:
                if await self._refresh():
                    changed()
            except (ApiError, httpx.HTTPError):
                pass  # call-tracker may be down for a moment; whoever watches looks again
            await asyncio.sleep(0.15)

    async def _refresh(self) -> bool:
        """Read the calls API as any client would; the inbound calls are recognised by provider and direction."""
        found = (await self.api.get("/calls?limit=50"))["calls"]
        moved = False
        for call in self.calls:
            for record in found:
                if (record["provider"], record["direction"]) == (call.provider, call.direction):
                    moved |= record != call.record
                    call.record = record
                    call.workflow_run_id = record["workflow_run_id"]
        return moved

    async def _settle(self, within_s: float) -> None:
        """The last callbacks are on their way through Kafka; give them a moment."""
        async with asyncio.timeout(within_s):
            while any(not self._settled(call) for call in self.calls):
                await asyncio.sleep(0.05)

    @staticmethod
    def _settled(call: DemoCall) -> bool:
        return (
            call.record.get("status") in ("completed", "failed") and call.record.get("caller_audio_ms", 0) > 0
        )

    def _judge(self, call: DemoCall) -> None:
        """Everything that must be true of a call, each in a sentence when it is not."""
        report, record, problems = call.report, call.record, call.problems
        if report is None or not record:
            if not problems:
                problems.append(f"the call failed: {record.get('end_reason', 'no record')}")
            return
        if call.statuses != STATUSES:
            problems.append(f"statuses are {call.statuses}, expected {STATUSES}")
        if record.get("ended_by") != call.expected_end:
            problems.append(f"ended by {record.get('ended_by')}, expected {call.expected_end}")
        if record.get("duration_s") is None:
            problems.append("the record has no duration")
        problems += [f"{violation.code}: {violation.message}" for violation in report.violations]
        problems += report.unmet
        if not report.response_ms:
            problems.append("the agent never answered the caller's words")
        if report.agent_audio_ms < 1000:
            problems.append(f"the caller heard only {report.agent_audio_ms} ms of the agent")
        if record.get("caller_audio_ms", 0) < 1500:
            problems.append(f"the agent heard only {record.get('caller_audio_ms')} ms of the caller")
