"""The vendors' OpenAPI descriptions as judges of the simulator's answers."""

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

_SPECS = Path(__file__).parents[4] / "shared" / "specs" / "providers"


def _load(name: str) -> dict[str, Any]:
    path = _SPECS / name
    if not path.exists():
        message = f"the published specification {path} is missing"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    loaded: dict[str, Any] = (
        json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    )
    return loaded


class PublishedSpecs:
    """Checks responses; `checked` lists what was, so that a test can insist that something was."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        files = {
            "twilio.json": ("twilio_api_v2010.json", ""),
            "voice.yml": ("vonage/voice.yml", "/v1/calls"),
            "application.v2.yml": ("vonage/application.v2.yml", "/v2/applications"),
            "numbers.yml": ("vonage/numbers.yml", ""),
        }
        self._documents = {f"https://spec/{key}": (_load(file), base) for key, (file, base) in files.items()}
        resources = [(uri, document) for uri, (document, _) in self._documents.items()]
        resources.append(("https://spec/common/common_errors.yml", _load("vonage/common/common_errors.yml")))
        self._registry: Registry[Any] = Registry().with_resources(
            [(uri, Resource.from_contents(d, default_specification=DRAFT4)) for uri, d in resources]
        )

    def check(self, response: requests.Response, *args: Any, **kwargs: Any) -> None:
        """A hook for `requests`: the answer must be described, and be as described."""
        method, path = str(response.request.method).lower(), urlsplit(response.url).path
        for uri, (document, base) in self._documents.items():
            for template, item in document["paths"].items():
                full = (base + template).rstrip("/") if base else template
                pattern = re.sub(r"\\\{\w+\\\}", r"[^/]+?", re.escape(full))
                if method in item and re.fullmatch(pattern, path):
                    self._check(uri, template, method, response)
                    return
        raise AssertionError(f"{method} {path} is in no published specification")

    def _check(self, uri: str, template: str, method: str, response: requests.Response) -> None:
        operation = self._documents[uri][0]["paths"][template][method]
        status = str(response.status_code)
        described = operation["responses"].get(status)
        if described is None:
            # Twilio describes successes only; Vonage's voice.yml no 400.
            assert response.status_code >= 400, f"{method} {template}: {status} is not described"
            return
        self.checked.append(f"{method} {template} {status}")
        if response.status_code == 204:
            assert not response.content
            return
        pointer = f"paths/{template.replace('~', '~0').replace('/', '~1')}/{method}/responses/{status}"
        if "$ref" in described:
            reference = described["$ref"]
            pointer_uri = uri + reference if reference.startswith("#") else f"https://spec/{reference}"
        else:
            pointer_uri = f"{uri}#/{pointer}"
        if "content" not in self._resolve(pointer_uri):
            return
        schema = {"$ref": f"{pointer_uri}/content/application~1json/schema"}
        validator = OAS30Validator(schema, registry=self._registry)
        validator.validate(_without_known_deviations(response.json()))

    def _resolve(self, uri: str) -> dict[str, Any]:
        resolved: dict[str, Any] = self._registry.resolver().lookup(uri).contents
        return resolved


def _without_known_deviations(value: Any) -> Any:
    """Unset SIDs are empty strings in Twilio's answers, although its schema has a pattern for them."""
    if isinstance(value, dict):
        return {
            name: None if name.endswith("_sid") and item == "" else _without_known_deviations(item)
            for name, item in value.items()
        }
    return [_without_known_deviations(item) for item in value] if isinstance(value, list) else value
