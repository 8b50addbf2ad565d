"""Values of a sent form as the domain takes them. Pure."""

from collections.abc import Mapping

from offhook.web.forms import Form, text_of

MOST_HEADERS = 20
"""Rows for headers in a workflow's form: as many as a workflow may have."""


def texts(form: Form, *names: str) -> dict[str, str]:
    """One text for each name; '' where nothing was sent."""
    return {name: text_of(form, name) for name in names}


def seen(form: Form) -> int | None:
    """The `updated_at` of what the form was made from; None: it does not say."""
    text = text_of(form, "seen")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def ticked(form: Form, name: str) -> bool:
    """Whether a checkbox was ticked: a browser sends nothing for one that was not."""
    return text_of(form, name) not in ("", "off", "false")


def ticked_values(form: Form, name: str) -> list[str]:
    """The values of all ticked checkboxes of one name, in their order."""
    values = form.get(name, [])
    return [values] if isinstance(values, str) else list(values)


def choice(form: Form, name: str) -> str | None:
    """What was chosen of a list; None for the entry that stands for nothing."""
    return text_of(form, name).strip() or None


def header_fields(position: int) -> tuple[str, str]:
    """How the inputs of a header's name and value are called; `position` counts from 0."""
    return f"header.{position}.name", f"header.{position}.value"


def headers_of(form: Form, stored: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The headers a workflow's form sends, and the objections to its rows by input.

    A row without a name is no header. A row whose value was left empty keeps the stored value of that name: `stored` has
    it masked, and a mask that is sent back keeps what it stands for.
    """
    masks = {name.lower(): value for name, value in stored.items()}
    headers: dict[str, str] = {}
    refusals: dict[str, str] = {}
    for position in range(MOST_HEADERS):
        name_field, value_field = header_fields(position)
        name, value = text_of(form, name_field).strip(), text_of(form, value_field).strip()
        if not name:
            if value:
                refusals[name_field] = "Give this header a name, or clear its value."
            continue
        if name.lower() in {known.lower() for known in headers}:
            refusals[name_field] = "This header is given twice."
            continue
        if not value:
            value = masks.get(name.lower(), "")
        if not value:
            refusals[value_field] = "Give this header a value."
            continue
        headers[name] = value
    return headers, refusals


def header_refusals(form: Form, refusals: Mapping[str, str]) -> dict[str, str]:
    """Objections to `headers.<name>` moved to the input of that header's row."""
    moved: dict[str, str] = {}
    for field, text in refusals.items():
        if field != "headers" and not field.startswith("headers."):
            moved[field] = text
            continue
        name = field.removeprefix("headers").removeprefix(".").removesuffix(".[key]").lower()
        position = next(
            (
                at
                for at in range(MOST_HEADERS)
                if name and text_of(form, header_fields(at)[0]).strip().lower() == name
            ),
            None,
        )
        moved["" if position is None else header_fields(position)[1]] = text
    return moved
