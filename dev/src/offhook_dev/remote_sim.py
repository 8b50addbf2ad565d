"""A carrier simulator that runs elsewhere, as a container does: its control API behind the simulator's own names."""

import dataclasses
import re
from types import TracebackType
from typing import Any, Final, Self

import httpx

from carrier_sim import Caller, CallReport
from carrier_sim.report import Violation
from offhook_dev.errors import DevError

_CALL_S: Final = 120.0


class RemoteSim:
    """`async with RemoteSim("http://127.0.0.1:4443") as sim`: `sim.twilio.call_in(…)`, `sim.next_report(…)`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=_CALL_S, trust_env=False)
        self.twilio = RemoteCarrier(self._client, "twilio")
        self.vonage = RemoteCarrier(self._client, "vonage")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def next_report(self, provider_call_id: str) -> CallReport:
        """The report of a call, when it is over."""
        answer = await self._client.get(f"/_sim/reports/{provider_call_id}", params={"wait_s": 60})
        return _report(_said(answer))

    async def new_key(self, application_id: str) -> str:
        """Give a Vonage application another key pair. Returns the private half, PEM."""
        answer = await self._client.put(f"/_sim/applications/{application_id}", json={"new_key": True})
        key: str = _said(answer)["private_key"]
        return key

    async def number(self, number: str) -> dict[str, Any]:
        """A number as its owner's settings are."""
        return _said(await self._client.get(f"/_sim/numbers/{number}"))


class RemoteCarrier:
    """One provider of it."""

    def __init__(self, client: httpx.AsyncClient, provider: str) -> None:
        self._client = client
        self._provider = provider

    async def call_in(self, from_number: str, to_number: str, caller: Caller) -> CallReport:
        """A person calls a customer's number; returns when the call is over."""
        wanted = {"provider": self._provider, "from": from_number, "to": to_number, "caller": script(caller)}
        return _report(_said(await self._client.post("/_sim/calls", json=wanted)))


def script(caller: Caller) -> dict[str, Any]:
    """What `Caller.from_data` makes this caller of."""
    steps = [
        {_name(type(step)): values} if (values := dataclasses.asdict(step)) else _name(type(step))
        for step in caller.steps
    ]
    return {"steps": steps, "seed": caller.seed, "at_once": caller.at_once}


def _name(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def _said(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise DevError(f"the simulator answered {answer.status_code}: {answer.text[:300]}")
    said: dict[str, Any] = answer.json()
    return said


def _report(data: dict[str, Any]) -> CallReport:
    return CallReport(**data | {"violations": [Violation(**one) for one in data["violations"]]})
