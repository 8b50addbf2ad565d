"""Which public URL the gateway goes by, as only its answers to signed requests tell."""

import asyncio

import httpx
from installation import Installation
from starlette.datastructures import ImmutableMultiDict
from twilio.request_validator import RequestValidator

from offhook.identities import status_path
from offhook_dev.simulated import TWILIO_CREDENTIALS


async def verifies_against(installation: Installation, url: str, within_s: float = 60.0) -> None:
    """Returns when the gateway takes what is signed for `url`."""
    fields = {
        "AccountSid": TWILIO_CREDENTIALS["account_sid"],
        "CallSid": "CA" + "9" * 32,
        "CallStatus": "ringing",
    }
    path = status_path("probe-of-the-public-url")
    validator = RequestValidator(TWILIO_CREDENTIALS["auth_token"])
    signature = validator.compute_signature(url + path, ImmutableMultiDict(fields))
    async with asyncio.timeout(within_s), httpx.AsyncClient(trust_env=False, timeout=30) as client:
        while True:
            answer = await client.post(
                installation.stack.address.http_url + path,
                data=fields,
                headers={"X-Twilio-Signature": signature},
            )
            if answer.status_code == 204:
                return
            await asyncio.sleep(0.05)
