"""A person at the pages, without script: follows redirects, keeps cookies, fills in forms as they stand in the HTML."""

import asyncio
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import httpx
from running_number_sync import KEYS, Service


class _Forms(HTMLParser):
    """The forms of a page: action, and the values a browser would send."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, list[tuple[str, str]]]] = []
        self._select: str | None = None
        self._options: list[tuple[str, bool]] = []
        self._area: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        flags = {name for name, _ in attrs}
        if tag == "form":
            self.forms.append((found.get("action", ""), []))
        if not self.forms:
            return
        fields = self.forms[-1][1]
        name = found.get("name", "")
        if tag == "input" and name and "disabled" not in flags:
            kind = found.get("type", "text")
            if kind in ("checkbox", "radio"):
                if "checked" in flags:
                    fields.append((name, found.get("value", "on")))
            else:
                fields.append((name, found.get("value", "")))
        elif tag == "select":
            self._select, self._options = name, []
        elif tag == "option" and self._select is not None:
            self._options.append((found.get("value", ""), "selected" in flags))
        elif tag == "textarea":
            self._area, self._text = name, ""

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._select is not None:
            chosen = [value for value, selected in self._options if selected] or [
                value for value, _ in self._options[:1]
            ]
            self.forms[-1][1].extend((self._select, value) for value in chosen)
            self._select = None
        elif tag == "textarea" and self._area is not None:
            self.forms[-1][1].append((self._area, self._text.removeprefix("\n")))
            self._area = None


class Page:
    """An answer, as somebody sees it."""

    def __init__(self, browser: "Browser", response: httpx.Response) -> None:
        self._browser = browser
        self.status = response.status_code
        self.path = response.url.path
        self.html = response.text
        self.response = response

    @property
    def text(self) -> str:
        """What can be read, white space folded."""
        html = re.sub(r"(?s)<(script|style|select)\b.*?</\1>", " ", self.html)
        text = re.sub(r"<[^>]*>", " ", html)
        for entity, character in (
            ("&#39;", "'"),
            ("&#34;", '"'),
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&amp;", "&"),
        ):
            text = text.replace(entity, character)
        return " ".join(text.split())

    def error(self, field: str) -> str:
        """What is told beside a field; '' when nothing is."""
        match = re.search(rf'id="f-{re.escape(field)}-error"([^>]*)>([^<]*)<', self.html)
        return "" if match is None or "hidden" in match[1] else match[2].replace("&#39;", "'")

    def links(self) -> list[str]:
        return re.findall(r'href="([^"#]+)"', self.html)

    def form(self, action: str) -> dict[str, list[str]]:
        """The fields of the form that goes to `action`, by name."""
        parser = _Forms()
        parser.feed(self.html)
        fields = next((fields for there, fields in parser.forms if there == action), None)
        assert fields is not None, f"no form to {action}; there are {[there for there, _ in parser.forms]}"
        values: dict[str, list[str]] = {}
        for name, value in fields:
            values.setdefault(name, []).append(value)
        return values

    async def send(self, action: str, changes: Mapping[str, Any] | None = None, **headers: str) -> "Page":
        """Send the form with these `changes` (None: leave the field out)."""
        values: dict[str, Any] = dict(self.form(action))
        for name, value in (changes or {}).items():
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
        return await self._browser.post(action, values, **headers)


class Browser:
    """Logged in by the login page, with its cookie."""

    def __init__(self, service: Service) -> None:
        self._app = service.app
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=service.app),
            base_url="http://number-sync",
            headers={"Accept": "text/html"},
            follow_redirects=True,
        )

    async def log_in(self, user_id: str = "ada") -> "Browser":
        answer = await self.client.post("/login", data={"key": KEYS[user_id], "next": "/workflows"})
        assert answer.status_code == 200, answer.text
        assert answer.url.path == "/workflows"
        return self

    async def open(self, path: str) -> Page:
        return Page(self, await self.client.get(path))

    async def first_live(self, path: str) -> dict[str, str]:
        """The pieces that the live updates of a page begin with. Then the page is closed."""
        got = asyncio.Event()
        received = b""
        cookie = "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"cookie", cookie.encode()), (b"accept", b"text/event-stream")],
        }

        async def receive() -> dict[str, Any]:
            await got.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal received
            received += message.get("body", b"")
            if b"\n\n" in received.partition(b"data: ")[2]:
                got.set()

        # httpx gives an answer of an application only when it has ended.
        async with asyncio.timeout(20):
            await self._app(scope, receive, send)
        found: dict[str, str] = json.loads(received.partition(b"data: ")[2].partition(b"\n\n")[0])
        return found

    async def post(self, path: str, values: Mapping[str, Any], **headers: str) -> Page:
        return Page(self, await self.client.post(path, data=dict(values), headers=headers))
