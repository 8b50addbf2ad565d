"""Recordings in S3-compatible storage."""

from collections.abc import AsyncIterator, Awaitable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from call_tracker.recording.storage import NotStored, StorageUnavailable, check_key

T = TypeVar("T")

_REQUEST_TIMEOUT: Final = "30s"
_RETRY_FOR: Final = timedelta(seconds=20)
_PART_BYTES: Final = 8 * 1024 * 1024


class S3Storage:
    """Implements `Storage` in a bucket, below `prefix` (without slashes at its ends).

    `endpoint` is for others than Amazon, as `https://s3.example.com`; the bucket's name then stands in the path.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        region: str,
        prefix: str,
        access_key_id: str,
        secret_access_key: str,
    ) -> None:
        self._name = f"bucket {bucket}"
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            endpoint=endpoint,
            region=region,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            virtual_hosted_style_request=endpoint is None,
            client_options={
                "timeout": _REQUEST_TIMEOUT,
                "allow_http": bool(endpoint and endpoint.startswith("http:")),
            },
            retry_config={"max_retries": 3, "retry_timeout": _RETRY_FOR},
        )

    async def put(self, key: str, content: bytes) -> None:
        await self._ask(obstore.put_async(self._store, check_key(key), content))

    async def put_file(self, key: str, file: Path) -> None:
        # In parts: a recording of hours is larger than one request may be.
        await self._ask(obstore.put_async(self._store, check_key(key), file, chunk_size=_PART_BYTES))

    async def read(self, key: str, start: int, size: int) -> bytes:
        if size <= 0:
            return b""
        found = await self._ask(
            obstore.get_range_async(self._store, check_key(key), start=start, length=size)
        )
        return bytes(found)

    async def size(self, key: str) -> int:
        found = await self._ask(obstore.head_async(self._store, check_key(key)))
        return int(found["size"])

    async def delete(self, key: str) -> None:
        try:
            await self._ask(obstore.delete_async(self._store, check_key(key)))
        except NotStored:
            return  # some servers say so

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        try:
            async for page in obstore.list(self._store, check_key(prefix), chunk_size=500):
                for found in page:
                    yield found["path"], found["last_modified"]
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def _ask(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except (NotFoundError, FileNotFoundError) as error:
            raise NotStored(f"there is no such key in {self._name}") from error
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        # The first line; what follows are the client's inner settings.
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return StorageUnavailable(f"{self._name} cannot be used: {words[:300]}")
