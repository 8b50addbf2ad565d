"""The simulator's own HTTP API under `/_sim/`: place calls, read reports, switch faults. For tests; it asks nobody's name."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carrier_sim.caller import Caller
from carrier_sim.exchange import Exchange
from carrier_sim.provision import CalleeEntry, FaultsEntry
from carrier_sim.report import CallReport
from carrier_sim.twilio.call import TwilioCall
from carrier_sim.twilio.carrier import TwilioCarrier
from carrier_sim.vonage.call import VonageCall
from carrier_sim.vonage.carrier import VonageCarrier


class CallRequest(BaseModel):
    """A call to place. `wait`: answer with the report when it is over, instead of with the call's id at once."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    provider: str = Field(pattern="^(twilio|vonage)$")
    from_number: str = Field(alias="from")
    to_number: str = Field(alias="to")
    caller: Any = None
    faults: FaultsEntry | None = None
    wait: bool = True


Handler = Callable[[web.Request], Awaitable[web.Response]]


def guard(handle: Handler) -> Handler:
    """Answer what is wrong with a request in words."""

    async def guarded(request: web.Request) -> web.Response:
        try:
            return await handle(request)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return _problem(422, f"{where}: {first['msg']}")
        except ValueError as error:
            return _problem(422, str(error))
        except LookupError as error:
            return _problem(404, str(error.args[0]))
        except TimeoutError:
            return _problem(504, "the call is not over yet")

    return guarded


class Control:
    """The routes of the control API."""

    def __init__(self, exchange: Exchange, twilio: TwilioCarrier, vonage: VonageCarrier) -> None:
        self._exchange = exchange
        self._twilio = twilio
        self._vonage = vonage

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sim/", guard(self._about)),
            web.post("/_sim/calls", guard(self._place)),
            web.post("/_sim/calls/{id}/hang-up", guard(self._hang_up)),
            web.post("/_sim/calls/{id}/kill-media", guard(self._kill_media)),
            web.post("/_sim/calls/{id}/half-open-media", guard(self._half_open_media)),
            web.get("/_sim/reports", guard(self._reports)),
            web.delete("/_sim/reports", guard(self._forget)),
            web.get("/_sim/reports/{id}", guard(self._report)),
            web.get("/_sim/reports/{id}/{audio:heard|spoken}.wav", guard(self._audio)),
            web.get("/_sim/faults", guard(self._get_faults)),
            web.put("/_sim/faults", guard(self._set_faults)),
            web.put("/_sim/callees/{number}", guard(self._set_callee)),
        ]

    async def _about(self, request: web.Request) -> web.Response:
        calls = [*self._twilio.calls.values(), *self._vonage.calls.values()]
        return web.json_response(
            {
                "twilio_numbers": [
                    n.phone_number for a in self._twilio.accounts.values() for n in a.numbers.values()
                ],
                "vonage_numbers": list(self._vonage.numbers),
                "live_calls": [c.report.provider_call_id for c in calls if not c.is_over],
                "reports": len(self._exchange.reports),
            }
        )

    async def _place(self, request: web.Request) -> web.Response:
        wanted = CallRequest.model_validate(await request.json())
        caller = Caller.from_data(wanted.caller)
        faults = wanted.faults.faults() if wanted.faults else None
        carrier = self._twilio if wanted.provider == "twilio" else self._vonage
        call = carrier.place(wanted.from_number, wanted.to_number, faults=faults)
        running = self._exchange.spawn(call.run_inbound(caller))
        if not wanted.wait:
            return web.json_response({"provider_call_id": call.report.provider_call_id}, status=202)
        report: CallReport = await running
        return web.json_response(report.to_dict(), status=201)

    def _live(self, request: web.Request) -> TwilioCall | VonageCall:
        identity = request.match_info["id"]
        call = self._twilio.calls.get(identity) or self._vonage.calls.get(identity)
        if call is None or call.is_over:
            raise LookupError(f"no live call {identity}")
        return call

    async def _hang_up(self, request: web.Request) -> web.Response:
        call = self._live(request)
        call.end("caller" if call.report.direction == "inbound" else "callee", "hung-up")
        return web.Response(status=204)

    async def _kill_media(self, request: web.Request) -> web.Response:
        self._live(request).kill_media()
        return web.Response(status=204)

    async def _half_open_media(self, request: web.Request) -> web.Response:
        self._live(request).half_open_media()
        return web.Response(status=204)

    async def _reports(self, request: web.Request) -> web.Response:
        return web.json_response({"reports": [report.to_dict() for report in self._exchange.reports]})

    async def _forget(self, request: web.Request) -> web.Response:
        self._exchange.reports.clear()
        return web.Response(status=204)

    async def _report(self, request: web.Request) -> web.Response:
        """`?wait_s=30` waits for the call's end."""
        wait_s = float(request.query.get("wait_s", "0"))
        report = await self._exchange.next_report(request.match_info["id"], max(0.001, min(wait_s, 600.0)))
        return web.json_response(report.to_dict())

    async def _audio(self, request: web.Request) -> web.Response:
        report = await self._exchange.next_report(request.match_info["id"], 0.001)
        heard = request.match_info["audio"] == "heard"
        return web.Response(body=report.heard_wav if heard else report.spoken_wav, content_type="audio/wav")

    async def _get_faults(self, request: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(self._exchange.faults))

    async def _set_faults(self, request: web.Request) -> web.Response:
        self._exchange.faults = FaultsEntry.model_validate(await request.json()).faults()
        return await self._get_faults(request)

    async def _set_callee(self, request: web.Request) -> web.Response:
        callee = CalleeEntry.model_validate(await request.json()).callee()
        number = request.match_info["number"]
        if number == "default":
            self._exchange.callees.default = callee
        else:
            self._exchange.callees[number] = callee
        return web.Response(status=204)


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response(
        {"status": status, "detail": detail}, status=status, content_type="application/problem+json"
    )
