"""Vonage's HTTP side: https://developer.vonage.com/en/voice/voice-api/webhook-reference

One event URL takes everything; what an event is shows in its `status`, or in its shape. Numbers may be
strings and strings may be empty, so all of it is read leniently.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

import msgspec

from offhook.events.calls import TERMINAL_STATUSES, CallDirection, CallStatus, Party
from offhook.providers.base import (
    GOING_ON,
    CallRequest,
    ConnectPlan,
    HttpAnswer,
    HttpRequest,
    RequestError,
    SignatureFault,
    StatusReport,
    TransferProgress,
    Verified,
)
from offhook.providers.forms import MAX_FIELDS, FormError, first_values, parse_form
from offhook.providers.scalars import amount, any_time, bounded, whole_number
from offhook.providers.vonage import credentials as vonage_credentials
from offhook.providers.vonage import ncco, signature
from offhook.providers.vonage.numbers import to_e164
from offhook.providers.vonage.statuses import (
    ANSWERED_BY,
    ASKS_FOR_INSTRUCTIONS,
    CALL_STATUSES,
    DIRECTIONS,
    DISCONNECTED,
    MESSAGE_ENDS,
    PRICE_UNIT,
    TRANSFER_RESULTS,
    UNNAMED_EVENTS,
    status_of,
)

_UUID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_ANONYMOUS: Final = "anonymous"
_LARGEST: Final = 10**18
# The name of the caller's leg in the NCCO's headers, and in the media leg's event URL.
CALL_UUID: Final = "call_uuid"

_decode_json = msgspec.json.Decoder().decode


class VonageWebhooks:
    """`base.Webhooks` for Vonage."""

    def recognises(self, request: HttpRequest) -> bool:
        if "x-twilio-signature" in request.headers:
            return False
        if request.headers.get("authorization", "")[:7].lower() == "bearer ":
            return True
        try:
            fields = _fields(request)
        except RequestError:
            return False
        return "conversation_uuid" in fields or "uuid" in fields

    def claimed_account(self, request: HttpRequest) -> str | None:
        return signature.claimed_application(request)

    def verify(self, request: HttpRequest, credentials: Mapping[str, str], now: float) -> Verified:
        claims = signature.verify(
            request,
            application_id=vonage_credentials.account_of(credentials),
            api_key=credentials.get("api_key", ""),
            signature_secrets=vonage_credentials.signature_secrets(credentials),
            now=now,
        )
        return Verified(replay_key=claims.jti or None, issued_at=float(claims.iat))

    def unverified_answer(self, fault: SignatureFault) -> HttpAnswer:
        # After an internal error Vonage may deliver unsigned; of all refusals it retries only 429, 503 and
        # 504.
        return HttpAnswer(503 if fault is SignatureFault.MISSING else 403)

    def parse_call(self, request: HttpRequest) -> CallRequest:
        fields = _fields(request)
        reason = _text(fields, "reason")
        return CallRequest(
            provider_call_id=_leg_id(fields),
            conversation_id=_text(fields, "conversation_uuid") or None,
            account=self.claimed_account(request) or "",
            from_number=_party(fields, "from") or _ANONYMOUS,
            to_number=_party(fields, "to"),
            status=CALL_STATUSES.get(_text(fields, "status")),
            provider_status=_text(fields, "status"),
            direction=DIRECTIONS.get(_text(fields, "direction")),
            error=reason or None,
            failed_url=_failed_url(fields),
            raw=_raw(fields),
        )

    def parse_status(self, request: HttpRequest) -> StatusReport:
        fields = _fields(request)
        account = self.claimed_account(request) or ""
        word = _text(fields, "status") or _event_name(fields)
        from_number, to_number = _party(fields, "from"), _party(fields, "to")
        is_media = word == DISCONNECTED or _is_socket(fields, to_number)
        conversation = _text(fields, "conversation_uuid") or None
        leg_id = _leg_id(fields, optional=conversation is not None)
        detail = _text(fields, "detail") or _text(fields, "sub_state") or _text(fields, "reason")
        status = status_of(word, detail)
        direction = DIRECTIONS.get(_text(fields, "direction"))
        price = amount(fields.get("price"))
        timestamp = _text(fields, "timestamp")
        # Neither a number nor an id comes with an event, so without a time the whole of it is its identity.
        moment = timestamp or sha256(request.body or request.query.encode("utf-8", "replace")).hexdigest()
        return StatusReport(
            identity=("vonage", account, leg_id, conversation or "", word, detail, moment),
            provider_call_id=leg_id,
            phone_call_id=_phone_leg(request, fields) if is_media else (leg_id or None),
            conversation_id=conversation,
            account=account,
            leg="media" if is_media else "phone",
            status=status,
            provider_status=word[:64],
            direction=direction,
            from_number=from_number or None,
            to_number=to_number or None,
            provider_time=any_time(timestamp),
            duration_s=whole_number(fields.get("duration")),
            sip_code=whole_number(fields.get("sip_code")),
            price=price,
            price_unit=PRICE_UNIT if price is not None else None,
            answered_by=ANSWERED_BY.get(word),
            message_end=MESSAGE_ENDS.get(_text(fields, "sub_state")) if word == "machine" else None,
            detail=detail or None,
            ended_by=None if is_media else _ended_by(fields, status, direction),
            wants_instructions=is_media and word in ASKS_FOR_INSTRUCTIONS,
            raw=_raw(fields),
        )

    def parse_transfer(self, request: HttpRequest) -> TransferProgress | None:
        fields = _fields(request)
        word = _text(fields, "status")
        if not word or word == DISCONNECTED or _is_socket(fields, _party(fields, "to")):
            return None
        if word == "rejected" and _text(fields, "detail") == "declined":
            return "declined"
        return TRANSFER_RESULTS.get(word, GOING_ON)

    def connect(self, plan: ConnectPlan) -> HttpAnswer:
        headers = {
            CALL_UUID: plan.provider_call_id,
            "workflow_run_id": plan.workflow_run_id,
            "token": plan.token,
        }
        if plan.transfer is not None:
            headers["transfer"] = plan.transfer
        # Not every event of the media leg echoes the headers, and none names the caller's leg; the URL does.
        separator = "&" if "?" in plan.status_url else "?"
        event_url = f"{plan.status_url}{separator}{CALL_UUID}={quote(plan.provider_call_id, safe='')}"
        rate = ncco.sample_rate_for(plan.sample_rate)
        return _answer(ncco.connect_websocket(plan.media_url, rate, headers, event_url))

    def say_and_hang_up(self, text: str, language: str) -> HttpAnswer:
        return _answer(ncco.say_and_hang_up(text, language))

    def refuse(self, busy: bool) -> HttpAnswer:
        return _answer(ncco.hang_up())

    def hang_up(self) -> HttpAnswer:
        return _answer(ncco.hang_up())

    def acknowledge(self) -> HttpAnswer:
        return HttpAnswer(204)


def _answer(document: bytes) -> HttpAnswer:
    return HttpAnswer(200, ncco.CONTENT_TYPE, document)


def _fields(request: HttpRequest) -> dict[str, Any]:
    # Read exactly what the token's hash covers: the query of a GET, the body of a POST.
    if request.method == "GET":
        try:
            return dict(first_values(parse_form(request.query.encode("utf-8", "surrogatepass"))))
        except FormError as error:
            raise RequestError(str(error)) from error
    try:
        document = _decode_json(request.body)
    except signature.JSON_ERRORS as error:
        raise RequestError(f"expected a JSON object: {error}"[:300]) from error
    if not isinstance(document, dict):
        raise RequestError(f"expected a JSON object, got {type(document).__name__}")
    if len(document) > MAX_FIELDS:
        raise RequestError(f"an object of more than {MAX_FIELDS} fields")
    return document


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value[:1000]
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        return ""
    return str(value)


def _party(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if isinstance(value, dict):  # as the REST API writes them
        return to_e164(_text(value, "number") or _text(value, "uri"))
    return to_e164(_text(fields, name))


def _is_socket(fields: Mapping[str, Any], to_number: str) -> bool:
    return to_number.startswith(("ws://", "wss://")) or _text(fields, "endpoint_type") == "websocket"


def _leg_id(fields: Mapping[str, Any], optional: bool = False) -> str:
    # `human` and `machine` name the leg `call_uuid`, all others `uuid`.
    value = _text(fields, "uuid") or _text(fields, CALL_UUID)
    if not value and optional:
        return ""
    if _UUID.fullmatch(value) is None:
        raise RequestError(f"expected uuid, the id of a leg; got {value[:80]!r}")
    return value


def _phone_leg(request: HttpRequest, fields: Mapping[str, Any]) -> str | None:
    headers = fields.get("headers")
    value = _text(headers, CALL_UUID) if isinstance(headers, dict) else ""
    if not value and request.method == "POST":
        try:
            value = first_values(parse_form(request.query.encode("utf-8", "replace"))).get(CALL_UUID, "")
        except FormError:
            return None
    return value if _UUID.fullmatch(value) else None


def _failed_url(fields: Mapping[str, Any]) -> str | None:
    original = fields.get("original_request")
    return (_text(original, "url") or None) if isinstance(original, dict) else None


def _event_name(fields: Mapping[str, Any]) -> str:
    for field, name in UNNAMED_EVENTS:
        if field in fields:
            return name
    raise RequestError(
        "an event has a status, or is a recording, an input, a transfer or an error; this is none"
    )


def _ended_by(
    fields: Mapping[str, Any], status: CallStatus | None, direction: CallDirection | None
) -> Party | None:
    if status not in TERMINAL_STATUSES:
        return None
    match _text(fields, "disconnected_by"), direction:
        case "platform", _:
            return Party.PLATFORM
        case "user", "inbound":
            return Party.CALLER
        case "user", "outbound":
            return Party.CALLEE
    return None


def _raw(fields: Mapping[str, Any]) -> dict[str, str]:
    # Objects stay out: `headers`, echoed by Vonage, hold the media token.
    return bounded(
        (name, _text(fields, name)) for name, value in fields.items() if not isinstance(value, dict | list)
    )
