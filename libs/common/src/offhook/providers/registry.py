"""The providers there are. The only list of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from offhook.providers.base import HttpRequest, ProviderAdapter, RestFactory
from offhook.providers.twilio import TWILIO
from offhook.providers.vonage import VONAGE

PROVIDERS: Final[Mapping[str, ProviderAdapter]] = MappingProxyType({TWILIO.name: TWILIO, VONAGE.name: VONAGE})


def recognise(request: HttpRequest) -> ProviderAdapter | None:
    """The provider the request claims to come from; nothing is proven. None: no provider we know."""
    for adapter in PROVIDERS.values():
        if adapter.webhooks.recognises(request):
            return adapter
    return None


def rest(name: str) -> RestFactory:
    """The REST side of a provider: `rest("twilio")(credentials, base_url=None, timeout_s=10, pace=None)`. Raises
    `KeyError`.

    Imported here and not above: it needs the vendor's SDK, which only number-sync has.
    """
    if name == TWILIO.name:
        from offhook.providers.twilio.rest import TwilioRest

        return TwilioRest
    if name == VONAGE.name:
        from offhook.providers.vonage.rest import VonageRest

        return VonageRest
    raise KeyError(name)
