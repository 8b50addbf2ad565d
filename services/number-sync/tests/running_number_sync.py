"""The service as the tests run it, and what they all say to it."""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx

from carrier_sim import CarrierSim
from number_sync import outbox
from number_sync.database import Database
from offhook.bus.testing import MemoryBus
from offhook.events import EventData, decode
from offhook.security.keyring import Keyring
from offhook.topics import Topic

KEYS = {"ada": "key-of-ada", "bob": "key-of-bob"}
KEYRING = "k1:" + base64.b64encode(bytes(range(32))).decode()
NOBODY = "http://127.0.0.1:1"  # where no provider listens
SESSION_KEY = base64.b64encode(b"s" * 32).decode()
PUBLIC_URL = "https://voice.example.com"

TWILIO = {"account_sid": "AC" + "0a" * 16, "auth_token": "canary0twilio0token0canary012345"}
OTHER_TWILIO = {"account_sid": "AC" + "0b" * 16, "auth_token": "canary1twilio1token1canary123456"}


class Service:
    """A running number-sync. `api` talks to it as Ada; `as_user` as somebody else."""

    def __init__(self, app: Any, bus: MemoryBus, database_url: str) -> None:
        self.app = app
        self.bus = bus
        self.database_url = database_url
        self._transport = httpx.ASGITransport(app=app)
        self.api = self.as_user("ada")

    def as_user(self, user_id: str | None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {KEYS[user_id]}"} if user_id else {}
        return httpx.AsyncClient(
            transport=self._transport, base_url="http://number-sync/api/v1", headers=headers
        )

    async def published(self) -> None:
        """Wait until everything that is stored has been published."""
        database = Database(self.database_url)
        try:
            async with asyncio.timeout(20):
                while True:
                    async with database.read() as connection:
                        if not await outbox.backlog(connection):
                            return
                    await asyncio.sleep(0.01)
        finally:
            await database.close()

    async def newest(self, topic: Topic) -> dict[str, EventData]:
        """What a reader of a compacted topic knows in the end."""
        await self.published()
        known: dict[str, EventData] = {}
        for record in self.bus.records(topic):
            assert record.key is not None
            if record.value is None:
                known.pop(record.key.decode(), None)
            else:
                known[record.key.decode()] = decode(record.value, record.headers).data
        return known


def unsealed(sealed: str, context: str) -> Any:
    """What is in a sealed JSON."""
    return json.loads(Keyring.parse(KEYRING).open(sealed, context=context))


def at(carrier: CarrierSim) -> dict[str, str]:
    """The settings with which the service has this carrier as its providers."""
    return {"twilio_api_url": carrier.base_url, "vonage_api_url": carrier.base_url}


RunService = Callable[..., AbstractAsyncContextManager[Service]]
