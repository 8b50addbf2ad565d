"""Every macro shows whatever text it is given as text; each field has its label, hint and error tied to it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
from pages_under_test import make_service
from starlette.requests import Request

from offhook.web import PageUser, Site

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)> javascript:alert(1) {{ 7*7 }}"
NAMES = {"name", "id", "form", "list", "inputmode", "autocomplete", "type", "rows", "min", "max", "maxlength"}
FIXED = {"user": PageUser("ada", "token"), "errors": {"field": HOSTILE}, "fields": {"field": HOSTILE}}
SHAPES: dict[str, Any] = {
    "options": [(HOSTILE, HOSTILE)],
    "pairs": [(HOSTILE, HOSTILE)],
    "trail": [(HOSTILE, HOSTILE), (HOSTILE, None)],
    "columns": [HOSTILE, ""],
    "at": 1_800_000_000_000,
}


class Elements(HTMLParser):
    """The elements of a text, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def environment(site: Site) -> jinja2.Environment:
    return site._templates


def macros(site: Site) -> list[tuple[str, str, Any]]:
    found = []
    for file in ("forms.html", "parts.html"):
        module = environment(site).get_template(file).module
        for name, value in vars(module).items():
            if hasattr(value, "arguments") and not name.startswith("_"):
                found.append((file, name, value))
    return found


def argument(macro: str, name: str) -> Any:
    if name in FIXED:
        return FIXED[name]
    if macro == "steps" and name == "list":
        return [(HOSTILE, HOSTILE, True, HOSTILE, HOSTILE), (HOSTILE, HOSTILE, False, HOSTILE, HOSTILE)]
    if macro == "radios" and name == "options":
        return [(HOSTILE, HOSTILE, HOSTILE)]
    if name in SHAPES:
        return SHAPES[name]
    return "field" if name in NAMES and macro not in ("state", "icon") else HOSTILE


def test_every_macro_shows_hostile_text_as_text(tmp_path: Path) -> None:
    site = make_service(tmp_path).site
    seen = set()
    for file, name, macro in macros(site):
        given = ", ".join(f"{one}=given.{one}" for one in macro.arguments)
        (tmp_path / f"{name}.html").write_text(
            f'{{% import "{file}" as m %}}{{% call m.{name}({given}) %}}{{{{ hostile }}}}{{% endcall %}}'
            if macro.caller
            else f'{{% import "{file}" as m %}}{{{{ m.{name}({given}) }}}}'
        )
        values = {one: argument(name, one) for one in macro.arguments}
        html = environment(site).get_template(f"{name}.html").render(given=values, hostile=HOSTILE)
        for tag, attributes in Elements(html).found:
            assert tag not in ("script", "img"), (name, html)
            assert not [one for one in attributes if one.startswith("on")], (name, html)
            for one in ("href", "action", "formaction", "src"):
                assert not (attributes.get(one) or "").strip().lower().startswith("javascript"), (name, html)
        assert "49" not in html
        seen.add(name)
    assert {
        "field",
        "secret",
        "textarea",
        "select",
        "radios",
        "checkbox",
        "errors",
        "confirm",
        "state",
    } <= seen
    assert {
        "remedy",
        "empty",
        "table",
        "breadcrumb",
        "time",
        "steps",
        "facts",
        "copy",
        "head",
        "card",
    } <= seen


async def test_pages_show_a_hostile_user_and_address_as_text(tmp_path: Path) -> None:
    service = make_service(tmp_path)
    scope = {"type": "http", "method": "GET", "path": f"/{HOSTILE}", "query_string": b"", "headers": []}
    request = Request({**scope, "server": ("x", 80), "scheme": "http"})
    html = service.site.render(request, "page.html", PageUser(HOSTILE, HOSTILE), name=HOSTILE).body
    assert b"<script>alert" not in bytes(html)
    assert b"<img" not in bytes(html)


@pytest.mark.parametrize("macro", ["field", "secret", "textarea", "select", "checkbox"])
def test_a_field_is_tied_to_its_label_hint_and_error(tmp_path: Path, macro: str) -> None:
    site = make_service(tmp_path).site
    options = ', options=[("a", "A")]' if macro == "select" else ""
    (tmp_path / "one.html").write_text(
        f'{{% import "forms.html" as m %}}{{{{ m.{macro}("name", "The name", hint="A hint", error="Wrong"{options}) }}}}'
    )
    html = environment(site).get_template("one.html").render()
    elements = Elements(html).found
    ids = {attributes["id"] for _, attributes in elements if "id" in attributes}
    control = next(attributes for _, attributes in elements if attributes.get("name") == "name")
    assert ("label", {"for": control["id"]}) in elements
    assert set(str(control["aria-describedby"]).split()) == {"f-name-hint", "f-name-error"} <= ids
    assert control["aria-invalid"] == "true"


def test_a_secret_is_never_shown_again(tmp_path: Path) -> None:
    site = make_service(tmp_path).site
    (tmp_path / "one.html").write_text(
        '{% import "forms.html" as m %}{{ m.secret("token", "Token", stored="••••3456", required=True) }}'
    )
    html = environment(site).get_template("one.html").render()
    assert "value=" not in html
    assert "Stored: ••••3456. Leave it empty to keep it." in html
    assert " required" not in html


def test_states_differ_in_shape_and_word_not_in_colour_alone(tmp_path: Path) -> None:
    module = environment(make_service(tmp_path).site).get_template("parts.html").module
    states = ("pending", "synced", "drifted", "failed", "detached")
    shown = [str(module.state(name)) for name in states]  # type: ignore[attr-defined]
    assert len({re.sub(r"<svg.*</svg>", "", one).strip() for one in shown}) == len(states)
    assert len({re.findall(r"<svg.*</svg>", one)[0] for one in shown}) == len(states)
