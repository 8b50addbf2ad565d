"""Vonage's Voice API: calls. https://developer.vonage.com/en/api/voice"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import web

from carrier_sim.vonage import ncco
from carrier_sim.vonage.applications import Application, Webhook, is_webhook_url
from carrier_sim.vonage.call import VonageCall
from carrier_sim.vonage.carrier import VonageCarrier
from carrier_sim.vonage.plan import Plan, Source
from carrier_sim.vonage.rest_common import (
    RestError,
    bad_request,
    count,
    guard,
    json_object,
    not_found,
    unauthorized,
)

_MSISDN = re.compile(r"^[1-9]\d{6,14}$")
_MAX_TOKEN_S = 24 * 3600
_DTMF = re.compile(r"^[0-9*#p]{1,100}$")
_STATUSES = frozenset(
    {
        "started", "ringing", "answered", "machine", "completed", "busy", "cancelled", "failed", "rejected",
        "timeout", "unanswered",
    }
)  # fmt: skip
_LEG_ACTIONS = {"mute", "unmute", "earmuff", "unearmuff"}
_HANGUP_TOO_EARLY = "The call cannot be hung up within the first seconds after its creation."


class VonageRest:
    """The routes; `routes` are added to the simulator's application."""

    def __init__(self, carrier: VonageCarrier) -> None:
        self._carrier = carrier
        self._created: dict[str, list[float]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/calls", guard(self._create_call)),
            web.get("/v1/calls", guard(self._list_calls)),
            web.get("/v1/calls/{uuid}", guard(self._get_call)),
            web.put("/v1/calls/{uuid}", guard(self._update_call)),
            web.put("/v1/calls/{uuid}/dtmf", guard(self._press)),
        ]

    # --- who asks ----------------------------------------------------------------------------------------------------------

    def _application(self, request: web.Request) -> Application:
        """The application whose private key signed the request's token (RS256, with application_id, iat, jti, exp)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorized()
        try:
            claimed = jwt.decode(token, options={"verify_signature": False}).get("application_id")
            application = self._carrier.applications.get(str(claimed))
            if application is None:
                raise unauthorized()
            claims = jwt.decode(
                token,
                application.public_key,
                algorithms=["RS256"],
                options={"require": ["iat", "jti", "exp", "application_id"]},
                leeway=30,
            )
        except jwt.PyJWTError:
            raise unauthorized() from None
        if claims["exp"] - claims["iat"] > _MAX_TOKEN_S:
            raise unauthorized()
        return application

    # --- calls ---------------------------------------------------------------------------------------------------------------

    def _create_call(self, request: web.Request, body: bytes) -> web.Response:
        application = self._application(request)
        self._limit_rate(application)
        data = json_object(body)
        to_number = _phone(data.get("to"))
        from_number = self._from_number(application, data)
        ring, length = _seconds(data, "ringing_timer", 60, 120), _seconds(data, "length_timer", 7200, 86400)
        if ("ncco" in data) == ("answer_url" in data):
            raise bad_request("exactly one of ncco and answer_url is expected")
        source = (
            Source(actions=data["ncco"]) if "ncco" in data
            else Source(self._webhook(data, "answer_url", "answer_method", "GET", 5.0))
        )  # fmt: skip
        event = application.webhook("event_url")
        if "event_url" in data:
            event = self._webhook(data, "event_url", "event_method", "POST", 10.0)
        detection = ncco.read_detection(data, "machine_detection", "advanced_machine_detection")
        if isinstance(detection, str):
            raise bad_request(detection)
        callee = self._carrier.exchange.callees.find(to_number)
        call = VonageCall(
            self._carrier.exchange,
            application,
            inbound=False,
            from_number=from_number,
            to_number=to_number,
            plan=Plan(
                source, application.webhook("fallback_answer_url"), event, float(ring), float(length), detection,
                _dtmf_answer(data),
            ),
            faults=callee.faults,
        )  # fmt: skip
        self._carrier.calls[call.uuid] = call
        self._carrier.exchange.spawn(call.run_outbound(callee))
        return web.json_response(
            {
                "uuid": call.uuid,
                "status": "started",
                "direction": "outbound",
                "conversation_uuid": call.conversation_uuid,
            },
            status=201,
        )

    def _limit_rate(self, application: Application) -> None:
        if not self._carrier.exchange.config.rate_limits:
            return
        now = time.monotonic()
        recent = [t for t in self._created.get(application.api_key, []) if now - t < 1.0]
        if len(recent) >= 3:
            raise RestError(429, "#throttled", "Rate Limit Hit", "Please wait, then retry your request")
        self._created[application.api_key] = [*recent, now]

    def _from_number(self, application: Application, data: Mapping[str, Any]) -> str:
        random = data.get("random_from_number", False)
        if ("from" in data) == bool(random):
            raise bad_request("exactly one of from and random_from_number is expected")
        owned = [n.msisdn for n in self._carrier.numbers.values() if n.app_id == application.id]
        if random:
            if not owned:
                raise bad_request("random_from_number: the application has no number")
            return owned[0]
        sender = data["from"]
        number = sender.get("number") if isinstance(sender, dict) else None
        if not isinstance(number, str) or sender.get("type") != "phone" or not _MSISDN.fullmatch(number):
            raise bad_request("from: {type: phone, number: digits without +} expected")
        return number

    def _webhook(
        self, data: Mapping[str, Any], name: str, method_name: str, default: str, read_s: float
    ) -> Webhook:
        urls, method = data[name], data.get(method_name, default)
        if not isinstance(urls, list) or len(urls) != 1 or not isinstance(urls[0], str):
            raise bad_request(f"{name}: an array of one URL expected")
        if method not in ("GET", "POST"):
            raise bad_request(f"{method_name}: GET or POST expected")
        if not is_webhook_url(urls[0], allow_plain=self._carrier.exchange.config.allow_plain):
            raise bad_request(f"{name}: {urls[0]!r} is not an https URL")
        return Webhook(urls[0], method, 1.0, read_s)

    def _call(self, request: web.Request, application: Application) -> VonageCall:
        identity = request.match_info["uuid"]
        call = self._carrier.find(identity)
        if call is None or call.application is not application:
            raise not_found(identity)
        return call

    def _get_call(self, request: web.Request, body: bytes) -> web.Response:
        return web.json_response(call_resource(self._call(request, self._application(request))))

    def _list_calls(self, request: web.Request, body: bytes) -> web.Response:
        application = self._application(request)
        query = request.query
        if query.get("status", "started") not in _STATUSES:
            raise bad_request(f"status: one of {', '.join(sorted(_STATUSES))} expected")
        if query.get("order", "asc") not in ("asc", "desc"):
            raise bad_request("order: asc or desc expected")
        size, start = count(query, "page_size", 10, 100), count(query, "record_index", 0, 10**9, low=0)
        found = [
            call_resource(call)
            for call in sorted(
                self._carrier.every_call(), key=lambda c: c.created, reverse=query.get("order") == "desc"
            )
            if call.application is application
            and query.get("status", call.status) == call.status
            and query.get("conversation_uuid", call.conversation_uuid) == call.conversation_uuid
            and _between(query, call.created)
        ]

        def link(index: int) -> dict[str, str]:
            return {"href": f"/calls?{urlencode({'page_size': size, 'record_index': index})}"}

        links = {"self": link(start)}
        if start + size < len(found):
            links["next"] = link(start + size)
        return web.json_response(
            {
                "count": len(found),
                "page_size": size,
                "record_index": start,
                "_links": links,
                "_embedded": {"calls": found[start : start + size]},
            }
        )

    def _update_call(self, request: web.Request, body: bytes) -> web.Response:
        call = self._call(request, self._application(request))
        data = json_object(body)
        action = data.get("action")
        if action not in _LEG_ACTIONS | {"hangup", "transfer"}:
            raise bad_request(f"there is no action {action!r}")
        if call.is_over:
            raise not_found(call.uuid)
        if action == "hangup":
            age = (datetime.now(UTC) - call.created).total_seconds()
            if age < self._carrier.exchange.config.hangup_guard_s:
                raise bad_request(_HANGUP_TOO_EARLY)
            call.end("rest", "hung-up")
        elif action == "transfer":
            self._transfer(call, data.get("destination"))
        return web.Response(status=204)

    def _press(self, request: web.Request, body: bytes) -> web.Response:
        call = self._call(request, self._application(request))
        digits = json_object(body).get("digits")
        if not isinstance(digits, str) or not _DTMF.fullmatch(digits):
            raise bad_request("digits: 0-9, *, # and p expected")
        if call.is_over:
            raise not_found(call.uuid)
        if call.answered is None:
            raise bad_request("dtmf: the call is not answered")
        call.press(digits)
        return web.json_response({"message": "DTMF sent", "uuid": call.uuid})

    def _transfer(self, call: VonageCall, destination: Any) -> None:
        if not isinstance(destination, dict) or destination.get("type") != "ncco":
            raise bad_request("transfer: a destination of type ncco expected")
        if call.answered is None:
            raise bad_request("transfer: the call is not answered")
        if "url" in destination:
            call.transfer(Source(self._webhook(destination, "url", "method", "GET", 5.0)))
        elif isinstance(destination.get("ncco"), list):
            call.transfer(Source(actions=destination["ncco"]))
        else:
            raise bad_request("transfer: a url or an ncco expected")


def _phone(to: Any) -> str:
    if not isinstance(to, list) or len(to) != 1 or not isinstance(to[0], dict):
        raise bad_request("to: an array of exactly one endpoint expected")
    endpoint = to[0]
    if endpoint.get("type") != "phone":
        raise bad_request(f"to: the simulator rings phones only, not {endpoint.get('type')!r}")
    number = endpoint.get("number")
    if not isinstance(number, str) or not _MSISDN.fullmatch(number):
        raise bad_request(f"to: {number!r} is not a number of 7 to 15 digits without +")
    return number


def _dtmf_answer(data: Mapping[str, Any]) -> str:
    digits = data["to"][0].get("dtmfAnswer", "")
    if not isinstance(digits, str) or (digits and not _DTMF.fullmatch(digits)):
        raise bad_request("to: dtmfAnswer: 0-9, *, # and p expected")
    return digits


def _seconds(data: Mapping[str, Any], name: str, default: int, high: int) -> int:
    value = data.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise bad_request(f"{name}: 1 to {high} expected")
    return value


def _between(query: Mapping[str, str], when: datetime) -> bool:
    for name in ("date_start", "date_end"):
        if name not in query:
            continue
        try:
            bound = datetime.fromisoformat(query[name])
        except ValueError:
            raise bad_request(f"{name}: an ISO 8601 time expected") from None
        bound = bound if bound.tzinfo else bound.replace(tzinfo=UTC)
        if (when < bound) if name == "date_start" else (when > bound):
            return False
    return True


def call_resource(call: VonageCall) -> dict[str, Any]:
    """A call as GET shows it; duration and price only once it is over."""
    shown: dict[str, Any] = {
        "_links": {"self": {"href": f"/calls/{call.uuid}"}},
        "uuid": call.uuid,
        "conversation_uuid": call.conversation_uuid,
        "to": {"type": "phone", "number": call.to_number},
        "from": {"type": "phone", "number": call.from_number},
        "status": call.status,
        "direction": call.direction,
    }
    if call.status == "completed":
        # Here the times have another form than in the events.
        shown |= call.bill | {
            "start_time": _plain_time(call.answered),
            "end_time": _plain_time(call.ended),
        }
    return {name: value for name, value in shown.items() if value is not None}


def _plain_time(when: datetime | None) -> str | None:
    return when.strftime("%Y-%m-%d %H:%M:%S") if when else None
