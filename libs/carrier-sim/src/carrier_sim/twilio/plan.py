"""What a Twilio call was set up with."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """Where instructions come from: a URL, or a document that is there already. `base` resolves relative URLs in it."""

    url: str = ""
    method: str = "POST"
    document: bytes | None = None
    base: str = ""
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Detection:
    """Answering machine detection. Asynchronous: instructions are asked for at once, the result goes to `callback`."""

    wait_for_end: bool = False
    asynchronous: bool = False
    callback: str = ""
    callback_method: str = "POST"

    def result(self, answered_by: str) -> str:
        """Twilio's word for a `human`, a `machine` or a `fax`."""
        if answered_by != "machine":
            return answered_by
        return "machine_end_beep" if self.wait_for_end else "machine_start"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the call was set up with. `send_digits`: keys pressed once it is answered; then nobody is detected."""

    source: Source
    fallback_url: str = ""
    fallback_method: str = "POST"
    status_callback: str = ""
    status_method: str = "POST"
    status_events: frozenset[str] = frozenset({"completed"})
    ring_timeout_s: float = 60.0
    time_limit_s: float = 4 * 3600.0
    detection: Detection | None = None
    send_digits: str = ""
