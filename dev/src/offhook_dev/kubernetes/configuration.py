"""What pods are told: every variable is a setting, every secret goes to those who need it, and the services can start."""

import base64
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import certifi

from call_tracker.recording.app import RecorderSettings
from call_tracker.settings import TrackerSettings
from media_bridge.settings import BridgeSettings
from number_sync.settings import NumberSyncSettings
from offhook.errors import SettingsError
from offhook.settings import PREFIX, ServiceSettings, read_settings
from offhook_dev.kubernetes.rendered import Manifest, Rendered, container_of, is_ours, pod_of
from webhook_gateway.settings import GatewaySettings

SETTINGS: Final[Mapping[str, type[ServiceSettings]]] = {
    "webhook-gateway": GatewaySettings,
    "media-bridge": BridgeSettings,
    "call-tracker": TrackerSettings,
    "number-sync": NumberSyncSettings,
    "recorder": RecorderSettings,
}
PREPARE: Final = "prepare"
# Read by `offhook prepare` beside the settings of every service.
PREPARE_DATABASES: Final = ("OFFHOOK_CALL_TRACKER_DATABASE_URL", "OFFHOOK_NUMBER_SYNC_DATABASE_URL")
_SHARED_SECRETS: Final = frozenset({"keyring", "token_key", "api_keys", "session_key"})
# API keys in the environment are for the first start of those who have an API.
_ALSO: Final = {"call-tracker": {"api_keys"}, "number-sync": {"api_keys"}}
# Who uses Redis: its URL may hold a password.
_REDIS: Final = frozenset({"webhook-gateway", "media-bridge", "call-tracker", "number-sync"})
_OTHERS: Final = frozenset({"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"})
# Stand for secrets that are kept outside: usable, and nobody's.
_USABLE: Final = {
    "keyring": "example:" + base64.b64encode(b"example-only-not-a-secret-000001").decode(),
    "token_key": base64.b64encode(b"example-only-not-a-secret-000002").decode(),
    "session_key": base64.b64encode(b"example-only-not-a-secret-000003").decode(),
    "api_keys": "example:" + "0" * 64,
    "redis_url": "rediss://redis.example.com:6379/0",
    "database_url": "postgresql+asyncpg://offhook:example@postgres.example.com:5432/example",
}


def settings_exist(rendered: Rendered) -> Iterator[str]:
    """A misspelt variable would be ignored in silence."""
    for workload in _ours(rendered):
        service = workload["metadata"]["name"]
        known = {PREFIX + field.upper() for field in _model(service).model_fields} | _OTHERS
        if service == PREPARE:
            known |= set(PREPARE_DATABASES)
        for variable in sorted(set(rendered.environment(workload)) - known):
            yield f"{service} is given {variable}, which is no setting of it"


def secrets_are_needed(rendered: Rendered) -> Iterator[str]:
    """A secret is given to a service that cannot do without, by that service's own Secret, and never by a ConfigMap."""
    for workload in _ours(rendered):
        service = workload["metadata"]["name"]
        needed = set(_model(service).SECRETS) if service != PREPARE else set()
        allowed = needed | _ALSO.get(service, set())
        given = {variable.removeprefix(PREFIX).lower() for variable in rendered.environment(workload)}
        for name in sorted((given & _SHARED_SECRETS) - allowed):
            yield f"{service} is given the {name}, which it does not need"
        for name in sorted(needed - given):
            yield f"{service} is not given the {name}"
        if ("redis_url" in given) != (service in _REDIS):
            yield f"{service} and Redis: its URL is {'not needed' if 'redis_url' in given else 'missing'}"
        if service in ("call-tracker", "number-sync", "recorder") and "database_url" not in given:
            yield f"{service} has no database"
        for secret in _secrets_of(workload):
            if _stem(secret) not in (service, f"kafka-user-{service}"):
                yield f"{service} reads the secret {secret}"
    for config in rendered.of("ConfigMap"):
        for variable in config.get("data", ()):
            if variable in secret_variables():
                yield f"the ConfigMap {config['metadata']['name']} has {variable} in clear"


def services_can_start(rendered: Rendered) -> Iterator[str]:
    """The settings are read as the service reads them."""
    for workload in _ours(rendered):
        service = workload["metadata"]["name"]
        environment = {
            name: _decoded(rendered, workload, name, value)
            for name, value in rendered.environment(workload).items()
        }
        model = _model(service)
        authorities = environment.get("OFFHOOK_KAFKA_CA_FILE")
        if authorities is not None:
            folders = [mount["mountPath"] for mount in container_of(workload).get("volumeMounts", ())]
            if str(Path(authorities).parent) not in folders:
                yield f"{service} is told of {authorities}, which is not mounted"
            environment["OFFHOOK_KAFKA_CA_FILE"] = certifi.where()  # a file of that kind which is here
        if service == PREPARE:
            environment |= {PREFIX + name.upper(): _USABLE[name] for name in model.SECRETS}
        with _only(environment):
            try:
                settings = read_settings(model)
            except SettingsError as error:
                yield from (f"{service}: {problem}" for problem in error.problems)
                continue
        ports = {port["name"]: port["containerPort"] for port in container_of(workload).get("ports", ())}
        expected = {"http": settings.listen_port} if service != PREPARE else {}
        if isinstance(settings, BridgeSettings):
            expected = {"media": settings.listen_port, "admin": settings.admin_port}
            if settings.admin_host != "0.0.0.0":  # noqa: S104 - in a pod
                yield f"{service} tells its health to nobody outside the container"
        if ports != expected:
            yield f"{service} has the ports {ports}, but listens at {expected}"
        if settings.listen_host != "0.0.0.0":  # noqa: S104 - in a pod
            yield f"{service} listens for nobody outside the container"
        mounted = {mount["mountPath"] for mount in container_of(workload).get("volumeMounts", ())}
        if str(settings.state_dir) not in mounted or "/tmp" not in mounted:  # noqa: S108
            yield f"{service} cannot write where it must"


def references_exist(rendered: Rendered) -> Iterator[str]:
    """ConfigMaps, secrets and claims that pods name are part of the overlay."""
    for workload in rendered.workloads():
        name = workload["metadata"]["name"]
        configs = {
            source["configMapRef"]["name"]
            for source in container_of(workload).get("envFrom", ())
            if "configMapRef" in source
        }
        volumes = pod_of(workload).get("volumes", ())
        configs |= {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
        for missing in sorted(configs - rendered.names("ConfigMap")):
            yield f"{name} needs the ConfigMap {missing}"
        claims = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in volumes
            if "persistentVolumeClaim" in volume
        }
        for missing in sorted(claims - rendered.names("PersistentVolumeClaim")):
            yield f"{name} needs the claim {missing}"
        secrets = {volume["secret"]["secretName"]: None for volume in volumes if "secret" in volume}
        for entry in container_of(workload).get("env", ()):
            if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                secrets[reference["name"]] = reference["key"]
        for secret, key in {**dict.fromkeys(_secrets_of(workload)), **secrets}.items():
            try:
                keys = rendered.secret(secret)
            except KeyError:
                yield f"{name} needs the secret {secret}"
                continue
            if key is not None and key not in keys:
                yield f"{name} needs {key} of the secret {secret}"


def one_place_of_recordings(rendered: Rendered) -> Iterator[str]:
    """call-tracker serves what the recorder keeps: both must mean the same folder or bucket."""
    places = []
    for service in ("call-tracker", "recorder"):
        workload = rendered.workload(service)
        environment = rendered.environment(workload)
        if "OFFHOOK_RECORDINGS_S3_BUCKET" in environment:
            keys = {"OFFHOOK_RECORDINGS_S3_ACCESS_KEY_ID", "OFFHOOK_RECORDINGS_S3_SECRET_ACCESS_KEY"}
            if not keys <= set(environment):
                yield f"{service} has no keys to the bucket"
            names = ("BUCKET", "ENDPOINT", "REGION", "PREFIX")
            places.append(tuple(environment.get(f"OFFHOOK_RECORDINGS_S3_{name}") for name in names))
            continue
        folder = environment.get("OFFHOOK_RECORDINGS_DIR")
        mounts = {mount["mountPath"]: mount["name"] for mount in container_of(workload)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
        claim = volumes.get(mounts.get(folder or "", ""), {}).get("persistentVolumeClaim", {})
        if not claim:
            yield f"{service} keeps recordings in {folder}, which goes with the pod"
        places.append((folder, claim.get("claimName")))
    if len(set(places)) != 1:
        yield f"call-tracker and the recorder keep recordings in different places: {places}"


def somebody_is_on_call(rendered: Rendered) -> Iterator[str]:
    """Webhooks and dead letters that are nobody's are seen by operators alone: without one, alerts lead to empty pages."""
    if not rendered.environment(rendered.workload("call-tracker")).get("OFFHOOK_OPERATORS"):
        yield "call-tracker: OFFHOOK_OPERATORS names nobody"


def _ours(rendered: Rendered) -> list[Manifest]:
    return [one for one in rendered.workloads() if is_ours(one)]


def _model(service: str) -> type[ServiceSettings]:
    return SETTINGS.get(service, ServiceSettings)


def _secrets_of(workload: Manifest) -> list[str]:
    container = container_of(workload)
    found = [source["secretRef"]["name"] for source in container.get("envFrom", ()) if "secretRef" in source]
    for entry in container.get("env", ()):
        if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
            found.append(reference["name"])
    return found


def _stem(name: str) -> str:
    """A generated secret's name without the hash at its end."""
    return re.sub(r"-[0-9a-z]{10}$", "", name)


def secret_variables() -> set[str]:
    """Settings that hide themselves, and URLs that may hold a password."""
    found = {"OFFHOOK_REDIS_URL", *PREPARE_DATABASES}
    for model in SETTINGS.values():
        for name, field in model.model_fields.items():
            if "SecretStr" in str(field.annotation):
                found.add(PREFIX + name.upper())
    return found


def _decoded(rendered: Rendered, workload: Manifest, name: str, value: str | None) -> str:
    field = name.removeprefix(PREFIX).lower()
    if value is None:
        return _USABLE.get(field, "example")
    if name in _from_secrets(rendered, workload):
        return base64.b64decode(value).decode()
    return value


def _from_secrets(rendered: Rendered, workload: Manifest) -> set[str]:
    return {
        key
        for source in container_of(workload).get("envFrom", ())
        if "secretRef" in source
        for key in rendered.secret(source["secretRef"]["name"])
    }


@contextmanager
def _only(environment: Mapping[str, str]) -> Iterator[None]:
    """The process's environment without our settings, and with these."""
    before = dict(os.environ)
    try:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            del os.environ[name]
        os.environ.update(environment)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


POLICIES: Final = (
    settings_exist, secrets_are_needed, services_can_start, references_exist, one_place_of_recordings,
    somebody_is_on_call,
)  # fmt: skip
