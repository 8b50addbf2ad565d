"""Vonage's REST APIs, as far as voice needs them: calls, applications, numbers, the account's balance.

https://developer.vonage.com/en/api/voice, /api/application.v2, /api/numbers. The three hosts are one address here.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from aiohttp import BasicAuth, web

from carrier_sim.vonage.applications import Application, Number, Webhook
from carrier_sim.vonage.call import Plan, Source, VonageCall
from carrier_sim.vonage.carrier import VonageCarrier

_ERRORS = "https://developer.nexmo.com/api-errors"
_MSISDN = re.compile(r"^[1-9]\d{6,14}$")
_MAX_TOKEN_S = 24 * 3600
_LEG_ACTIONS = {"mute", "unmute", "earmuff", "unearmuff"}
_VOICE_WEBHOOKS = {"answer_url": 5000, "fallback_answer_url": 5000, "event_url": 10_000}
_HANGUP_TOO_EARLY = "The call cannot be hung up within the first seconds after its creation."


class RestError(Exception):
    """An error as Vonage's newer APIs answer it; `more` are further members of the body."""

    def __init__(self, status: int, kind: str, title: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {
            "type": f"{_ERRORS}{kind}",
            "title": title,
            "detail": detail,
            "instance": uuid.uuid4().hex,
            **more,
        }

    def response(self) -> web.Response:
        return web.json_response(self.body, status=self.status)


def _unauthorized() -> RestError:
    return RestError(
        401, "#unauthorized", "Invalid credentials supplied", "You did not provide correct credentials."
    )


def _not_found(identity: str) -> RestError:
    return RestError(
        404, "#not-found", "Not Found", f"ID '{identity}' does not exist, or you do not have access"
    )


def _bad_request(detail: str, kind: str = "#bad-request", **more: Any) -> RestError:
    return RestError(400, kind, "Bad Request", detail, **more)


class VonageRest:
    """The routes; `routes` are added to the simulator's application."""

    def __init__(self, carrier: VonageCarrier) -> None:
        self._carrier = carrier
        self._created: dict[str, list[float]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/calls", self._guard(self._create_call)),
            web.get("/v1/calls", self._guard(self._list_calls)),
            web.get("/v1/calls/{uuid}", self._guard(self._get_call)),
            web.put("/v1/calls/{uuid}", self._guard(self._update_call)),
            web.get("/v2/applications", self._guard(self._list_applications)),
            web.get("/v2/applications/{id}", self._guard(self._get_application)),
            web.put("/v2/applications/{id}", self._guard(self._replace_application)),
            web.get("/account/get-balance", self._guard(self._balance)),
            web.get("/account/numbers", self._guard(self._list_numbers)),
            web.post("/number/update", self._guard(self._update_number)),
        ]

    @staticmethod
    def _guard(handle: Callable[[web.Request, bytes], web.Response]) -> Callable[[web.Request], Any]:
        """Read the body, and answer errors in Vonage's shape."""

        async def guarded(request: web.Request) -> web.Response:
            try:
                return handle(request, await request.read())
            except RestError as error:
                return error.response()

        return guarded

    # --- who asks ----------------------------------------------------------------------------------------------------------

    def _application(self, request: web.Request) -> Application:
        """The application whose private key signed the request's token (RS256, with application_id, iat, jti, exp)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthorized()
        try:
            claimed = jwt.decode(token, options={"verify_signature": False}).get("application_id")
            application = self._carrier.applications.get(str(claimed))
            if application is None:
                raise _unauthorized()
            claims = jwt.decode(
                token,
                application.public_key,
                algorithms=["RS256"],
                options={"require": ["iat", "jti", "exp", "application_id"]},
                leeway=30,
            )
        except jwt.PyJWTError:
            raise _unauthorized() from None
        if claims["exp"] - claims["iat"] > _MAX_TOKEN_S:
            raise _unauthorized()
        return application

    def _account(self, request: web.Request) -> str:
        """The API key of an account, by HTTP Basic or, as the Numbers API also takes it, in the query."""
        query = request.query
        pair = query.get("api_key", ""), query.get("api_secret", "")
        if header := request.headers.get("Authorization"):
            try:
                basic = BasicAuth.decode(header)
            except ValueError:
                raise _unauthorized() from None
            pair = basic.login, basic.password
        for application in self._carrier.applications.values():
            if pair == (application.api_key, application.api_secret):
                return pair[0]
        raise _unauthorized()

    # --- calls ---------------------------------------------------------------------------------------------------------------

    def _create_call(self, request: web.Request, body: bytes) -> web.Response:
        application = self._application(request)
        self._limit_rate(application)
        data = _json_object(body)
        to_number = _phone(data.get("to"))
        from_number = self._from_number(application, data)
        ring, length = _seconds(data, "ringing_timer", 60, 120), _seconds(data, "length_timer", 7200, 86400)
        if ("ncco" in data) == ("answer_url" in data):
            raise _bad_request("exactly one of ncco and answer_url is expected")
        source = (
            Source(actions=data["ncco"]) if "ncco" in data
            else Source(self._webhook(data, "answer_url", "answer_method", "GET", 5.0))
        )  # fmt: skip
        event = application.webhook("event_url")
        if "event_url" in data:
            event = self._webhook(data, "event_url", "event_method", "POST", 10.0)
        if data.get("machine_detection") not in (None, "continue", "hangup"):
            raise _bad_request("machine_detection: continue or hangup expected")
        call = VonageCall(
            self._carrier.exchange,
            application,
            inbound=False,
            from_number=from_number,
            to_number=to_number,
            plan=Plan(source, application.webhook("fallback_answer_url"), event, float(ring), float(length)),
        )
        self._carrier.calls[call.uuid] = call
        callee = self._carrier.exchange.callees.find(to_number)
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
            raise _bad_request("exactly one of from and random_from_number is expected")
        owned = [n.msisdn for n in self._carrier.numbers.values() if n.app_id == application.id]
        if random:
            if not owned:
                raise _bad_request("random_from_number: the application has no number")
            return owned[0]
        sender = data["from"]
        number = sender.get("number") if isinstance(sender, dict) else None
        if not isinstance(number, str) or sender.get("type") != "phone" or not _MSISDN.fullmatch(number):
            raise _bad_request("from: {type: phone, number: digits without +} expected")
        return number

    def _webhook(
        self, data: Mapping[str, Any], name: str, method_name: str, default: str, read_s: float
    ) -> Webhook:
        urls, method = data[name], data.get(method_name, default)
        if not isinstance(urls, list) or len(urls) != 1 or not isinstance(urls[0], str):
            raise _bad_request(f"{name}: an array of one URL expected")
        if method not in ("GET", "POST"):
            raise _bad_request(f"{method_name}: GET or POST expected")
        if not self._is_url(urls[0]):
            raise _bad_request(f"{name}: {urls[0]!r} is not an https URL")
        return Webhook(urls[0], method, 1.0, read_s)

    def _is_url(self, url: str) -> bool:
        parts = urlsplit(url)
        allowed = ("https", "http") if self._carrier.exchange.config.allow_plain else ("https",)
        return parts.scheme in allowed and bool(parts.hostname)

    def _call(self, request: web.Request, application: Application) -> VonageCall:
        identity = request.match_info["uuid"]
        call = self._carrier.calls.get(identity)
        if call is None or call.application is not application:
            raise _not_found(identity)
        return call

    def _get_call(self, request: web.Request, body: bytes) -> web.Response:
        return web.json_response(call_resource(self._call(request, self._application(request))))

    def _list_calls(self, request: web.Request, body: bytes) -> web.Response:
        application = self._application(request)
        query = request.query
        size, start = _count(query, "page_size", 10, 100), _count(query, "record_index", 0, 10**9, low=0)
        found = [
            call_resource(call)
            for call in sorted(
                self._carrier.calls.values(), key=lambda c: c.created, reverse=query.get("order") == "desc"
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
        data = _json_object(body)
        action = data.get("action")
        if action not in _LEG_ACTIONS | {"hangup", "transfer"}:
            raise _bad_request(f"there is no action {action!r}")
        if call.is_over:
            raise _not_found(call.uuid)
        if action == "hangup":
            age = (datetime.now(UTC) - call.created).total_seconds()
            if age < self._carrier.exchange.config.hangup_guard_s:
                raise _bad_request(_HANGUP_TOO_EARLY)
            call.end("rest", "hung-up")
        elif action == "transfer":
            self._transfer(call, data.get("destination"))
        return web.Response(status=204)

    def _transfer(self, call: VonageCall, destination: Any) -> None:
        if not isinstance(destination, dict) or destination.get("type") != "ncco":
            raise _bad_request("transfer: a destination of type ncco expected")
        if call.answered is None:
            raise _bad_request("transfer: the call is not answered")
        if "url" in destination:
            call.transfer(Source(self._webhook(destination, "url", "method", "GET", 5.0)))
        elif isinstance(destination.get("ncco"), list):
            call.transfer(Source(actions=destination["ncco"]))
        else:
            raise _bad_request("transfer: a url or an ncco expected")

    # --- applications --------------------------------------------------------------------------------------------------------

    def _owned(self, request: web.Request) -> Application:
        key, identity = self._account(request), request.match_info["id"]
        application = self._carrier.applications.get(identity)
        if application is None or application.api_key != key:
            raise _not_found(identity)
        return application

    def _get_application(self, request: web.Request, body: bytes) -> web.Response:
        return web.json_response(application_resource(self._owned(request)))

    def _list_applications(self, request: web.Request, body: bytes) -> web.Response:
        key = self._account(request)
        size, page = _count(request.query, "page_size", 10, 100), _count(request.query, "page", 1, 10**6)
        found = [application_resource(a) for a in self._carrier.applications.values() if a.api_key == key]
        return web.json_response(
            {
                "page_size": size,
                "page": page,
                "total_items": len(found),
                "total_pages": max(1, -(-len(found) // size)),
                "_embedded": {"applications": found[(page - 1) * size : page * size]},
                "_links": {"self": {"href": f"/v2/applications?page_size={size}&page={page}"}},
            }
        )

    def _replace_application(self, request: web.Request, body: bytes) -> web.Response:
        """Replaces the whole object: what is not in the request is gone."""
        application = self._owned(request)
        data = _json_object(body)
        faults = _application_faults(data, self._is_url)
        if faults.found:
            raise _bad_request(
                "The request failed due to validation errors",
                "/application#payload-validation",
                invalid_parameters=faults.found,
            )
        public_key = (data.get("keys") or {}).get("public_key")
        if public_key:
            application.public_key = public_key
        application.resource = {
            "name": data["name"],
            "capabilities": data.get("capabilities") or {},
            "privacy": {"improve_ai": (data.get("privacy") or {}).get("improve_ai", True)},
        }
        return web.json_response(application_resource(application))

    # --- numbers and account
    # -----------------------------------------------------------------------------------------------------

    def _balance(self, request: web.Request, body: bytes) -> web.Response:
        try:
            self._account(request)
        except RestError:
            return _numbers_error(401, "authentication failed")
        return web.json_response({"value": 10.28, "autoReload": False})

    def _list_numbers(self, request: web.Request, body: bytes) -> web.Response:
        try:
            key = self._account(request)
        except RestError:
            return _numbers_error(401, "authentication failed")
        query = request.query
        size, index = _count(query, "size", 10, 100), _count(query, "index", 1, 10**6)
        found = [
            number_resource(number)
            for number in self._carrier.numbers.values()
            if number.api_key == key and _matches(query, number)
        ]
        if not found:
            return web.json_response({})
        return web.json_response({"count": len(found), "numbers": found[(index - 1) * size : index * size]})

    def _update_number(self, request: web.Request, body: bytes) -> web.Response:
        try:
            key = self._account(request)
        except RestError:
            return _numbers_error(401, "authentication failed")
        form = _form(request, body)
        number = self._carrier.numbers.get(form.get("msisdn", ""))
        if number is None or number.api_key != key or number.country != form.get("country"):
            return _numbers_error(420, "method failed")
        if form.get("voiceCallbackType") not in (None, "", "sip", "tel", "app"):
            return _numbers_error(420, "Invalid value for parameter: voiceCallbackType")
        # What is left out is reset.
        application_id = form.get("app_id") or None
        if form.get("voiceCallbackType") == "app":
            application_id = form.get("voiceCallbackValue")
        if application_id is not None and application_id not in self._carrier.applications:
            return _numbers_error(420, "Invalid value for parameter: app_id")
        number.app_id = application_id
        kept = ("moHttpUrl", "voiceCallbackType", "voiceCallbackValue", "voiceStatusCallback")
        number.fields = {name: form[name] for name in kept if form.get(name)}
        return web.json_response({"error-code": "200", "error-code-label": "success"})


def _numbers_error(code: int, label: str) -> web.Response:
    return web.json_response({"error-code": str(code), "error-code-label": label}, status=code)


def _form(request: web.Request, body: bytes) -> dict[str, str]:
    return dict(request.query) | dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _matches(query: Mapping[str, str], number: Number) -> bool:
    pattern = query.get("pattern", "")
    strategy = query.get("search_pattern", "0")
    tests = {
        "0": number.msisdn.startswith(pattern),
        "1": pattern in number.msisdn,
        "2": number.msisdn.endswith(pattern),
    }
    has = query.get("has_application", "").lower()
    return (
        tests.get(strategy, False)
        and query.get("country", number.country) == number.country
        and query.get("application_id", number.app_id) == number.app_id
        and (not has or (has == "true") == (number.app_id is not None))
    )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        raise _bad_request("the body is not JSON") from None
    if not isinstance(data, dict):
        raise _bad_request("the body is expected to be an object")
    return data


def _phone(to: Any) -> str:
    if not isinstance(to, list) or len(to) != 1 or not isinstance(to[0], dict):
        raise _bad_request("to: an array of exactly one endpoint expected")
    endpoint = to[0]
    if endpoint.get("type") != "phone":
        raise _bad_request(f"to: the simulator rings phones only, not {endpoint.get('type')!r}")
    number = endpoint.get("number")
    if not isinstance(number, str) or not _MSISDN.fullmatch(number):
        raise _bad_request(f"to: {number!r} is not a number of 7 to 15 digits without +")
    return number


def _seconds(data: Mapping[str, Any], name: str, default: int, high: int) -> int:
    value = data.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise _bad_request(f"{name}: 1 to {high} expected")
    return value


def _count(query: Mapping[str, str], name: str, default: int, high: int, low: int = 1) -> int:
    text = query.get(name, str(default))
    if not text.isdigit() or not low <= int(text) <= high:
        raise _bad_request(f"{name}: {low} to {high} expected")
    return int(text)


def _between(query: Mapping[str, str], when: datetime) -> bool:
    for name in ("date_start", "date_end"):
        if name not in query:
            continue
        try:
            bound = datetime.fromisoformat(query[name])
        except ValueError:
            raise _bad_request(f"{name}: an ISO 8601 time expected") from None
        bound = bound if bound.tzinfo else bound.replace(tzinfo=UTC)
        if (when < bound) if name == "date_start" else (when > bound):
            return False
    return True


@dataclass(slots=True)
class _Faults:
    found: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, reason: str) -> None:
        self.found.append({"name": name, "reason": reason})


def _application_faults(data: Mapping[str, Any], is_url: Callable[[str], bool]) -> _Faults:
    """What the Applications API objects to in a whole application."""
    faults = _Faults()
    if not isinstance(data.get("name"), str) or not data["name"].strip():
        faults.add("name", "must not be blank")
    capabilities = data.get("capabilities") or {}
    voice = capabilities.get("voice") if isinstance(capabilities, dict) else None
    webhooks = voice.get("webhooks") if isinstance(voice, dict) else None
    for name, entry in (webhooks or {}).items():
        where = f"capabilities.voice.webhooks.{name}"
        if name not in _VOICE_WEBHOOKS:
            faults.add(where, "unknown webhook")
            continue
        if not isinstance(entry, dict):
            faults.add(where, "must be an object")
            continue
        address = entry.get("address")
        if not isinstance(address, str) or (address and not is_url(address)):
            faults.add(f"{where}.address", "must be a valid URL")
        if entry.get("http_method") not in (None, "GET", "POST"):
            faults.add(f"{where}.http_method", "must be one of: GET, POST")
        for key, low, high in (
            ("connection_timeout", 300, 1000),
            ("socket_timeout", 1000, _VOICE_WEBHOOKS[name]),
        ):
            value = entry.get(key)
            if value is not None and (not isinstance(value, int) or not low <= value <= high):
                faults.add(f"{where}.{key}", f"must be between {low} and {high}")
    return faults


def application_resource(application: Application) -> dict[str, Any]:
    """An application as GET shows it."""
    return {
        "id": application.id,
        **application.resource,
        "keys": {"public_key": application.public_key},
        "_links": {"self": {"href": f"/v2/applications/{application.id}"}},
    }


def number_resource(number: Number) -> dict[str, Any]:
    """A number as the Numbers API lists it."""
    shown: dict[str, Any] = {
        "country": number.country,
        "msisdn": number.msisdn,
        "type": "mobile-lvn",
        "features": ["VOICE", "SMS", "MMS"],
        **{name: value for name, value in number.fields.items() if name != "voiceStatusCallback"},
    }
    if number.app_id:
        shown["app_id"] = number.app_id
        shown.setdefault("voiceCallbackType", "app")
        shown.setdefault("voiceCallbackValue", number.app_id)
    return shown


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
