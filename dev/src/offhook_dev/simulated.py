"""The made-up accounts, numbers and people of the embedded stack, and the simulator that believes in them."""

import sys
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from offhook_dev.ports import free_port
from offhook_dev.programs import Program

# Obviously made up; only the simulator believes in them.
TWILIO_CREDENTIALS: Final = {
    "account_sid": "AC" + "0" * 31 + "1",
    "auth_token": "not-a-real-auth-token-0123456789",
}
VONAGE_CREDENTIALS: Final = {
    "application_id": "aaaaaaaa-0000-4000-8000-000000000001",
    "api_key": "abcd1234",
    "api_secret": "NotARealSecret1",
    "signature_secret": "not-a-real-signature-secret-0123456789",
}

# Numbers of the range that is reserved for fiction.
NUMBERS: Final = {"twilio": "+14155550100", "vonage": "+14155550101"}
PATIENCE: Final = 10.0
"""Of the carriers (`SimConfig.patience`) that share a busy machine with everything they call."""
PERSON: Final = "+14155550142"
CALLEES: Final = {"twilio": "+14155550143", "vonage": "+14155550144"}

_TALK: Final = [{"wait_for_agent": {"timeout_s": 60}}, {"say": 1.6}, {"wait_for_agent": {"timeout_s": 60}}]
CALLER_HANGS_UP: Final = {"steps": [*_TALK, "hang_up"], "seed": 7}
# The example agent hangs up when it hears `#`.
AGENT_HANGS_UP: Final = {"steps": [*_TALK, {"press": "#"}, {"stay_until_hung_up": 60}], "seed": 8}


def credentials(home: Path) -> dict[str, dict[str, str]]:
    """What an operator would enter, by provider. The Vonage key pair is made once and kept in `home`."""
    path = home / "vonage-simulated.pem"
    if not path.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        home.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return {
        "twilio": dict(TWILIO_CREDENTIALS),
        "vonage": VONAGE_CREDENTIALS | {"private_key": path.read_text()},
    }


def write_simulation(home: Path, public_url: str) -> Path:
    """The simulator's file: two customers whose numbers call `public_url`, and two people who pick up. Returns its path."""
    keys = credentials(home)
    inbound = f"{public_url}/api/v1/telephony/inbound/run"
    fallback = f"{public_url}/api/v1/telephony/inbound/fallback"
    status = f"{public_url}/api/v1/telephony/status-callback/inbound"
    number = {
        "number": NUMBERS["twilio"],
        "voice_url": inbound,
        "voice_fallback_url": fallback,
        "status_callback": status,
    }
    application: dict[str, Any] = {name: keys["vonage"][name] for name in VONAGE_CREDENTIALS}
    application |= {
        "private_key_file": "vonage-simulated.pem",
        "answer_url": inbound,
        "answer_method": "POST",
        "event_url": status,
        "fallback_answer_url": fallback,
        "fallback_method": "POST",
        "numbers": [NUMBERS["vonage"]],
    }
    people = {
        CALLEES["twilio"]: {"answer_after_s": 0.5, "caller": AGENT_HANGS_UP},
        CALLEES["vonage"]: {"answer_after_s": 0.5, "caller": CALLER_HANGS_UP},
    }
    path = home / "simulation.yaml"
    path.touch(mode=0o600)
    path.write_text(
        yaml.safe_dump(
            {
                "twilio": {"accounts": [keys["twilio"] | {"numbers": [number]}]},
                "vonage": {"applications": [application]},
                "callees": people,
            },
            sort_keys=False,
        )
    )
    return path


def simulator(home: Path, simulation: Path, trust: Path) -> Program:
    """The simulator as a program of its own, with a REST API and a control API over TLS."""
    port = free_port()
    options = ("--config", simulation, "--port", port, "--home", home / "carrier-sim", "--trust", trust)
    return Program(
        "carrier-sim",
        [sys.executable, "-m", "carrier_sim.cli", "serve", *map(str, options)],
        home,
        port=port,
        ready_url=f"https://127.0.0.1:{port}/_sim/",
        ready_trust=home / "carrier-sim" / "ca.pem",
    )
