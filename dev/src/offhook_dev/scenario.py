"""The demo's four calls: what is set up, who rings whom, what the caller does, and what must be true afterwards."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from carrier_sim import (
    Callee,
    Caller,
    CallReport,
    CarrierSim,
    HangUp,
    Press,
    Say,
    StayUntilHungUp,
    WaitForAgent,
)
from offhook_dev.errors import DevError
from offhook_dev.stack import Stack

# Obviously made up; the simulator believes in them.
TWILIO_ACCOUNT: Final = "AC" + "0" * 31 + "1"
TWILIO_TOKEN: Final = "not-a-real-auth-token-0123456789"
VONAGE_APPLICATION: Final = "aaaaaaaa-0000-4000-8000-000000000001"
VONAGE_KEY: Final = "abcd1234"
VONAGE_SECRET: Final = "NotARealSecret1"
VONAGE_SIGNATURE_SECRET: Final = "not-a-real-signature-secret-0123456789"

# Numbers of the fictional 555-01xx range; the demo rings nobody.
TWILIO_NUMBER: Final = "+14155550100"
VONAGE_NUMBER: Final = "+14155550101"
PERSON: Final = "+14155550142"
TWILIO_CALLEE: Final = "+14155550143"
VONAGE_CALLEE: Final = "+14155550144"

STATUSES: Final = ["initiated", "ringing", "answered", "completed"]

_TALK: Final = (WaitForAgent(timeout_s=10), Say(1.6), WaitForAgent(timeout_s=10))
CALLER_HANGS_UP: Final = Caller(steps=(*_TALK, HangUp()), seed=7)
# The example agent hangs up when it hears `#`.
AGENT_HANGS_UP: Final = Caller(steps=(*_TALK, Press("#"), StayUntilHungUp(10)), seed=8)


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


def vonage_private_key() -> tuple[str, str]:
    """A fresh RSA key pair as PEM: private, public. The provider knows the public half."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


class ApiError(DevError):
    """The stack's API answered with an error status."""


class Api:
    """The stack's own API, as its user sees it."""

    def __init__(self, stack: Stack) -> None:
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

    async def get(self, path: str) -> dict[str, Any]:
        return self._read(await self._client.get(path))

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            raise ApiError(
                f"{answer.request.method} {answer.request.url.path} was answered {answer.status_code}: {answer.text[:300]}"
            )
        body: dict[str, Any] = answer.json()
        return body


class Scenario:
    """Sets up two accounts with a number each and one workflow, then makes the four calls at once."""

    def __init__(self, stack: Stack, sim: CarrierSim) -> None:
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

    @staticmethod
    def provision(sim: CarrierSim, vonage_public_key: str) -> None:
        """Give the simulated carriers the accounts, numbers and people of the demo."""
        sim.twilio.add_account(TWILIO_ACCOUNT, TWILIO_TOKEN)
        sim.vonage.add_application(
            VONAGE_APPLICATION,
            public_key=vonage_public_key,
            api_key=VONAGE_KEY,
            api_secret=VONAGE_SECRET,
            signature_secret=VONAGE_SIGNATURE_SECRET,
        )
        sim.callees[TWILIO_CALLEE] = Callee(answer_after_s=0.5, caller=AGENT_HANGS_UP)
        sim.callees[VONAGE_CALLEE] = Callee(answer_after_s=0.5, caller=CALLER_HANGS_UP)

    async def set_up(self, vonage_private_key_pem: str) -> None:
        """Workflow, configurations and numbers over the API; the numbers' URLs at the providers as an operator would set them."""
        workflow = await self.api.post(
            "/workflows",
            {
                "name": "Demo",
                "agent_url": self._stack.address.agent_url,
                "agent_protocol": "pcm",
                "sample_rate": 16000,
            },
        )
        self.workflow_id = workflow["workflow_id"]
        credentials: dict[str, dict[str, Any]] = {
            "twilio": {"account_sid": TWILIO_ACCOUNT, "auth_token": TWILIO_TOKEN},
            "vonage": {
                "application_id": VONAGE_APPLICATION,
                "private_key": vonage_private_key_pem,
                "api_key": VONAGE_KEY,
                "api_secret": VONAGE_SECRET,
                "signature_secret": VONAGE_SIGNATURE_SECRET,
            },
        }
        for provider, number in (("twilio", TWILIO_NUMBER), ("vonage", VONAGE_NUMBER)):
            configuration = await self.api.post(
                "/telephony-configurations",
                {
                    "name": f"{provider} (simulated)",
                    "provider": provider,
                    "credentials": credentials[provider],
                },
            )
            identity = configuration["configuration_id"]
            self.configurations[provider] = identity
            await self.api.post(
                f"/telephony-configurations/{identity}/phone-numbers",
                {
                    "number": number,
                    "label": "demo",
                    "workflow_id": self.workflow_id,
                    "default_caller_id": True,
                },
            )
        public = self._stack.address.public_url
        inbound = f"{public}/api/v1/telephony/inbound/run"
        fallback = f"{public}/api/v1/telephony/inbound/fallback"
        status = f"{public}/api/v1/telephony/status-callback/inbound"
        self._sim.twilio.add_number(
            TWILIO_ACCOUNT,
            TWILIO_NUMBER,
            voice_url=inbound,
            voice_fallback_url=fallback,
            status_callback=status,
        )
        self._sim.vonage.add_number(VONAGE_APPLICATION, VONAGE_NUMBER)
        self._sim.vonage.set_webhooks(
            VONAGE_APPLICATION,
            answer_url=inbound,
            answer_method="POST",
            event_url=status,
            fallback_answer_url=fallback,
            fallback_method="POST",
        )

    async def run(self, changed: Callable[[], None], timeout_s: float = 45.0) -> None:
        """Make the four calls; `changed` is called whenever a call's record has moved on."""
        watcher = asyncio.create_task(self._watch(changed))
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                group.create_task(
                    self._inbound(self.calls[0], self._sim.twilio, TWILIO_NUMBER, CALLER_HANGS_UP)
                )
                group.create_task(self._outbound(self.calls[1], TWILIO_CALLEE))
                group.create_task(
                    self._inbound(self.calls[2], self._sim.vonage, VONAGE_NUMBER, AGENT_HANGS_UP)
                )
                group.create_task(self._outbound(self.calls[3], VONAGE_CALLEE))
            await self._settle(5.0)
        except TimeoutError:
            for call in self.calls:
                if call.report is None:
                    call.problems.append(f"the call had not ended after {timeout_s:.0f} s")
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            await self._refresh()
            changed()
            await self.api.close()
        for call in self.calls:
            self._judge(call)

    async def _inbound(self, call: DemoCall, carrier: Any, number: str, caller: Caller) -> None:
        call.report = await carrier.call_in(PERSON, number, caller=caller)

    async def _outbound(self, call: DemoCall, callee: str) -> None:
        placed = await self.api.post(
            "/calls",
            {
                "workflow_id": self.workflow_id,
                "configuration_id": self.configurations[call.provider],
                "to": callee,
                "metadata": {"demo": True},
            },
            headers={"Idempotency-Key": f"demo-{call.provider}"},
        )
        call.workflow_run_id = placed["workflow_run_id"]
        while not (provider_call_id := call.record.get("provider_call_id")):
            if call.record.get("status") == "failed":
                return
            await asyncio.sleep(0.05)
        call.report = await self._sim.next_report(provider_call_id)

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


def masked(number: str) -> str:
    """A phone number for the screen."""
    return re.sub(r"(?<=^.{4}).(?=.{3})", "•", number)
