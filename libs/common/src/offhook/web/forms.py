"""What a form sent. Bounded, decoded once, and only believed from our own pages."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from offhook.http.problems import Problem

MAX_FIELDS: Final = 2000
"""An import may tick every number of an account's page."""

_TYPE: Final = "application/x-www-form-urlencoded"
_MAX_NEXT_CHARS: Final = 2000

Form = Mapping[str, str | list[str]]
"""Values by name, as sent; a list where a name was given more than once. Line ends are `\\n`."""


async def read_form(request: Request) -> dict[str, str | list[str]]:
    """The fields of a urlencoded form. Raises a problem: 413, 415 or 422."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise Problem(415, f"A form is sent as {_TYPE}.")
    body = await request.body()  # bounded by `http.limits`
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except UnicodeDecodeError:
        raise Problem(422, "The form is not UTF-8 text.") from None
    except ValueError:
        raise Problem(413, f"A form may have at most {MAX_FIELDS} fields.") from None
    fields: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if "\0" in value or "\0" in name:
            raise Problem(422, "A form holds no NUL characters.")
        value = value.replace("\r\n", "\n").replace("\r", "\n")  # HTML, "multipart and urlencoded": CR LF
        known = fields.get(name)
        if known is None:
            fields[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            fields[name] = [known, value]
    return fields


def text_of(form: Form, name: str) -> str:
    """One field's value: the last one if there are several, "" if there is none."""
    value = form.get(name, "")
    return value[-1] if isinstance(value, list) else value


def from_own_page(request: Request) -> bool:
    """Whether a request without a session (the login form) was made by a page of this origin.

    Browsers say so: `Sec-Fetch-Site` (Fetch Metadata), older ones `Origin`. A request with neither is no browser's,
    so nobody else's page can have made it.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == request.headers.get("host", "").lower()


def local_path(text: str, default: str = "/") -> str:
    """`text` if it is a path of this site, with a query if need be; else `default`. Never leads to another host."""
    # Browsers take "\" for "/", skip tabs and line ends, and read "//host" as another host (WHATWG URL, 4.4).
    if (
        len(text) > _MAX_NEXT_CHARS
        or not text.startswith("/")
        or text.startswith("//")
        or "\\" in text
        or not text.isprintable()
        or " " in text
    ):
        return default
    return text


def page_after_login(text: str, default: str) -> str:
    """Where a login leads: like `local_path`, but neither back to the login nor out again."""
    path = local_path(text, default)
    return default if path.partition("?")[0] in ("/login", "/logout") else path
