"""Vonage Voice API: JSON webhooks signed with a JWT, NCCO, raw PCM over WebSocket.
https://developer.vonage.com/en/voice"""

from typing import Final

from offhook.providers.base import ProviderAdapter
from offhook.providers.vonage.credentials import VonageCredentials, account_of
from offhook.providers.vonage.documents import VonageDocuments
from offhook.providers.vonage.lines import VonageLines
from offhook.providers.vonage.media import VonageMediaServer
from offhook.providers.vonage.webhooks import VonageWebhooks

VONAGE: Final = ProviderAdapter(
    name="vonage",
    label="Vonage",
    webhooks=VonageWebhooks(),
    media_server=VonageMediaServer,
    credentials_model=VonageCredentials,
    account_of=account_of,
    lines=VonageLines(),
    documents=VonageDocuments(),
    dtmf_out="rest",
)
