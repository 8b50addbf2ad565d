"""Every object against the schema of its kind: Kubernetes' own, and published ones of custom kinds.

The latter are not in the repository; they stand beside it, at `../shared/specs/k8s-crds`.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate

from offhook_dev.errors import DevError

FOLDER: Final = Path(__file__).parents[5] / "shared" / "specs" / "k8s-crds"
# The oldest one that knows all that is used (preStop sleep, since 1.30 without a feature gate), and the newest.
VERSIONS: Final = ("1.30", "1.37")
_BUILT_IN: Final = frozenset(
    {"v1", "apps/v1", "batch/v1", "policy/v1", "autoscaling/v2", "networking.k8s.io/v1"}
)


def objections(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an object, by its schema. A kind whose schema nobody has is an objection."""
    yield from _objections(json.dumps(manifest, sort_keys=True))


@cache  # overlays have much in common
def _objections(text: str) -> tuple[str, ...]:
    return tuple(_judge(json.loads(text)))


def _judge(manifest: Mapping[str, Any]) -> Iterator[str]:
    name = f"{manifest['kind']}/{manifest['metadata']['name']}"
    if manifest["apiVersion"] in _BUILT_IN:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as wrong:
                yield f"{name}, Kubernetes {version}: {'.'.join(map(str, wrong.path))}: {wrong.message[:300]}"
            except kubernetes_validate.SchemaNotFoundError:
                yield f"{name}: Kubernetes {version} knows no {manifest['apiVersion']} {manifest['kind']}"
        return
    group, _, version = manifest["apiVersion"].partition("/")
    path = FOLDER / group / f"{manifest['kind'].lower()}_{version}.json"
    if not path.exists():
        yield f"{name}: nobody has a schema of {manifest['apiVersion']} {manifest['kind']}"
        return
    for error in _validator(path).iter_errors(manifest):
        yield f"{name}: {'.'.join(map(str, error.path))}: {error.message[:300]}"


@cache
def _validator(path: Path) -> jsonschema.protocols.Validator:
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


def require_folder() -> None:
    """Raises `DevError` when the schemas of custom kinds are not there."""
    if not FOLDER.is_dir():
        raise DevError(f"The schemas of custom resources are expected at {FOLDER}.")
