"""Twilio's resources as its REST API shows them. All figures are strings, all times RFC 2822."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from carrier_sim.twilio.accounts import Account, Number
from carrier_sim.twilio.call import TwilioCall
from carrier_sim.twilio.fields import API_VERSION, rfc2822

PREFIX = f"/{API_VERSION}/Accounts"


def account_resource(account: Account) -> dict[str, Any]:
    """The Account resource."""
    return {
        "auth_token": account.auth_token,
        "date_created": rfc2822(account.created),
        "date_updated": rfc2822(account.created),
        "friendly_name": account.friendly_name,
        "owner_account_sid": account.sid,
        "sid": account.sid,
        "status": account.status,
        "subresource_uris": {
            "calls": f"{PREFIX}/{account.sid}/Calls.json",
            "incoming_phone_numbers": f"{PREFIX}/{account.sid}/IncomingPhoneNumbers.json",
        },
        "type": "Full",
        "uri": f"{PREFIX}/{account.sid}.json",
    }


def _when(moment: datetime | None) -> str | None:
    return rfc2822(moment) if moment else None


def call_resource(call: TwilioCall) -> dict[str, Any]:
    """The Call resource. All numbers are strings."""
    uri = f"{PREFIX}/{call.account.sid}/Calls/{call.sid}"
    subresources: Iterable[str] = ("events", "notifications", "payments", "recordings", "siprec", "streams")
    over = call.ended is not None
    minutes = -(-call.duration_s // 60)
    priced = call.ended is not None and datetime.now(UTC) - call.ended >= timedelta(
        seconds=call.price_after_s
    )
    return {
        "account_sid": call.account.sid,
        "annotation": None,
        "answered_by": call.answered_by,
        "api_version": API_VERSION,
        "caller_name": None,
        "date_created": _when(call.created),
        "date_updated": _when(call.ended or call.answered or call.created),
        "direction": call.direction,
        "duration": str(call.duration_s) if over else None,
        "end_time": _when(call.ended),
        "forwarded_from": None,
        "from": call.from_number,
        "from_formatted": _formatted(call.from_number),
        "group_sid": None,
        "parent_call_sid": call.parent.sid if call.parent else None,
        "phone_number_sid": call.number.sid if call.number else None,
        "price": f"-{minutes * 0.014:.4f}" if priced and call.answered else None,
        "price_unit": "USD",
        "queue_time": "0",
        "sid": call.sid,
        "start_time": _when(call.answered or (call.created if over else None)),
        "status": call.status,
        "subresource_uris": {name: f"{uri}/{name.capitalize()}.json" for name in subresources},
        "to": call.to_number,
        "to_formatted": _formatted(call.to_number),
        "trunk_sid": None,
        "uri": f"{uri}.json",
    }


def _formatted(number: str) -> str:
    if number.startswith("+1") and len(number) == 12:
        return f"({number[2:5]}) {number[5:8]}-{number[8:]}"
    return number


def number_resource(account: Account, number: Number) -> dict[str, Any]:
    """The IncomingPhoneNumber resource. What is not set is an empty string, whatever Twilio's own schema says."""
    return {
        "account_sid": account.sid,
        "address_requirements": "none",
        "address_sid": None,
        "api_version": API_VERSION,
        "beta": False,
        "bundle_sid": None,
        "capabilities": {"voice": number.voice, "sms": True, "mms": True, "fax": False},
        "date_created": rfc2822(number.created),
        "date_updated": rfc2822(number.updated),
        "emergency_address_sid": None,
        "emergency_address_status": "unregistered",
        "emergency_status": "Inactive",
        "friendly_name": number.friendly_name,
        "identity_sid": None,
        "origin": "twilio",
        "phone_number": number.phone_number,
        "sid": number.sid,
        "sms_application_sid": "",
        "sms_fallback_method": "POST",
        "sms_fallback_url": "",
        "sms_method": "POST",
        "sms_url": "",
        "status": "in-use",
        "status_callback": number.status_callback,
        "status_callback_method": number.status_callback_method,
        "trunk_sid": number.trunk_sid,
        "type": None,
        "uri": f"{PREFIX}/{account.sid}/IncomingPhoneNumbers/{number.sid}.json",
        "voice_application_sid": number.voice_application_sid,
        "voice_caller_id_lookup": False,
        "voice_fallback_method": number.voice_fallback_method,
        "voice_fallback_url": number.voice_fallback_url,
        "voice_method": number.voice_method,
        "voice_receive_mode": "voice",
        "voice_url": number.voice_url,
    }
