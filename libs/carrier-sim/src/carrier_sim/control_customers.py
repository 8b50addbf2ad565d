"""The control API's half about customers: what they own, changed behind their back, and the bad days of the REST APIs."""

from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from carrier_sim.control import guard
from carrier_sim.rest_faults import RestFault
from carrier_sim.rest_gate import RestGate
from carrier_sim.twilio.accounts import Account, AccountStatus
from carrier_sim.twilio.accounts import Number as TwilioNumber
from carrier_sim.twilio.carrier import TwilioCarrier
from carrier_sim.vonage.applications import (
    Application,
    checked_public_key,
    msisdn,
    new_private_key,
    public_half,
)
from carrier_sim.vonage.applications import Number as VonageNumber
from carrier_sim.vonage.carrier import VonageCarrier

_Rules = TypeAdapter(list[RestFault])
_Method = Literal["GET", "POST"]


class _Change(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class AccountChange(_Change):
    """`requests_per_s`: None lifts the limit. The rest is Twilio's only, but for `secret` (Auth Token, or API secret)."""

    requests_per_s: float | None = None
    secret: str = Field(default="", min_length=1)
    status: AccountStatus = "active"
    friendly_name: str = ""


class TwilioNumberChange(_Change):
    friendly_name: str = ""
    voice_url: str = ""
    voice_method: _Method = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: _Method = "POST"
    status_callback: str = ""
    status_callback_method: _Method = "POST"
    voice_application_sid: str = ""
    trunk_sid: str | None = None
    voice: bool = True


class VonageNumberChange(_Change):
    """`fields`: of `/number/update`, replaced as a whole (`voiceCallbackType`, `voiceCallbackValue`, `moHttpUrl` …)."""

    app_id: str | None = None
    country: str = Field(default="US", pattern="^[A-Z]{2}$")
    fields: dict[str, str] = Field(default_factory=dict)
    voice: bool = True


class ApplicationChange(_Change):
    """Webhooks whose address is null are taken away. `new_key`: another pair is made, whose private half is answered once."""

    name: str = ""
    answer_url: str | None = None
    answer_method: _Method = "GET"
    event_url: str | None = None
    event_method: _Method = "POST"
    fallback_answer_url: str | None = None
    fallback_method: _Method = "GET"
    signed_callbacks: bool = True
    signature_secret: str | None = None
    public_key: str = ""
    new_key: bool = False


class NewNumbers(BaseModel):
    """Numbers to give to a Twilio account (its SID) or a Vonage account (its API key), linked to nothing."""

    model_config = ConfigDict(extra="forbid")

    account: str
    numbers: list[str] = Field(min_length=1, max_length=5000)


class CustomersControl:
    """The routes."""

    def __init__(self, gate: RestGate, twilio: TwilioCarrier, vonage: VonageCarrier) -> None:
        self._gate = gate
        self._twilio = twilio
        self._vonage = vonage

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sim/rest-faults", guard(self._get_faults)),
            web.put("/_sim/rest-faults", guard(self._set_faults)),
            web.delete("/_sim/rest-faults", guard(self._drop_faults)),
            web.get("/_sim/rest-log", guard(self._log)),
            web.delete("/_sim/rest-log", guard(self._forget)),
            web.get("/_sim/accounts/{account}", guard(self._get_account)),
            web.put("/_sim/accounts/{account}", guard(self._change_account)),
            web.post("/_sim/numbers", guard(self._add_numbers)),
            web.get("/_sim/numbers/{number}", guard(self._get_number)),
            web.put("/_sim/numbers/{number}", guard(self._change_number)),
            web.delete("/_sim/numbers/{number}", guard(self._take_number)),
            web.get("/_sim/applications/{id}", guard(self._get_application)),
            web.put("/_sim/applications/{id}", guard(self._change_application)),
        ]

    # --- bad days ------------------------------------------------------------------------------------------------------------

    async def _get_faults(self, request: web.Request) -> web.Response:
        return web.json_response({"rules": self._gate.faults.to_list()})

    async def _set_faults(self, request: web.Request) -> web.Response:
        data = await request.json()
        rules = data.get("rules") if isinstance(data, dict) else data
        self._gate.faults.replace(_Rules.validate_python(rules))
        return await self._get_faults(request)

    async def _drop_faults(self, request: web.Request) -> web.Response:
        self._gate.faults.replace(())
        return web.Response(status=204)

    async def _log(self, request: web.Request) -> web.Response:
        """`?account=` of one account only."""
        return web.json_response(self._gate.log.to_dict(request.query.get("account")))

    async def _forget(self, request: web.Request) -> web.Response:
        self._gate.log.forget()
        return web.Response(status=204)

    # --- accounts ------------------------------------------------------------------------------------------------------------

    def _account(self, request: web.Request) -> tuple[str, Account | None, list[Application]]:
        """An Account SID, or the API key that owns applications."""
        name = request.match_info["account"]
        account = self._twilio.accounts.get(name)
        owned = [a for a in self._vonage.applications.values() if a.api_key == name]
        if account is None and not owned:
            raise LookupError(f"no account {name}")
        return name, account, owned

    async def _get_account(self, request: web.Request) -> web.Response:
        name, account, _ = self._account(request)
        shown: dict[str, Any] = {"account": name, "requests_per_s": self._gate.limits.get(name)}
        if account is not None:
            shown |= {"status": account.status, "friendly_name": account.friendly_name}
        return web.json_response(shown)

    async def _change_account(self, request: web.Request) -> web.Response:
        name, account, owned = self._account(request)
        change = AccountChange.model_validate(await request.json()).given()
        if account is None and (unknown := change.keys() & {"status", "friendly_name"}):
            raise ValueError(f"a Vonage account has no {', '.join(sorted(unknown))}")
        if "requests_per_s" in change:
            self._gate.limits.set(name, change.pop("requests_per_s"))
        if account is not None:
            account.auth_token = change.pop("secret", account.auth_token)
            account.status = change.pop("status", account.status)
            account.friendly_name = change.pop("friendly_name", account.friendly_name)
        for application in owned:
            application.api_secret = change.get("secret", application.api_secret)
        return await self._get_account(request)

    # --- numbers -------------------------------------------------------------------------------------------------------------

    async def _add_numbers(self, request: web.Request) -> web.Response:
        wanted = NewNumbers.model_validate(await request.json())
        if account := self._twilio.accounts.get(wanted.account):
            for e164 in wanted.numbers:
                account.add_number(e164)
        elif any(a.api_key == wanted.account for a in self._vonage.applications.values()):
            for number in wanted.numbers:
                self._vonage.add_number(None, number, api_key=wanted.account)
        else:
            raise LookupError(f"no account {wanted.account}")
        return web.json_response({"added": len(wanted.numbers)}, status=201)

    def _number(self, request: web.Request) -> tuple[Account, TwilioNumber] | VonageNumber:
        number = request.match_info["number"]
        if found := self._vonage.numbers.get(msisdn(number)):
            return found
        return self._twilio.number("+" + number.lstrip("+"))

    async def _get_number(self, request: web.Request) -> web.Response:
        found = self._number(request)
        shown: dict[str, Any]
        if isinstance(found, VonageNumber):
            shown = {"provider": "vonage", "account": found.api_key, "number": found.msisdn}
            change: type[_Change] = VonageNumberChange
            settings: Any = found
        else:
            account, settings = found
            shown = {"provider": "twilio", "account": account.sid, "number": settings.phone_number}
            change = TwilioNumberChange
        return web.json_response(shown | {n: getattr(settings, n) for n in change.model_fields})

    async def _change_number(self, request: web.Request) -> web.Response:
        found = self._number(request)
        data = await request.json()
        if isinstance(found, VonageNumber):
            change = VonageNumberChange.model_validate(data).given()
            if change.get("app_id") and change["app_id"] not in self._vonage.applications:
                raise LookupError(f"no application {change['app_id']}")
            for name, value in change.items():
                setattr(found, name, value)
        else:
            found[1].change(**TwilioNumberChange.model_validate(data).given())
        return await self._get_number(request)

    async def _take_number(self, request: web.Request) -> web.Response:
        """The number is released: the account has it no longer."""
        found = self._number(request)
        if isinstance(found, VonageNumber):
            del self._vonage.numbers[found.msisdn]
        else:
            account, number = found
            del account.numbers[number.sid]
        return web.Response(status=204)

    # --- applications --------------------------------------------------------------------------------------------------------

    def _application(self, request: web.Request) -> Application:
        application = self._vonage.applications.get(request.match_info["id"])
        if application is None:
            raise LookupError(f"no application {request.match_info['id']}")
        return application

    async def _get_application(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self._application(request)))

    async def _change_application(self, request: web.Request) -> web.Response:
        application = self._application(request)
        change = ApplicationChange.model_validate(await request.json()).given()
        private_key = None
        if change.pop("new_key", False):
            private_key = new_private_key()
            application.public_key = public_half(private_key)
        if public_key := change.pop("public_key", None):
            application.public_key = checked_public_key(public_key)
        if "name" in change:
            application.resource["name"] = change.pop("name")
        if "signed_callbacks" in change:
            application.voice["signed_callbacks"] = change.pop("signed_callbacks")
        if "signature_secret" in change:
            application.signature_secret = change.pop("signature_secret")
        _change_webhooks(application, change)
        return web.json_response(_shown(application) | ({"private_key": private_key} if private_key else {}))


def _change_webhooks(application: Application, change: dict[str, Any]) -> None:
    webhooks = application.voice.setdefault("webhooks", {})
    for name, method in (
        ("answer_url", "answer_method"), ("event_url", "event_method"), ("fallback_answer_url", "fallback_method"),
    ):  # fmt: skip
        if name in change and change[name] is None:
            webhooks.pop(name, None)
            continue
        if change.get(name):
            webhooks.setdefault(name, {})["address"] = change[name]
        if method in change:
            if name not in webhooks:
                raise ValueError(f"{method}: the application has no {name}")
            webhooks[name]["http_method"] = change[method]


def _shown(application: Application) -> dict[str, Any]:
    return {"id": application.id, "account": application.api_key, "public_key": application.public_key} | (
        application.resource
    )
