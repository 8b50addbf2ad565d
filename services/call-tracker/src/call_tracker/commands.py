"""`offhook replay …`: webhooks that were refused and records that could not be handled, from the command line; and
`offhook rebuild`: the store, made anew from the event log.

`replay` talks to the API of call-tracker with somebody's key, and shows what that user may see. Whatever is printed was
perhaps written by strangers: control characters are left out.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import typer

from call_tracker.rebuild import Progress, RebuildError, rebuild_from
from call_tracker.settings import TrackerSettings
from offhook.preparation import PrepareSettings
from offhook.settings import load_settings

_TIMEOUT_S: Final = 30
_MAX_ANSWER: Final = 8 * 1024 * 1024
_POLL_S: Final = 0.3
_WIDE: Final = 100
_DEFAULT_URL: Final = "http://127.0.0.1:8082"

Json = dict[str, Any]

# --- offhook replay

replay = typer.Typer(
    help="Look at refused webhooks and dead letters, and try them again.", no_args_is_help=True
)


@dataclass(frozen=True, slots=True)
class _Api:
    url: str
    key: str

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """The answer. Raises `_Refused`; what keeps anybody from asking is one sentence and exit 2."""
        request = Request(  # noqa: S310 - the scheme was checked
            f"{self.url}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
                found: Json = json.loads(answer.read(_MAX_ANSWER))
                return found
        except HTTPError as error:
            raise _Refused(error.code, _problem(error)) from None
        except (URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            _give_up(f"{self.url} does not answer ({reason}): see --url or OFFHOOK_API_URL.")
        except ValueError:
            _give_up(f"What answers at {self.url} is not the Offhook API: see --url or OFFHOOK_API_URL.")


class _Refused(Exception):  # noqa: N818 - what the API says, and no fault of ours
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@replay.callback()
def connect(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="OFFHOOK_API_URL", help="Where the API is.")] = _DEFAULT_URL,
    key: Annotated[
        str,
        typer.Option(
            envvar="OFFHOOK_API_KEY", help="An API key; better in the environment.", show_default=False
        ),
    ] = "",
) -> None:
    """Look at refused webhooks and dead letters, and try them again."""
    if not key:
        _give_up("An API key is needed: set OFFHOOK_API_KEY (offhook keys create makes one).")
    if not url.startswith(("http://", "https://")):
        _give_up(f"The API's address must begin with http:// or https://, found {_plain(url)!r}.")
    context.obj = _Api(url.rstrip("/"), key)


@replay.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many of each.")] = 20,
) -> None:
    """Print what waits: dead letters by reason and one by one, and refused webhooks that were kept."""
    api: _Api = context.obj

    def work() -> None:
        letters = api.ask("GET", f"/dead-letters?replayed=false&limit={limit}")
        refused = api.ask("GET", f"/webhooks?verified=false&limit={limit}")["webhooks"]
        kept = [one for one in refused if one["replayable"]]
        if not letters["dead_letters"] and not kept:
            typer.echo(
                "Nothing waits: no dead letters, no refused webhooks that could be tried again.", err=True
            )
            return
        if letters["waiting"]:
            typer.echo("DEAD LETTERS, BY REASON")
            for heap in letters["waiting"]:
                typer.echo(f"{heap['count']:>6}  {_plain(heap['topic'])}  {_plain(heap['reason'])}")
            typer.echo("\nDEAD LETTERS")
            for one in letters["dead_letters"]:
                kind = _plain(one["event_type"] or "not an event")
                typer.echo(f"{one['id']}  {_minute(one['at'])}  {kind}  {_short(one['reason'])}")
        if kept:
            typer.echo(("\n" if letters["waiting"] else "") + "REFUSED WEBHOOKS")
            for one in kept:
                asked = "  (tried again)" if one["replay_requested_at"] else ""
                title = _plain(one["explanation"]["title"])
                typer.echo(
                    f"{one['id']}  {_minute(one['at'])}  {one['provider']} {one['kind']}  {title}{asked}"
                )

    _told(work)


@replay.command()
def show(context: typer.Context, entry_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Print one webhook or dead letter: what was wrong, and what to do."""
    api: _Api = context.obj

    def work() -> None:
        try:
            _show_webhook(api.ask("GET", f"/webhooks/{_part(entry_id)}"))
        except _Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            try:
                _show_letter(api.ask("GET", f"/dead-letters/{_part(entry_id)}"))
            except _Refused as other:
                if other.status != HTTPStatus.NOT_FOUND:
                    raise
                raise _Refused(404, f"There is no webhook and no dead letter {_plain(entry_id)}.") from None

    _told(work)


@replay.command("dead-letter")
def dead_letter(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="As `list` prints them.")],
) -> None:
    """Send dead letters to their topics again."""
    api: _Api = context.obj

    def one(letter_id: str) -> str:
        done = api.ask("POST", f"/dead-letters/{_part(letter_id)}/replay")
        return f"sent again to {_plain(done['topic'])}"

    _each(ids, one)


@replay.command()
def webhook(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="As `list` prints them.")],
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, max=600, help="Seconds to wait for what comes of each.")
    ] = 15.0,
) -> None:
    """Have refused webhooks verified once more, and what they say told."""
    api: _Api = context.obj

    def one(webhook_id: str) -> str:
        path = f"/webhooks/{_part(webhook_id)}"
        known = {done["id"] for done in api.ask("GET", path)["replays"]}
        api.ask("POST", f"{path}/replay")
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            fresh = [done for done in api.ask("GET", path)["replays"] if done["id"] not in known]
            if fresh:
                said = fresh[0]["explanation"]
                text = f"{_plain(said['title'])}: {_plain(said['sentence'])}"
                if not fresh[0]["verified"]:
                    raise _Refused(409, text)
                return text
        return "asked for; the gateway has not answered yet (see `offhook replay show`)"

    _each(ids, one)


@replay.command("all")
def all_(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="The reason, as `list` prints it.")],
    topic: Annotated[str | None, typer.Option(help="Only those of this topic.")] = None,
) -> None:
    """Send every dead letter that waits for one reason again, the oldest first."""
    api: _Api = context.obj

    def work() -> None:
        body: Json = {"reason": reason} | ({"topic": topic} if topic else {})
        done = api.ask("POST", "/dead-letters/replay", body)
        sent = done["replayed"]
        # What fails again waits again, for the same reason: only those from before the beginning.
        while done["replayed"] and done["waiting"]:
            done = api.ask("POST", "/dead-letters/replay", body | {"until": done["until"]})
            sent += done["replayed"]
        if not sent:
            raise _Refused(404, "No dead letter that can be sent again waits for exactly this reason.")
        left = f" {done['waiting']} wait." if done["waiting"] else ""
        typer.echo(f"{sent} sent again.{left}")

    _told(work)


def _show_webhook(found: Json) -> None:
    said = found["explanation"]
    typer.echo(f"Webhook {found['id']}, {_minute(found['at'])} UTC: {_plain(said['title'])}")
    typer.echo(_plain(said["sentence"]))
    if said["remedy"]:
        typer.echo(f"What to do: {_plain(said['remedy'])}")
    pairs = [
        ("request", f"{found['provider']} {found['kind']}: {found['method']} {found['path']}"),
        ("account", found["account"]), ("run", found["workflow_run_id"]), ("reason", found["reason"]),
        ("answered", f"{found['status_code']} after {found['elapsed_ms']} ms"),
        ("signed URL", found["signed_url"]),
        *(("tried URL", url) for url in found["tried_urls"]),
        *(("would have matched", near) for near in found["near_misses"]),
        ("can be replayed", "yes" if found["replayable"] else "no"),
        *(("replay", f"{_minute(one['at'])}: {one['explanation']['title']}") for one in found["replays"]),
    ]  # fmt: skip
    _print_pairs(pairs)


def _show_letter(found: Json) -> None:
    typer.echo(f"Dead letter {found['id']}, {_minute(found['at'])} UTC: {_plain(found['reason'])}")
    where = f"{found['topic']}, partition {found['partition']}, offset {found['offset']}"
    state = "replayed" if found["state"] == "replayed" else "waiting"
    if found["replayed_at"]:
        state += f" {_minute(found['replayed_at'])} by {found['replayed_by']}"
    _print_pairs(
        [
            ("record", where), ("consumer", found["consumer"]), ("run", found["workflow_run_id"]),
            ("state", state), ("can be replayed", "yes" if found["replayable"] else "no"),
            ("came back as", found["came_back_as"]), ("key", found["key"]),
            *((name, value) for name, value in found["headers"]),
        ]
    )  # fmt: skip
    typer.echo(_plain(found["value"] or "", lines=True))


def _print_pairs(pairs: list[tuple[str, Any]]) -> None:
    shown = [(_plain(name), _plain(value)) for name, value in pairs if value not in (None, "")]
    wide = max(len(name) for name, _ in shown)
    for name, value in shown:
        typer.echo(f"  {name:<{wide}}  {value}")


def _each(ids: list[str], work: Callable[[str], str]) -> None:
    """`work` for each; those that fail are told and the others are done all the same. Exit 1 if any failed."""
    failed = 0
    for one in ids:
        try:
            typer.echo(f"{_plain(one)}: {work(one)}")
        except _Refused as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                _give_up(str(error))
            failed += 1
            typer.echo(f"{_plain(one)}: {error}", err=True)
    if failed:
        raise typer.Exit(1)


def _told(work: Callable[[], None]) -> None:
    try:
        work()
    except _Refused as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2 if error.status == HTTPStatus.UNAUTHORIZED else 1) from None


def _give_up(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(2)


def _problem(error: HTTPError) -> str:
    if error.code == HTTPStatus.UNAUTHORIZED:
        return "The API key is not valid: see OFFHOOK_API_KEY."
    try:
        body = json.loads(error.read(_MAX_ANSWER))
        sentence = body.get("detail") or body.get("title")
    except (ValueError, AttributeError, OSError):
        sentence = None
    return _plain(sentence or f"The API answered {error.code}.")


def _part(text: str) -> str:
    return quote(text, safe="")


def _plain(text: Any, *, lines: bool = False) -> str:
    return "".join(one if one.isprintable() or (lines and one in "\n\t") else "\ufffd" for one in str(text))


def _short(text: str) -> str:
    plain = _plain(text)
    return plain if len(plain) <= _WIDE else plain[: _WIDE - 1] + "…"


def _minute(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


# --- offhook rebuild

rebuild = typer.Typer(help="Make the store of calls anew from the event log.", invoke_without_command=True)


@rebuild.callback()
def rebuild_store(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="A store's database URL, or kafka://host:port: telephony.call-events.v1 from its beginning.",
        ),
    ],
    into: Annotated[str, typer.Option("--into", help="The URL of an empty database.")],
) -> None:
    """Make the store of calls anew from the event log, into an empty database. Nothing is published."""
    for name, url in (("--into", into), *([] if source.startswith("kafka://") else [("--from", source)])):
        problem = TrackerSettings.objection_to_url(url)
        if problem is not None:
            _give_up(f"{name}: {problem}.")
    # Only then: a database is rebuilt from another one wherever there is no Kafka.
    security = load_settings(PrepareSettings).kafka_security if source.startswith("kafka://") else None
    shown = _Shown()
    try:
        done = asyncio.run(
            rebuild_from(source, into, clock=lambda: datetime.now(UTC), tell=shown, security=security)
        )
    except RebuildError as error:
        shown.end()
        typer.echo(f"The store was not rebuilt: {_plain(error)}.", err=True)
        raise typer.Exit(1) from None
    shown.end()
    typer.echo(f"{done.events} events, {done.calls} calls.")
    if done.skipped:
        typer.echo(f"{done.skipped} records are no events of calls and were left out.", err=True)


class _Shown:
    """One line that tells how far it is: on a terminal over and over, else every ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._at = time.monotonic()
        self._open = False

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._at < (0.2 if self._terminal else 10.0):
            return
        self._at = now
        total = (
            ""
            if not progress.total
            else f" of {progress.total} ({100 * progress.events // progress.total} %)"
        )
        typer.echo(
            f"{chr(13) if self._terminal else ''}{progress.events}{total} events",
            err=True,
            nl=not self._terminal,
        )
        self._open = self._terminal

    def end(self) -> None:
        if self._open:
            typer.echo("", err=True)
