"""Twilio's REST API, as far as voice needs it: calls, phone numbers, the account.

https://www.twilio.com/docs/voice/api/call-resource, https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
"""

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from aiohttp import BasicAuth, web
from multidict import MultiDictProxy

from carrier_sim.twilio import twiml
from carrier_sim.twilio.accounts import Account, Number
from carrier_sim.twilio.call import TwilioCall
from carrier_sim.twilio.carrier import TwilioCarrier
from carrier_sim.twilio.fields import API_VERSION
from carrier_sim.twilio.plan import Detection, Plan, Source
from carrier_sim.twilio.resources import PREFIX, account_resource, call_resource, number_resource
from carrier_sim.twilio.rest_errors import RestError, not_found

_E164 = re.compile(r"^\+[1-9]\d{1,14}$")
_SEND_DIGITS = re.compile(r"^[0-9*#wW]{1,32}$")
_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})
_STATUSES = frozenset(
    {"queued", "ringing", "in-progress", "completed", "failed", "busy", "no-answer", "canceled"}
)
_METHODS = {"GET", "POST"}
_MAX_PAGE = 1000

Form = MultiDictProxy[Any]


class TwilioRest:
    """The routes; `routes` are added to the simulator's application."""

    def __init__(self, carrier: TwilioCarrier) -> None:
        self._carrier = carrier
        self._next_start: dict[str, float] = {}

    def routes(self) -> list[web.RouteDef]:
        account = f"{PREFIX}/{{account}}"
        call = f"{account}/Calls/{{sid}}.json"
        number = f"{account}/IncomingPhoneNumbers/{{sid}}.json"
        return [
            web.get(f"{account}.json", self._guard(self._fetch_account, always=True)),
            web.post(f"{account}/Calls.json", self._guard(self._create_call)),
            web.get(f"{account}/Calls.json", self._guard(self._list_calls)),
            web.get(call, self._guard(self._fetch_call)),
            web.post(call, self._guard(self._update_call)),
            web.delete(call, self._guard(self._delete_call)),
            web.get(f"{account}/IncomingPhoneNumbers.json", self._guard(self._list_numbers)),
            web.get(number, self._guard(self._fetch_number)),
            web.post(number, self._guard(self._update_number)),
            web.route("*", f"/{API_VERSION}/{{rest:.*}}", self._unknown),
        ]

    def _guard(
        self, handle: Callable[[Account, web.Request, Form], web.Response], *, always: bool = False
    ) -> Callable[[web.Request], Any]:
        """Authenticate, read the form, and answer errors in Twilio's shape. `always`: also for an account that is not active."""

        async def guarded(request: web.Request) -> web.Response:
            try:
                account = self._authenticate(request)
                if account.status != "active" and not always:
                    raise RestError(20005, "Account not active", 403)
                form: Form = await request.post()
                return handle(account, request, form)
            except RestError as error:
                return error.response()

        return guarded

    async def _unknown(self, request: web.Request) -> web.Response:
        return not_found(request).response()

    def _authenticate(self, request: web.Request) -> Account:
        # Unknown account, wrong secret, no credentials: the same answer, so that nothing can be learned from it.
        denied = RestError(20003, "Authenticate", 401)
        try:
            credentials = BasicAuth.decode(request.headers.get("Authorization", ""))
        except ValueError:
            raise denied from None
        account = self._carrier.accounts.get(request.match_info["account"])
        if account is None or not account.accepts(credentials.login, credentials.password):
            raise denied
        return account

    # --- the account -----------------------------------------------------------------------------------------------------

    def _fetch_account(self, account: Account, request: web.Request, form: Form) -> web.Response:
        return web.json_response(account_resource(account))

    # --- calls -------------------------------------------------------------------------------------------------------------

    def _create_call(self, account: Account, request: web.Request, form: Form) -> web.Response:
        to_number, from_number = self._parties(account, form)
        timeout = _integer(form, "Timeout", 60, 0, 600, 21208, "Invalid Timeout")
        limit = _integer(form, "TimeLimit", 4 * 3600, 1, 24 * 3600, 20001, "Invalid TimeLimit")
        if (digits := form.get("SendDigits")) and not _SEND_DIGITS.fullmatch(digits):
            raise RestError(21206, "Invalid SendDigits")
        events = frozenset(" ".join(form.getall("StatusCallbackEvent", [])).split())
        plan = Plan(
            source=self._source(form, required=True),
            fallback_url=self._url(form, "FallbackUrl"),
            fallback_method=_method(form, "FallbackMethod"),
            status_callback=self._url(form, "StatusCallback"),
            status_method=_method(form, "StatusCallbackMethod"),
            status_events=(events & _EVENTS) or frozenset({"completed"}),
            ring_timeout_s=float(timeout),
            time_limit_s=float(limit),
            detection=self._detection(form),
            send_digits=str(digits or ""),
        )
        callee = self._carrier.exchange.callees.find(to_number)
        call = TwilioCall(
            self._carrier.exchange,
            account,
            direction="outbound-api",
            from_number=from_number,
            to_number=to_number,
            plan=plan,
            number=account.number(from_number),
            faults=callee.faults,
        )
        if unknown := events - _EVENTS:
            call.report.violate(
                "21626", f"Invalid statusCallbackEvents: {', '.join(sorted(unknown))}", severity="warning"
            )
        if plan.detection and plan.detection.asynchronous and not plan.detection.callback:
            call.report.violate("21262", "No AMD status callback URL provided", severity="warning")
        self._carrier.calls[call.sid] = call
        self._carrier.exchange.spawn(call.run_outbound(callee, self._queue_s(account)))
        return web.json_response(call_resource(call), status=201)

    def _parties(self, account: Account, form: Form) -> tuple[str, str]:
        to_number, from_number = form.get("To", ""), form.get("From", "")
        if not to_number:
            raise RestError(21201, "No 'To' number is specified")
        if not from_number:
            raise RestError(21213, "No 'From' number is specified")
        if not _E164.fullmatch(to_number):
            raise RestError(21211, f"Invalid 'To' Phone Number: {to_number}")
        if not _E164.fullmatch(from_number):
            raise RestError(21212, f"Invalid 'From' Phone Number: {from_number}")
        if account.number(from_number) is None and from_number not in account.verified_callers:
            raise RestError(
                21210,
                f"The source phone number provided, {from_number}, is not yet verified for your account."
                " You may only make calls from phone numbers that you've verified or purchased from Twilio.",
            )
        return to_number, from_number

    def _source(self, form: Form, *, required: bool) -> Source:
        if url := form.get("Url"):
            return Source(self._checked_url("Url", url, 21205), _method(form, "Method"))
        if document := form.get("Twiml"):
            if len(document) > twiml.MAX_INLINE:
                raise RestError(20001, f"Twiml has {len(document)} characters, at most {twiml.MAX_INLINE}")
            return Source(document=document.encode(), base="")
        if form.get("ApplicationSid"):
            raise RestError(21218, "Invalid ApplicationSid")
        if required:
            raise RestError(21205, "Url parameter is required.")
        return Source()

    def _url(self, form: Form, name: str, code: int = 21205) -> str:
        url = str(form.get(name, ""))
        return self._checked_url(name, url, code) if url else ""

    def _checked_url(self, name: str, url: str, code: int) -> str:
        parts = urlsplit(url)
        allowed = ("https", "http") if self._carrier.exchange.config.allow_plain else ("https",)
        if parts.scheme not in allowed or not parts.hostname or " " in url:
            raise RestError(code, f"{name} is not a valid URL: {url}")
        return url

    def _detection(self, form: Form) -> Detection | None:
        mode = form.get("MachineDetection")
        if not mode:
            return None
        if mode not in ("Enable", "DetectMessageEnd"):
            raise RestError(20001, f"Invalid MachineDetection: {mode}")
        return Detection(
            wait_for_end=mode == "DetectMessageEnd",
            asynchronous=form.get("AsyncAmd", "false") == "true",
            callback=self._url(form, "AsyncAmdStatusCallback"),
            callback_method=_method(form, "AsyncAmdStatusCallbackMethod"),
        )

    def _queue_s(self, account: Account) -> float:
        """One call a second and account; the excess waits in the queue, it is not refused."""
        if not self._carrier.exchange.config.rate_limits:
            return 0.0
        now = time.monotonic()
        start = max(now, self._next_start.get(account.sid, 0.0))
        self._next_start[account.sid] = start + 1.0
        return start - now

    def _call(self, account: Account, request: web.Request) -> TwilioCall:
        call = self._carrier.find(request.match_info["sid"])
        if call is None or call.account is not account:
            raise not_found(request)
        return call

    def _fetch_call(self, account: Account, request: web.Request, form: Form) -> web.Response:
        return web.json_response(call_resource(self._call(account, request)))

    def _delete_call(self, account: Account, request: web.Request, form: Form) -> web.Response:
        call = self._call(account, request)
        if not call.is_over:
            raise RestError(20001, "A call that is in progress cannot be deleted")
        self._carrier.forget(call)
        return web.Response(status=204)

    def _update_call(self, account: Account, request: web.Request, form: Form) -> web.Response:
        call = self._call(account, request)
        status = form.get("Status")
        if status is not None and status not in ("completed", "canceled"):
            raise RestError(20001, f"Invalid Status: {status}. Only canceled and completed are accepted.")
        source = self._source(form, required=False)
        if call.is_over:
            raise RestError(21220, "Call is not in-progress. Cannot redirect.")
        changes: dict[str, Any] = {}
        if "StatusCallback" in form:
            changes["status_callback"] = self._url(form, "StatusCallback")
            changes["status_method"] = _method(form, "StatusCallbackMethod")
        if "FallbackUrl" in form:
            changes["fallback_url"] = self._url(form, "FallbackUrl")
            changes["fallback_method"] = _method(form, "FallbackMethod")
        call.change(**changes)
        if status == "completed" or (status == "canceled" and call.answered is None):
            call.end("rest", "hung-up")
            return web.json_response(
                call_resource(call) | {"status": "completed" if call.answered else "canceled"}
            )
        if source.url or source.document is not None:
            if call.answered is None:
                raise RestError(21220, "Call is not in-progress. Cannot redirect.")
            call.redirect(source)
        return web.json_response(call_resource(call))

    def _list_calls(self, account: Account, request: web.Request, form: Form) -> web.Response:
        query = request.query
        status = query.get("Status")
        if status is not None and status not in _STATUSES:
            raise RestError(20001, f"Invalid Status: {status}")
        wanted = {
            "to": query.get("To"),
            "from": query.get("From"),
            "status": status,
            "parent_call_sid": query.get("ParentCallSid"),
        }
        found = []
        for call in sorted(self._carrier.every_call(), key=lambda c: c.created, reverse=True):
            resource = call_resource(call)
            if (
                call.account is account
                and all(value is None or resource[name] == value for name, value in wanted.items())
                and _within(query, "StartTime", call.created)
                and _within(query, "EndTime", call.ended)
            ):
                found.append(resource)
        return _page(request, "calls", found)

    # --- numbers -------------------------------------------------------------------------------------------------------------

    def _number(self, account: Account, request: web.Request) -> Number:
        number = account.numbers.get(request.match_info["sid"])
        if number is None:
            raise not_found(request)
        return number

    def _list_numbers(self, account: Account, request: web.Request, form: Form) -> web.Response:
        # A filter matches anywhere in the number.
        wanted, name = request.query.get("PhoneNumber", ""), request.query.get("FriendlyName")
        found = [
            number_resource(account, number)
            for number in account.numbers.values()
            if wanted.strip() in number.phone_number and name in (None, number.friendly_name)
        ]
        return _page(request, "incoming_phone_numbers", found)

    def _fetch_number(self, account: Account, request: web.Request, form: Form) -> web.Response:
        return web.json_response(number_resource(account, self._number(account, request)))

    def _update_number(self, account: Account, request: web.Request, form: Form) -> web.Response:
        number = self._number(account, request)
        changes: dict[str, Any] = {}
        for name, attribute in (
            ("VoiceUrl", "voice_url"),
            ("VoiceFallbackUrl", "voice_fallback_url"),
            ("StatusCallback", "status_callback"),
        ):
            if name in form:
                changes[attribute] = self._url(form, name, 21502 if name == "StatusCallback" else 21402)
        for name, attribute in (
            ("VoiceMethod", "voice_method"),
            ("VoiceFallbackMethod", "voice_fallback_method"),
            ("StatusCallbackMethod", "status_callback_method"),
        ):
            if name in form:
                changes[attribute] = _method(form, name)
        # Each of the two deletes the other.
        if "VoiceApplicationSid" in form:
            changes |= {"voice_application_sid": str(form["VoiceApplicationSid"]), "trunk_sid": None}
        if form.get("TrunkSid"):
            changes |= {"trunk_sid": str(form["TrunkSid"]), "voice_application_sid": ""}
        if "FriendlyName" in form:
            changes["friendly_name"] = str(form["FriendlyName"])
        for attribute, value in changes.items():
            setattr(number, attribute, value)
        number.updated = datetime.now(UTC)
        return web.json_response(number_resource(account, number))


def _method(form: Form, name: str) -> str:
    value = str(form.get(name) or "POST").upper()
    if value not in _METHODS:
        raise RestError(21209, f"Invalid {name}: {value}")
    return value


def _integer(form: Form, name: str, default: int, low: int, high: int, code: int, message: str) -> int:
    text = form.get(name)
    if text in (None, ""):
        return default
    if not str(text).isdigit() or not low <= int(str(text)) <= high:
        raise RestError(code, f"{message}: {text}")
    return int(str(text))


def _within(query: Mapping[str, str], name: str, when: datetime | None) -> bool:
    """Whether a time passes the filters `Name`, `Name<` and `Name>` (days, or ISO 8601 times)."""
    for suffix in ("", "<", ">"):
        text = query.get(name + suffix)
        if text is None:
            continue
        if when is None:
            return False
        try:
            bound = datetime.fromisoformat(text)
        except ValueError:
            raise RestError(20001, f"Invalid {name}{suffix}: {text}") from None
        bound = bound if bound.tzinfo else bound.replace(tzinfo=UTC)
        whole_day = len(text) == 10
        after = bound + timedelta(days=1) if whole_day else bound
        if suffix == "" and not (bound <= when < after if whole_day else bound == when):
            return False
        if suffix == "<" and when > after:
            return False
        if suffix == ">" and when < bound:
            return False
    return True


def _page(request: web.Request, name: str, items: list[dict[str, Any]]) -> web.Response:
    try:
        size = int(request.query.get("PageSize", 50))
        page = int(request.query.get("Page", 0))
    except ValueError:
        raise RestError(20001, "Invalid PageSize or Page") from None
    if not 1 <= size <= _MAX_PAGE or page < 0:
        raise RestError(20001, f"Page size must be between 1 and {_MAX_PAGE}")
    shown = items[page * size : (page + 1) * size]

    def uri(number: int) -> str:
        query = [(k, v) for k, v in request.query.items() if k not in ("Page", "PageSize", "PageToken")]
        return f"{request.path}?{urlencode([*query, ('PageSize', size), ('Page', number)])}"

    return web.json_response(
        {
            name: shown,
            "end": page * size + max(0, len(shown) - 1),
            "first_page_uri": uri(0),
            "next_page_uri": uri(page + 1) if (page + 1) * size < len(items) else None,
            "page": page,
            "page_size": size,
            "previous_page_uri": uri(page - 1) if page else None,
            "start": page * size,
            "uri": uri(page),
        }
    )
