"""The voice settings within a Vonage application, as the Applications API writes it: reading and changing them.

Only what is named is changed: an application has more than we know (messages, timeouts, a region), and a PUT replaces
all of it. https://developer.vonage.com/en/api/application.v2
"""

import copy
from collections.abc import Mapping
from typing import Any

from offhook.providers.base import Settings
from offhook.providers.vonage.lines import SIGNED, WEBHOOKS


def settings_of(application: Mapping[str, Any]) -> Settings:
    """The voice webhooks, their methods, and whether callbacks are signed; '' for what is not set."""
    voice = _part(_part(application, "capabilities"), "voice")
    webhooks = _part(voice, "webhooks")
    settings: dict[str, str] = {}
    for webhook, (method, _) in WEBHOOKS.items():
        entry = _part(webhooks, webhook)
        settings[webhook] = _text(entry.get("address"))
        settings[method] = _text(entry.get("http_method"))
    signed = voice.get(SIGNED)
    settings[SIGNED] = str(signed).lower() if isinstance(signed, bool) else ""
    return settings


def changed(application: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The application with these settings, and everything else in it as it was. '' takes a setting out; a webhook
    without an address goes as a whole."""
    after = copy.deepcopy(dict(application))
    voice = _made(_made(after, "capabilities"), "voice")
    webhooks = _made(voice, "webhooks")
    for webhook, (method, _) in WEBHOOKS.items():
        entry = dict(_part(webhooks, webhook))
        for name, setting in (("address", webhook), ("http_method", method)):
            if setting in settings:
                entry[name] = settings[setting]
                if not settings[setting]:
                    del entry[name]
        if entry.get("address"):
            webhooks[webhook] = entry
        elif webhook in settings:
            webhooks.pop(webhook, None)
    if SIGNED in settings:
        voice[SIGNED] = settings[SIGNED] == "true"
        if not settings[SIGNED]:
            del voice[SIGNED]
    return after


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def _made(whole: dict[str, Any], name: str) -> dict[str, Any]:
    part = whole.get(name)
    if not isinstance(part, dict):
        part = whole[name] = {}
    return part


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
