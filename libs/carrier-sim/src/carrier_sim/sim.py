"""The simulator: both carriers behind one address."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from carrier_sim.callee import Callees
from carrier_sim.config import SimConfig
from carrier_sim.control import Control
from carrier_sim.control_customers import CustomersControl
from carrier_sim.exchange import Exchange
from carrier_sim.faults import Faults
from carrier_sim.report import CallReport
from carrier_sim.rest_faults import RestFault
from carrier_sim.rest_gate import RestGate
from carrier_sim.rest_log import RestLog
from carrier_sim.tls import Authority
from carrier_sim.twilio.carrier import TwilioCarrier
from carrier_sim.twilio.rest import TwilioRest
from carrier_sim.vonage.carrier import VonageCarrier
from carrier_sim.vonage.rest import VonageRest
from carrier_sim.vonage.rest_settings import VonageSettingsRest
from carrier_sim.web import WebClient


class CarrierSim:
    """A running simulation; an async context manager.

    `base_url` stands for api.twilio.com, api.nexmo.com and rest.nexmo.com at once; its certificate is signed by `ca_pem`.
    The carriers trust certificates of the same authority, so `certificate_files` gives a test's own server one.
    """

    def __init__(self, config: SimConfig | None = None) -> None:
        self.config = config or SimConfig()
        self._exchange = Exchange(self.config)
        self.twilio = TwilioCarrier(self._exchange)
        self.vonage = VonageCarrier(self._exchange)
        self._gate = RestGate(self.twilio, self.vonage)
        self._temporary = None if self.config.home else tempfile.TemporaryDirectory(prefix="carrier-sim-")
        home = self.config.home or Path(self._temporary.name if self._temporary else ".")
        home.mkdir(parents=True, exist_ok=True)
        self._authority = Authority(home)
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def ca_pem(self) -> Path:
        """The authority to trust when calling the simulator."""
        return self._authority.ca_pem

    @property
    def base_url(self) -> str:
        scheme = "https" if self.config.tls else "http"
        return f"{scheme}://{self.config.host}:{self._port}"

    @property
    def callees(self) -> Callees:
        """Who answers the calls the customers place."""
        return self._exchange.callees

    @property
    def faults(self) -> Faults:
        """The faults of calls that begin from now on; assign to change them."""
        return self._exchange.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._exchange.faults = faults

    @property
    def rest_faults(self) -> Sequence[RestFault]:
        """What the REST APIs do wrong from now on, first match first; assign to change it. Counts begin at zero then."""
        return self._gate.faults.rules

    @rest_faults.setter
    def rest_faults(self, rules: Iterable[RestFault]) -> None:
        self._gate.faults.replace(rules)

    @property
    def rest_log(self) -> RestLog:
        """The REST requests that came."""
        return self._gate.log

    def limit_requests(self, account: str, per_s: float | None) -> None:
        """REST requests a second that an account (Account SID, or Vonage API key) may make; more are 429. None: no limit."""
        self._gate.limits.set(account, per_s)

    @property
    def reports(self) -> list[CallReport]:
        """The calls that are over, in the order they ended."""
        return self._exchange.reports

    async def next_report(self, provider_call_id: str, timeout_s: float = 60.0) -> CallReport:
        """The report of a call, when it is over. Raises `TimeoutError`."""
        return await self._exchange.next_report(provider_call_id, timeout_s)

    def certificate_files(self, *hosts: str) -> tuple[Path, Path]:
        """A certificate chain and key (PEM files) for a server under test, which the carriers will trust."""
        return self._authority.certificate_files(*(hosts or ("127.0.0.1", "localhost")))

    async def __aenter__(self) -> Self:
        context = self._authority.client_context(self.config.trust, system=self.config.trust_system)
        self._exchange.start(
            WebClient(
                context,
                allow_plain=self.config.allow_plain,
                resolve=self.config.resolve,
                patience=self.config.patience,
            )
        )
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        names = {"127.0.0.1", "localhost", self.config.host, *self.config.hosts} - {"0.0.0.0"}  # noqa: S104
        tls = self._authority.server_context(*sorted(names)) if self.config.tls else None
        site = web.TCPSite(self._runner, self.config.host, self.config.port, ssl_context=tls)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.stop()
        await self._exchange.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=1024 * 1024, middlewares=[self._gate.middleware()])
        app.add_routes(TwilioRest(self.twilio).routes())
        app.add_routes(VonageRest(self.vonage).routes())
        app.add_routes(VonageSettingsRest(self.vonage).routes())
        app.add_routes(Control(self._exchange, self.twilio, self.vonage).routes())
        app.add_routes(CustomersControl(self._gate, self.twilio, self.vonage).routes())
        return app
