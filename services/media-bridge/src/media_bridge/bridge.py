"""All calls of one process: accepting sockets, pacing, watching, renewing, ending.

One timer paces every call that has something to send later, one looks after some calls at a time, all of them
once a second. Calls with nothing waiting cost neither anything.
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import Iterable
from typing import Final

import picows
import structlog
from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from media_bridge.admission import Refusal, admit
from media_bridge.call import MAX_CARRIER_MESSAGE, Call
from media_bridge.conversation import Conversation, Limits, LoopLag
from media_bridge.endings import SHUTDOWN, SUPERSEDED
from media_bridge.facts import Teller
from media_bridge.records import Records
from media_bridge.settings import BridgeSettings
from media_bridge.shared_state import SharedState
from media_bridge.taps import RESTART_WHEN_EMPTY, TapWriter
from offhook.bus.hops import heard
from offhook.events import Event, EventData
from offhook.http import ListenError
from offhook.providers.registry import PROVIDERS
from offhook.security.tokens import MediaTokens
from offhook.tasks import EndlessTasks
from offhook.telemetry import metrics
from offhook.topics import CALL_NOTICES

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_TICK_S: Final = 0.01
# Every call is looked at once a second, and its claim renewed every five. Not all of them at once: with hundreds
# of calls that would stop everybody's audio for as long as it takes.
_TURN_S: Final = 0.05
_WATCH_TURNS: Final = 20
_RENEW_TURNS: Final = 100
_LAST_WORDS_S: Final = 5.0
_GOODBYES_S: Final = 2.0
_BACKLOG: Final = 1024
_SAY_EVERY_S: Final = 60.0
# A carrier opens one socket for a call, and another when that broke. A signature of Twilio's is the same for
# every connection to one URL: whoever has seen one must not take the places of others' calls with it.
_MAX_UNSTARTED: Final = 4


class Bridge:
    """The media side of the process. You must call `start`, and `stop` before the outlet and Redis go away."""

    def __init__(
        self,
        settings: BridgeSettings,
        records: Records,
        state: SharedState,
        teller: Teller,
        taps: TapWriter,
        tokens: MediaTokens,
    ) -> None:
        self.settings = settings
        self.records = records
        self.state = state
        self.teller = teller
        self.taps = taps
        self.tokens = tokens
        self.lag = LoopLag()
        self.limits = Limits(
            lead_s=settings.lead_ms / 1000,
            max_agent_audio_ms=settings.max_agent_audio_s * 1000,
            caller_memory_ms=round(settings.caller_memory_s * 1000),
        )
        self.port = 0
        self._draining = False
        self._calls: set[Call] = set()
        self._turns: list[set[Call]] = [set() for _ in range(_RENEW_TURNS)]
        self._opened = 0
        self._paced: dict[Conversation, None] = {}
        self._tick_due = 0.0
        self._ticking: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._bound: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._endless = EndlessTasks(RESTART_WHEN_EMPTY)

    # --- life
    # -----------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Take the address, so that a port in use is known before anything else is started. Raises `ListenError`."""
        settings = self.settings
        family = socket.AF_INET6 if ":" in settings.listen_host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((settings.listen_host, settings.listen_port))
        except OSError as error:
            bound.close()
            raise ListenError(
                f"Cannot listen on {settings.listen_host}:{settings.listen_port} ({error.strerror or error}): "
                "end what uses it, or set OFFHOOK_LISTEN_PORT."
            ) from error
        self._bound = bound

    async def start(self) -> None:
        """Accept sockets. Raises `ListenError`."""
        metrics.MEDIA_CAPACITY.set(self.settings.max_sessions)
        # Autoscalers take a pod without the series for one whose load is not known, not for an idle one.
        for provider, protocol in itertools.product(PROVIDERS, ("pcm", "twilio")):
            metrics.MEDIA_SESSIONS.labels(provider, protocol)
        if self._bound is None:
            self.bind()
        self._listener = await picows.ws_create_server(
            self._upgrade,
            sock=self._bound,
            websocket_handshake_timeout=self.settings.start_timeout_s,
            max_frame_size=MAX_CARRIER_MESSAGE,
            read_buffer_init_size=4096,
            enable_auto_pong=False,
            backlog=_BACKLOG,
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        self._endless.start(self._watch(), "watch over calls")
        _log.info("accepting-calls", host=self.settings.listen_host, port=self.port)

    def problems(self) -> Iterable[str]:
        """Why no more calls should come here."""
        return self._endless.problems()

    async def drain(self) -> None:
        """Refuse new calls, and return when none is left and what was told about them is durable.

        Not before: until load balancers have noticed that the process is not ready they send calls here, and a call is
        better carried to its end here than refused.
        """
        self._draining = True
        while not self._empty.is_set():
            _log.info("draining", calls=len(self._calls))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SAY_EVERY_S):
                    await self._empty.wait()
        await self.teller.settled()

    async def stop(self) -> None:
        """End what is left, so that carriers ask for new instructions and another bridge goes on; then tell
        it all.
        """
        if self._listener is not None:
            self._listener.close()
        elif self._bound is not None:
            self._bound.close()
        calls = list(self._calls)
        for call in calls:
            call.end(SHUTDOWN)
            if call.task is None:
                call.close(1001)
        tasks = [call.task for call in calls if call.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        goodbyes = [asyncio.create_task(call.gone.wait()) for call in calls]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=_GOODBYES_S)
        await self._endless.stop()
        if self._ticking is not None:
            self._ticking.cancel()
        await self.teller.settled()

    @property
    def call_count(self) -> int:
        return len(self._calls)

    def take_notice(self, event: Event[EventData]) -> None:
        """What the agent of a call shall be told, if the call is one of ours."""
        for call in self._calls:
            if call.workflow_run_id == event.subject and call.started:
                span = heard(CALL_NOTICES, event)
                call.take_notice(event.data)
                span.end()

    # --- for calls
    # ------------------------------------------------------------------------------------------------

    def opened(self, call: Call) -> None:
        self._calls.add(call)
        self._opened += 1
        self._turns[self._opened % len(self._turns)].add(call)
        self._empty.clear()
        self._tick_on()

    def closed(self, call: Call) -> None:
        self._calls.discard(call)
        for turn in self._turns:
            turn.discard(call)
        if not self._calls:
            self._empty.set()

    def pace(self, conversation: Conversation) -> None:
        """Something of this conversation waits for its time."""
        self._paced[conversation] = None

    # --- the upgrade
    # ----------------------------------------------------------------------------------------------

    def _upgrade(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        """Decide about a request before it is answered. Never echoes a subprotocol: Twilio offers none, and
        drops a connection that names one it did not offer; no compression, it costs more than the audio."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        decision = self._decide(request.path, headers)
        if isinstance(decision, Refusal):
            metrics.MEDIA_REFUSED.labels(decision.provider, decision.reason).inc()
            _log.warning(
                "upgrade-refused", status=decision.status, reason=decision.reason, provider=decision.provider
            )
            response = WSUpgradeResponse.create_error_response(decision.status, b"refused\n")
            return WSUpgradeResponseWithListener(response, None)
        options = (option.strip() for option in headers.get("connection", "").lower().split(","))
        if "upgrade" in options:
            # It is a list (RFC 9110, 7.6.1) and proxies add to it; picows compares it with this one word.
            request.headers["Connection"] = "upgrade"
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(), decision)

    def _decide(self, target: bytes, headers: dict[str, str]) -> Call | Refusal:
        if self._draining:
            return Refusal(503, "draining")
        if len(self._calls) >= self.settings.max_sessions:
            return Refusal(503, "capacity")
        admission = admit(target, headers, self.records, time.time())
        if isinstance(admission, Refusal):
            return admission
        run = admission.workflow_run_id
        if sum(not call.started and call.workflow_run_id == run for call in self._calls) >= _MAX_UNSTARTED:
            return Refusal(503, "too-many-unstarted", admission.adapter.name)
        return Call(self, admission)

    # --- timers
    # ---------------------------------------------------------------------------------------------------

    def _tick_on(self) -> None:
        if self._ticking is None:
            loop = asyncio.get_running_loop()
            self._tick_due = loop.time() + _TICK_S
            self._ticking = loop.call_at(self._tick_due, self._tick)

    def _tick(self) -> None:
        """Every 10 ms while there are calls: let everything go whose time has come, and measure how late we
        are.
        """
        loop = asyncio.get_running_loop()
        late = loop.time() - self._tick_due
        self.lag.ms = max(0.0, late * 1000)
        now = time.monotonic()
        for conversation in list(self._paced):
            try:
                more = conversation.pump(now)
            except Exception:  # noqa: BLE001 - one call's fault must not silence all others, whose pace this is
                _log.exception("pump-failed")
                more = False
            if not more:
                self._paced.pop(conversation, None)
        if not self._calls:
            self._ticking = None
            self._paced.clear()
            return
        # A tick that was missed is not made up for: the next one sends what it would have sent.
        self._tick_due += _TICK_S if late < _TICK_S else late
        self._ticking = loop.call_at(self._tick_due, self._tick)

    async def _watch(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(_TURN_S)
            turn += 1
            now = time.monotonic()
            for calls in self._turns[turn % _WATCH_TURNS :: _WATCH_TURNS]:
                for call in list(calls):
                    call.watch(
                        now,
                        start_timeout_s=self.settings.start_timeout_s,
                        silence_timeout_s=self.settings.silence_timeout_s,
                    )
            await self._renew(self._turns[turn % len(self._turns)])

    async def _renew(self, calls: Iterable[Call]) -> None:
        """Keep the sessions of these calls, and end those that a later session has taken over."""
        now = time.monotonic()
        leases = []
        for call in calls:
            call.account()
            lease = call.lease(now)
            if lease is not None:
                leases.append((call, lease))
        if not leases:
            return
        held = await self.state.renew([lease for _, lease in leases])
        for (call, _), mine in zip(leases, held, strict=True):
            if not mine:
                call.end(SUPERSEDED)
