"""The vendors' OpenAPI descriptions as judges of the requests that leave: what is not described there is not sent.

The documents are not in the repository; they stand beside it, at `../shared/specs/providers`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

FOLDER: Final = Path(__file__).parents[4] / "shared" / "specs" / "providers"

# File, and where its paths begin.
_FILES: Final = (
    ("twilio_api_v2010.json", ""),
    ("vonage/voice.yml", "/v1/calls"),
    ("vonage/application.v2.yml", "/v2/applications"),
    ("vonage/numbers.yml", ""),
)


class UndescribedError(AssertionError):
    """A request the vendor's description does not allow, with the reason."""


class PublishedRequests:
    """Judges requests; `judged` lists the operations that were, so that a test can insist on them."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.judged: list[str] = []
        self._documents = {f"https://spec/{name}": (_load(folder / name), base) for name, base in _FILES}
        self._registry: Registry[Any] = Registry().with_resources(
            (uri, Resource.from_contents(document, default_specification=DRAFT4))
            for uri, (document, _) in self._documents.items()
        )

    def judge(self, method: str, url: str, content_type: str = "", body: bytes | str | None = None) -> None:
        """Raises `UndescribedError`."""
        parts = urlsplit(url)
        uri, template, item = self._find(method.lower(), parts.path)
        operation = item[method.lower()]
        where = f"{method} {template}"
        resolver = self._registry.resolver(base_uri=uri)
        described = [
            resolver.lookup(entry["$ref"]).contents if "$ref" in entry else entry
            for entry in [*item.get("parameters", ()), *operation.get("parameters", ())]
        ]
        schemas = {entry["name"]: entry["schema"] for entry in described if entry["in"] == "query"}
        needed = {entry["name"] for entry in described if entry["in"] == "query" and entry.get("required")}
        query = _pairs(parts.query)
        self._fields(uri, f"{where}, query", query, {"properties": schemas, "required": sorted(needed)})
        text = body.decode() if isinstance(body, bytes) else body or ""
        content = operation.get("requestBody", {}).get("content", {})
        kind = content_type.partition(";")[0].strip().lower()
        if not content:
            # Vonage's SDK calls everything JSON, a GET without a body too.
            if text:
                raise UndescribedError(f"{where}: a body where none is described")
        elif kind not in content:
            raise UndescribedError(
                f"{where}: {kind or 'no content type'}, described are {', '.join(content)}"
            )
        elif kind == "application/x-www-form-urlencoded":
            self._fields(uri, f"{where}, form", _pairs(text), content[kind]["schema"])
        else:
            self._value(uri, f"{where}, body", json.loads(text), content[kind]["schema"])
        self.judged.append(where)

    def _find(self, method: str, path: str) -> tuple[str, str, dict[str, Any]]:
        for uri, (document, base) in self._documents.items():
            for template, item in document["paths"].items():
                full = (base + template).rstrip("/") if base else template
                pattern = re.sub(r"\\\{\w+\\\}", r"[^/]+?", re.escape(full))
                if method in item and re.fullmatch(pattern, unquote(path)):
                    return uri, full, item
        raise UndescribedError(f"{method} {path} is in no published description")

    def _fields(
        self, uri: str, where: str, fields: Mapping[str, list[str]], schema: Mapping[str, Any]
    ) -> None:
        """Fields of a query or a form, which are all text: read as what the schema says they are."""
        if "$ref" in schema:
            schema = self._registry.resolver(base_uri=uri).lookup(schema["$ref"]).contents
        properties = schema.get("properties", {})
        if unknown := fields.keys() - properties.keys():
            raise UndescribedError(f"{where}: {', '.join(sorted(unknown))} not described")
        if missing := set(schema.get("required", ())) - fields.keys():
            raise UndescribedError(f"{where}: {', '.join(sorted(missing))} missing")
        for name, values in fields.items():
            described = properties[name]
            if described.get("type") == "array":
                self._value(uri, f"{where}, {name}", values, described)
                continue
            if len(values) > 1:
                raise UndescribedError(f"{where}: {name} more than once")
            self._value(uri, f"{where}, {name}", _read(values[0], described), described)

    def _value(self, uri: str, where: str, value: Any, schema: Any) -> None:
        validator = OAS30Validator(_absolute(schema, uri), registry=self._registry)
        for error in validator.iter_errors(value):
            path = ".".join(str(part) for part in error.absolute_path)
            raise UndescribedError(f"{where}{f', {path}' if path else ''}: {error.message[:300]}")


def _load(path: Path) -> dict[str, Any]:
    text = path.read_text()
    document: dict[str, Any] = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if path.name == "voice.yml":
        # Its alternatives overlap: to it, a phone is a SIP address as well.
        document = _any_of(document)
    return document


def _any_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {"anyOf" if name == "oneOf" else name: _any_of(item) for name, item in value.items()}
    return [_any_of(item) for item in value] if isinstance(value, list) else value


def _absolute(value: Any, uri: str) -> Any:
    if isinstance(value, dict):
        return {
            name: uri + item if name == "$ref" and isinstance(item, str) else _absolute(item, uri)
            for name, item in value.items()
        }
    return [_absolute(item, uri) for item in value] if isinstance(value, list) else value


def _pairs(text: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        fields.setdefault(name, []).append(value)
    return fields


def _read(text: str, schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if kind in ("integer", "number") and re.fullmatch(r"-?\d+", text):
        return int(text)
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    return text
