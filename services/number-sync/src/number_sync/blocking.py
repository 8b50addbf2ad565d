"""Blocking calls off the event loop, boundedly many, and none of them waited for longer than is agreed.

The vendors' SDKs are synchronous, and their timeouts bound the silence between two bytes, not the whole request: a
server that trickles can hold a call for ever. Such a call is left behind; its thread keeps its slot until it really
ends, and does not keep the process from exiting.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class Slots:
    """At most `limit` blocking calls at a time, and half of them for one owner."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._share = max(1, limit // 2)
        # An owner's is kept alive by whoever waits for it, and by the slots in use.
        self._owned: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def reserve(self, owner: str | None = None) -> "Slot":
        """Wait for a free slot. You must call `Slot.start` or `Slot.release`. `owner`: whose call it is, so that one who
        asks a lot holds up nobody else."""
        if owner is None:
            await self._free.acquire()
            return Slot(self._free.release)
        own = self._owned.get(owner)
        if own is None:
            own = self._owned[owner] = asyncio.Semaphore(self._share)
        await own.acquire()
        try:
            await self._free.acquire()
        except BaseException:
            own.release()
            raise

        def release() -> None:
            own.release()
            self._free.release()

        return Slot(release)


class Slot:
    """The right to make one blocking call."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    @property
    def free(self) -> bool:
        """Whether a call can still be started in it."""
        return self._release is not None

    def release(self) -> None:
        """Give the slot back, unless a call was started in it."""
        if self._release is not None:
            self._release()
            self._release = None

    def start(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `call` in a thread of its own. The slot is free again when it has ended.

        Cancelling the future, or not awaiting it, does not stop the call.
        """
        if self._release is None:
            raise RuntimeError("the slot was used or given back")
        release, self._release = self._release, None
        loop = asyncio.get_running_loop()
        running = _Running(loop.create_future(), release)

        def work() -> None:
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - carried over to whoever awaits the future
                deliver, argument = running.failed, error
            else:
                deliver, argument = running.returned, result  # type: ignore[assignment]
            # The loop may have gone: then nobody waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(deliver, argument)

        threading.Thread(target=work, name="provider-call", daemon=True).start()
        return running.future


class _Running(Generic[T]):
    def __init__(self, future: "asyncio.Future[T]", release: Callable[[], None]) -> None:
        self.future = future
        self._release = release

    def returned(self, result: T) -> None:
        self._release()
        if not self.future.done():
            self.future.set_result(result)

    def failed(self, error: Exception) -> None:
        self._release()
        if not self.future.done():
            self.future.set_exception(error)
