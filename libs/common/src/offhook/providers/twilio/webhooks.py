"""Twilio's HTTP side: https://www.twilio.com/docs/voice/twiml and
https://www.twilio.com/docs/voice/api/call-resource

Fields are read leniently, for Twilio adds some without notice; all of them are part of the signature.
"""

import re
from collections.abc import Mapping
from typing import Final

from offhook.providers.base import (
    CallRequest,
    ConnectPlan,
    HttpAnswer,
    HttpRequest,
    RequestError,
    SignatureError,
    SignatureFault,
    StatusReport,
    TransferProgress,
    Verified,
)
from offhook.providers.forms import FormError, first_values, parse_form
from offhook.providers.scalars import any_time, bounded, whole_number
from offhook.providers.twilio import credentials as twilio_credentials
from offhook.providers.twilio import signature, twiml
from offhook.providers.twilio.statuses import (
    ANSWERED_BY,
    CALL_STATUSES,
    DIRECTIONS,
    MESSAGE_ENDS,
    TRANSFER_RESULTS,
)

_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_ANONYMOUS: Final = "anonymous"
# Identical on a retry; https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
_RETRY_HEADER: Final = "i-twilio-idempotency-token"
_MAX_KEY: Final = 128


class TwilioWebhooks:
    """`base.Webhooks` for Twilio."""

    def recognises(self, request: HttpRequest) -> bool:
        if signature.SIGNATURE_HEADER in request.headers:
            return True
        try:
            fields = _fields(request)
        except RequestError:
            return False
        return "AccountSid" in fields and "CallSid" in fields

    def claimed_account(self, request: HttpRequest) -> str | None:
        try:
            pairs = _pairs(request)
        except RequestError:
            return None
        accounts = [value for name, value in pairs if name == b"AccountSid"]
        return (accounts[0].decode("utf-8", "replace") or None) if accounts else None

    def verify(self, request: HttpRequest, credentials: Mapping[str, str], now: float) -> Verified:
        url = signature.verify(
            request,
            account_sid=twilio_credentials.account_of(credentials),
            auth_tokens=twilio_credentials.auth_tokens(credentials),
            shared_keys=twilio_credentials.shared_keys(credentials),
        )
        return Verified(url=url, retry_key=request.headers.get(_RETRY_HEADER, "").strip()[:_MAX_KEY] or None)

    def unverified_answer(self, fault: SignatureFault) -> HttpAnswer:
        return HttpAnswer(403)

    def parse_call(self, request: HttpRequest) -> CallRequest:
        fields = _fields(request)
        status = fields.get("CallStatus", "")
        error = None
        if fields.get("ErrorCode"):
            error = f"{fields['ErrorCode']} {fields.get('ErrorUrl', '')}".strip()[:1000]
        return CallRequest(
            provider_call_id=_sid(fields, "CallSid"),
            conversation_id=None,
            account=_sid(fields, "AccountSid"),
            from_number=fields.get("From") or _ANONYMOUS,
            to_number=fields.get("To", ""),
            status=CALL_STATUSES.get(status),
            provider_status=status,
            direction=DIRECTIONS.get(fields.get("Direction", "")),
            error=error,
            failed_url=fields.get("ErrorUrl") or None,
            raw=_raw(fields),
        )

    def parse_status(self, request: HttpRequest) -> StatusReport:
        fields = _fields(request)
        account, call_sid = _sid(fields, "AccountSid"), _sid(fields, "CallSid")
        if fields.get("StreamEvent"):
            return _stream_report(account, call_sid, fields)
        status = fields.get("CallStatus", "")
        answered_by = fields.get("AnsweredBy", "")
        if not status and not answered_by:
            raise RequestError(
                "a status callback has CallStatus, StreamEvent or AnsweredBy; this one has none of them"
            )
        sequence = whole_number(fields.get("SequenceNumber"))
        # The sequence number tells apart what was sent; the time does in callbacks that are not numbered.
        moment = fields.get("Timestamp", "") if sequence is None else str(sequence)
        return StatusReport(
            identity=("twilio", account, call_sid, status or "answered-by", moment, answered_by),
            provider_call_id=call_sid,
            phone_call_id=call_sid,
            conversation_id=None,
            account=account,
            leg="phone",
            status=CALL_STATUSES.get(status),
            provider_status=status[:64] or "answered-by",
            direction=DIRECTIONS.get(fields.get("Direction", "")),
            from_number=fields.get("From") or None,
            to_number=fields.get("To") or None,
            sequence=sequence,
            provider_time=any_time(fields.get("Timestamp")),
            # `CallDuration` is in seconds. `Duration` is in minutes, rounded up: never read.
            duration_s=whole_number(fields.get("CallDuration")),
            sip_code=whole_number(fields.get("SipResponseCode")),
            answered_by=ANSWERED_BY.get(answered_by, "unknown") if answered_by else None,
            message_end=MESSAGE_ENDS.get(answered_by),
            detail=fields.get("ErrorCode") or None,
            raw=_raw(fields),
        )

    def parse_transfer(self, request: HttpRequest) -> TransferProgress | None:
        fields = _fields(request)
        word = fields.get("DialCallStatus", "")
        if not word:
            return None
        # Asked once, when that call is over: whatever the word, it is not going on.
        result = TRANSFER_RESULTS.get(word, "failed")
        if result == "completed" and fields.get("DialBridged") == "false":
            # Somebody answered who was never connected: the caller hears us again.
            return "failed"
        # Of a SIP endpoint only: https://www.twilio.com/docs/voice/twiml/sip
        return "declined" if fields.get("DialSipResponseCode") == "603" else result

    def connect(self, plan: ConnectPlan) -> HttpAnswer:
        parameters = {"token": plan.token, "workflow_run_id": plan.workflow_run_id}
        if plan.transfer is not None:
            parameters["transfer"] = plan.transfer
        document = twiml.connect_stream(plan.media_url, parameters, plan.continue_url, plan.status_url)
        return _answer(document)

    def say_and_hang_up(self, text: str, language: str) -> HttpAnswer:
        return _answer(twiml.say_and_hang_up(text, language))

    def refuse(self, busy: bool) -> HttpAnswer:
        return _answer(twiml.reject(busy))

    def hang_up(self) -> HttpAnswer:
        return _answer(twiml.hang_up())

    def acknowledge(self) -> HttpAnswer:
        return HttpAnswer(204)


def _answer(document: bytes) -> HttpAnswer:
    return HttpAnswer(200, twiml.CONTENT_TYPE, document)


def _fields(request: HttpRequest) -> dict[str, str]:
    return first_values(_pairs(request))


def _pairs(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    # Read exactly what the signature covers: the query of a GET, the form of a POST.
    try:
        if request.method == "GET":
            return parse_form(request.query.encode("utf-8", "surrogatepass"))
        return signature.signed_fields(request)
    except (FormError, SignatureError) as error:
        raise RequestError(str(error)) from error


def _raw(fields: Mapping[str, str]) -> dict[str, str]:
    # `CallToken` lets its holder call on with the caller's identity:
    # https://www.twilio.com/docs/voice/api/call-resource#create-a-call-resource
    return bounded((name, value) for name, value in fields.items() if name != "CallToken")


def _sid(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name, "")
    if _SID.fullmatch(value) is None:
        raise RequestError(f"expected {name}, 1 to 64 letters and digits; got {value[:80]!r}")
    return value


def _stream_report(account: str, call_sid: str, fields: Mapping[str, str]) -> StatusReport:
    # https://www.twilio.com/docs/voice/twiml/stream: its `Timestamp` is ISO 8601, unlike all others.
    event, timestamp = fields["StreamEvent"], fields.get("Timestamp", "")
    return StatusReport(
        identity=("twilio", account, call_sid, fields.get("StreamSid", ""), event, timestamp),
        provider_call_id=call_sid,
        phone_call_id=call_sid,
        conversation_id=None,
        account=account,
        leg="media",
        status=None,
        provider_status=event[:64],
        provider_time=any_time(timestamp),
        detail=fields.get("StreamError", "")[:1000] or None,
        raw=_raw(fields),
    )
