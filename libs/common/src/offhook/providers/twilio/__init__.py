"""Twilio: form posts signed with HMAC-SHA1, TwiML, Media Streams. https://www.twilio.com/docs/voice"""

from typing import Final

from offhook.providers.base import ProviderAdapter
from offhook.providers.twilio.credentials import TwilioCredentials, account_of
from offhook.providers.twilio.documents import TwilioDocuments
from offhook.providers.twilio.lines import TwilioLines
from offhook.providers.twilio.media import TwilioMediaServer
from offhook.providers.twilio.webhooks import TwilioWebhooks

TWILIO: Final = ProviderAdapter(
    name="twilio",
    label="Twilio",
    webhooks=TwilioWebhooks(),
    media_server=TwilioMediaServer,
    credentials_model=TwilioCredentials,
    account_of=account_of,
    lines=TwilioLines(),
    documents=TwilioDocuments(),
    dtmf_out="in-band",
    # https://www.twilio.com/docs/api/errors/31921
    closing_is_a_fault=True,
)
