"""Workflows: which agent takes a call, and how to reach it. Headers for the agent are sealed like credentials."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import credentials as creds
from number_sync import publishing
from number_sync.database import Clock, Database, now_ms
from number_sync.errors import ConflictError, InvalidError, LimitError, NotFoundError, OutdatedError
from number_sync.masks import MaskError, keeps, mask
from number_sync.paging import Page, page_of
from number_sync.schema import configurations, phone_numbers, workflows
from offhook.agent_hosts import AgentHostError, AgentHosts
from offhook.errors import KeyringError
from offhook.identities import is_id, new_id
from offhook.security.keyring import Keyring
from offhook.topics import WORKFLOWS

MAX_URL: Final = 2048
MAX_HEADERS: Final = 20
MAX_HEADER_VALUE: Final = 4096
_NAMED_IN_A_SENTENCE: Final = 5

# RFC 9110 section 5.6.2 (token) and 5.5 (field values: visible ASCII, space and tab inside).
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
# These belong to the WebSocket handshake itself (RFC 6455 section 4.1) or to the connection.
_RESERVED_HEADERS: Final = frozenset(
    {"host", "connection", "upgrade", "content-length", "transfer-encoding", "te", "trailer", "keep-alive"}
)


class Workflows:
    """Every method is one transaction and sees only what belongs to `user_id`."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        *,
        clock: Clock,
        hosts: AgentHosts | None = None,
        limit: int = 1000,
    ) -> None:
        """`hosts`: which may be agents."""
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._hosts = hosts or AgentHosts()
        self._limit = limit

    async def create(self, user_id: str, values: Mapping[str, Any]) -> Row[Any]:
        """`values`: name, agent_url, agent_protocol, sample_rate, headers, record_audio, fallback, metadata."""
        workflow_id = new_id()
        now = now_ms(self._clock)
        columns = dict(values)
        columns["agent_url"] = self._agent_url(columns["agent_url"])
        headers = accept_headers(columns.pop("headers"), {})
        columns["sealed_headers"] = self._seal(headers, workflow_id)

        async def work(connection: AsyncConnection) -> Row[Any]:
            held = await connection.execute(
                select(func.count()).select_from(workflows).where(workflows.c.user_id == user_id)
            )
            if held.scalar_one() >= self._limit:
                raise LimitError(f"a user can have at most {self._limit} workflows")
            row: Row[Any] = (
                await connection.execute(
                    insert(workflows)
                    .values(id=workflow_id, user_id=user_id, created_at=now, updated_at=now, **columns)
                    .returning(workflows)
                )
            ).one()
            await publishing.publish_workflow(connection, row)
            return row

        return await self._database.transact(work)

    async def get(self, user_id: str, workflow_id: str) -> Row[Any]:
        async with self._database.read() as connection:
            return await self._find(connection, user_id, workflow_id)

    async def list(self, user_id: str, *, limit: int, after: str | None) -> Page:
        async with self._database.read() as connection:
            return await page_of(
                connection, workflows, workflows.c.user_id == user_id, limit=limit, after=after
            )

    async def update(
        self, user_id: str, workflow_id: str, changes: Mapping[str, Any], *, seen: int | None = None
    ) -> Row[Any]:
        """`headers`, when given, replaces all headers; a mask as a value keeps the stored one of that name. `seen`: the
        `updated_at` of what is changed; raises `OutdatedError` when there is another."""
        now = now_ms(self._clock)

        async def work(connection: AsyncConnection) -> Row[Any]:
            row = await self._find(connection, user_id, workflow_id, lock=True)
            if seen is not None and seen != row.updated_at:
                raise OutdatedError
            columns = dict(changes)
            if not columns:
                return row
            if "agent_url" in columns:
                columns["agent_url"] = self._agent_url(columns["agent_url"])
            if "headers" in columns:
                headers = accept_headers(columns.pop("headers"), self._stored(row))
                columns["sealed_headers"] = self._seal(headers, workflow_id)
            changed: Row[Any] = (
                await connection.execute(
                    update(workflows)
                    .where(workflows.c.id == workflow_id)
                    .values(**columns, updated_at=now)
                    .returning(workflows)
                )
            ).one()
            await publishing.publish_workflow(connection, changed)
            return changed

        return await self._database.transact(work)

    async def delete(self, user_id: str, workflow_id: str) -> None:
        """Raises `ConflictError` naming the numbers that it answers."""

        async def work(connection: AsyncConnection) -> None:
            await self._find(connection, user_id, workflow_id, lock=True)
            users = (
                await connection.execute(
                    select(phone_numbers.c.e164, configurations.c.name)
                    .join(configurations, configurations.c.id == phone_numbers.c.configuration_id)
                    .where(phone_numbers.c.workflow_id == workflow_id)
                    .order_by(phone_numbers.c.e164)
                )
            ).all()
            if users:
                shown = ", ".join(f"{user.e164} ({user.name})" for user in users[:_NAMED_IN_A_SENTENCE])
                rest = len(users) - _NAMED_IN_A_SENTENCE
                more = f" and {rest} more" if rest > 0 else ""
                raise ConflictError(
                    f"the workflow answers {shown}{more}; give these numbers another workflow first"
                )
            await connection.execute(delete(workflows).where(workflows.c.id == workflow_id))
            await publishing.retract(connection, WORKFLOWS, workflow_id)

        await self._database.transact(work)

    def headers(self, row: Row[Any]) -> dict[str, str]:
        """The headers for the agent, in clear. Raises `KeyringError` when the key ring has lost their key."""
        if row.sealed_headers is None:
            return {}
        return creds.unseal(self._keyring, row.sealed_headers, context=row.id)

    def _stored(self, row: Row[Any]) -> dict[str, str]:
        """What new headers are laid over: nothing when the key of the old ones is lost, so that they can be entered
        again."""
        try:
            return self.headers(row)
        except KeyringError:
            return {}

    def masked_headers(self, row: Row[Any]) -> dict[str, str]:
        """The headers as they may be shown: all values are taken for secrets. Raises `KeyringError`."""
        return {name: mask(value) for name, value in self.headers(row).items()}

    def _seal(self, headers: Mapping[str, str], workflow_id: str) -> str | None:
        return creds.seal(self._keyring, headers, context=workflow_id) if headers else None

    async def _find(
        self, connection: AsyncConnection, user_id: str, workflow_id: str, *, lock: bool = False
    ) -> Row[Any]:
        query = select(workflows).where(workflows.c.id == workflow_id, workflows.c.user_id == user_id)
        query = query.with_for_update() if lock else query
        # What is no id at all may hold characters that a database refuses.
        row = (await connection.execute(query)).first() if is_id(workflow_id) else None
        if row is None:
            raise NotFoundError("there is no such workflow")
        return row

    def _agent_url(self, text: str) -> str:
        url = agent_url(text)
        try:
            self._hosts.check(urlsplit(url).hostname or "")
        except AgentHostError as error:
            raise InvalidError("agent_url", str(error)) from None
        return url


def agent_url(text: str) -> str:
    """A WebSocket URL (RFC 6455 section 3) without credentials in it; raises `InvalidError` for `agent_url`."""
    text = text.strip()
    if len(text) > MAX_URL:
        raise InvalidError("agent_url", f"at most {MAX_URL} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidError("agent_url", "only visible ASCII characters; percent-encode the others")
    try:
        parts = urlsplit(text)
        host = parts.hostname
        port = parts.port
    except ValueError:
        raise InvalidError(
            "agent_url", "this is not a URL; it looks like wss://agent.example.com/call"
        ) from None
    if parts.scheme not in ("ws", "wss"):
        raise InvalidError(
            "agent_url", "it must start with wss:// or ws://, as in wss://agent.example.com/call"
        )
    if not host or port == 0:
        raise InvalidError("agent_url", "the host is missing; it looks like wss://agent.example.com/call")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise InvalidError(
            "agent_url", "no user name or password in the URL; put an Authorization header in `headers`"
        )
    if "#" in text:
        raise InvalidError("agent_url", "a WebSocket URL has no fragment (#…)")
    return text


def accept_headers(given: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """The headers that hold when `given` is sent over what is `stored`. Raises `InvalidError` for `headers.<name>`."""
    if len(given) > MAX_HEADERS:
        raise InvalidError("headers", f"at most {MAX_HEADERS} headers")
    before = {name.lower(): value for name, value in stored.items()}
    accepted: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in given.items():
        key = name.lower()
        if _HEADER_NAME.fullmatch(name) is None:
            raise InvalidError("headers", "a header name has 1 to 100 letters, digits and -._~!#$%&'*+^`|")
        if key in _RESERVED_HEADERS or key.startswith("sec-websocket-"):
            raise InvalidError(f"headers.{name}", "this header belongs to the WebSocket handshake itself")
        if key in seen:
            raise InvalidError(f"headers.{name}", "this header is given twice")
        seen.add(key)
        value = value.strip()
        try:
            kept = keeps(value, before.get(key))
        except MaskError as error:
            raise InvalidError(f"headers.{name}", str(error)) from None
        if kept:
            value = before[key]
        elif len(value) > MAX_HEADER_VALUE or _HEADER_VALUE.fullmatch(value) is None:
            raise InvalidError(f"headers.{name}", f"1 to {MAX_HEADER_VALUE} visible ASCII characters")
        accepted[name] = value
    return accepted
