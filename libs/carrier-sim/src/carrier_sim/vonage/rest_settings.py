"""Vonage's Applications and Numbers APIs, and the account's balance.

https://developer.vonage.com/en/api/application.v2, https://developer.vonage.com/en/api/numbers
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import BasicAuth, web

from carrier_sim.vonage.applications import Application, Number, is_webhook_url
from carrier_sim.vonage.carrier import VonageCarrier
from carrier_sim.vonage.rest_common import (
    RestError,
    bad_request,
    count,
    guard,
    json_object,
    not_found,
    numbers_error,
    unauthorized,
)

_VOICE_WEBHOOKS = {"answer_url": 5000, "fallback_answer_url": 5000, "event_url": 10_000}


class VonageSettingsRest:
    """What a customer sets up; `routes` are added to the simulator's application."""

    def __init__(self, carrier: VonageCarrier) -> None:
        self._carrier = carrier

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v2/applications", guard(self._list_applications)),
            web.get("/v2/applications/{id}", guard(self._get_application)),
            web.put("/v2/applications/{id}", guard(self._replace_application)),
            web.get("/account/get-balance", guard(self._balance)),
            web.get("/account/numbers", guard(self._list_numbers)),
            web.post("/number/update", guard(self._update_number)),
        ]

    def _is_url(self, url: str) -> bool:
        return is_webhook_url(url, allow_plain=self._carrier.exchange.config.allow_plain)

    def _account(self, request: web.Request) -> str:
        """The API key of an account, by HTTP Basic or, as the Numbers API also takes it, in the query."""
        query = request.query
        pair = query.get("api_key", ""), query.get("api_secret", "")
        if header := request.headers.get("Authorization"):
            try:
                basic = BasicAuth.decode(header)
            except ValueError:
                raise unauthorized() from None
            pair = basic.login, basic.password
        for application in self._carrier.applications.values():
            if pair == (application.api_key, application.api_secret):
                return pair[0]
        raise unauthorized()

    # --- applications --------------------------------------------------------------------------------------------------------

    def _owned(self, request: web.Request) -> Application:
        key, identity = self._account(request), request.match_info["id"]
        application = self._carrier.applications.get(identity)
        if application is None or application.api_key != key:
            raise not_found(identity)
        return application

    def _get_application(self, request: web.Request, body: bytes) -> web.Response:
        return web.json_response(application_resource(self._owned(request)))

    def _list_applications(self, request: web.Request, body: bytes) -> web.Response:
        key = self._account(request)
        size, page = count(request.query, "page_size", 10, 100), count(request.query, "page", 1, 10**6)
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
        data = json_object(body)
        faults = _application_faults(data, self._is_url)
        if faults.found:
            raise bad_request(
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

    # --- numbers and account -------------------------------------------------------------------------------------------------

    def _balance(self, request: web.Request, body: bytes) -> web.Response:
        try:
            self._account(request)
        except RestError:
            return numbers_error(401, "authentication failed")
        return web.json_response({"value": 10.28, "autoReload": False})

    def _list_numbers(self, request: web.Request, body: bytes) -> web.Response:
        try:
            key = self._account(request)
        except RestError:
            return numbers_error(401, "authentication failed")
        query = request.query
        size, index = count(query, "size", 10, 100), count(query, "index", 1, 10**6)
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
            return numbers_error(401, "authentication failed")
        form = _form(request, body)
        number = self._carrier.numbers.get(form.get("msisdn", ""))
        if number is None or number.api_key != key or number.country != form.get("country"):
            return numbers_error(420, "method failed")
        if form.get("voiceCallbackType") not in (None, "", "sip", "tel", "app"):
            return numbers_error(420, "Invalid value for parameter: voiceCallbackType")
        # What is left out is reset.
        application_id = form.get("app_id") or None
        if form.get("voiceCallbackType") == "app":
            application_id = form.get("voiceCallbackValue")
        if application_id is not None and application_id not in self._carrier.applications:
            return numbers_error(420, "Invalid value for parameter: app_id")
        number.app_id = application_id
        kept = ("moHttpUrl", "voiceCallbackType", "voiceCallbackValue", "voiceStatusCallback")
        number.fields = {name: form[name] for name in kept if form.get(name)}
        return web.json_response({"error-code": "200", "error-code-label": "success"})


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
        "features": ["VOICE", "SMS", "MMS"] if number.voice else ["SMS", "MMS"],
        **{name: value for name, value in number.fields.items() if name != "voiceStatusCallback"},
    }
    if number.app_id:
        shown["app_id"] = number.app_id
        shown.setdefault("voiceCallbackType", "app")
        shown.setdefault("voiceCallbackValue", number.app_id)
    return shown
