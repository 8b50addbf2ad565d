"""`docs/reference/settings.md`: every environment variable, as the settings classes have it."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from call_tracker.recording.app import RecorderSettings
from call_tracker.settings import TrackerSettings
from media_bridge.settings import BridgeSettings
from number_sync.settings import NumberSyncSettings
from offhook.preparation import named_variables
from offhook.settings import PREFIX, ServiceSettings
from webhook_gateway.settings import GatewaySettings

SERVICES: Final[dict[str, type[ServiceSettings]]] = {
    "webhook-gateway": GatewaySettings,
    "media-bridge": BridgeSettings,
    "call-tracker": TrackerSettings,
    "recorder": RecorderSettings,
    "number-sync": NumberSyncSettings,
}


def settings_page(note: str) -> str:
    """The page; `note` is its first line."""
    lines = [
        note,
        "# Settings",
        "",
        f"Environment variables with the prefix `{PREFIX}`, the same on a laptop, in compose and on Kubernetes. A setting"
        " that is wrong or missing is said in a sentence, and the process ends with 2. An empty variable counts as not set."
        " **Secret** ones appear in no log and no error.",
        "",
        "## Every service",
        "",
        *_table(ServiceSettings.model_fields, None),
        "",
        "The shared secrets are needed by:",
        "",
        "| service | needs |",
        "|---|---|",
        *(f"| {name} | {_needs(kind)} |" for name, kind in SERVICES.items()),
        "",
    ]
    for name, kind in SERVICES.items():
        lines += [f"## {name}", "", *_table(kind.model_fields, _base(name)), ""]
    lines += [
        "## offhook prepare",
        "",
        "Reads the settings of Kafka above, and the URLs of the databases to migrate (each may be absent):",
        "",
        *(f"* `{variable}`" for variable in named_variables()),
        "",
    ]
    return "\n".join(lines)


def _base(name: str) -> dict[str, FieldInfo]:
    """What a service's section need not repeat."""
    return (TrackerSettings if name == "recorder" else ServiceSettings).model_fields


def _needs(kind: type[ServiceSettings]) -> str:
    return ", ".join(f"`{PREFIX}{name.upper()}`" for name in sorted(kind.SECRETS)) or "none"


def _table(fields: dict[str, FieldInfo], known: dict[str, FieldInfo] | None) -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for name, field in fields.items():
        if known is not None and name in known and _default(known[name]) == _default(field):
            continue
        secret = "**Secret.** " if "SecretStr" in str(field.annotation) else ""
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{PREFIX}{name.upper()}` | {_default(field)} | {secret}{meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    if field.default_factory is not None:
        return "made up"
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in ("", ()):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
