"""checkov, in an environment of its own: it demands old versions of packages that we have newer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from offhook_dev.errors import DevError
from offhook_dev.servers import Say
from offhook_dev.stack import repository

_LOCK: Final = Path("dev/checkov/requirements.lock")
_TIMEOUT_S: Final = 600

# What is not asked for, and why. Everything else is; an object that cannot do it says why in an annotation (`checkov.io/skip1`).
SKIPPED: Final = {
    "CKV_K8S_11": "no CPU limits: throttling holds an event loop, and with it the audio of all its calls, for up to 100 ms",
    "CKV_K8S_15": "tags are not moved, and a node goes on without the registry with the image that it has",
    "CKV_K8S_35": "settings are environment variables everywhere; no process here starts others that would inherit them",
    "CKV_K8S_43": "which image, and whether by digest, is the overlay's decision (`images`)",
}  # fmt: skip


def install(say: Say = print) -> Path:
    """The command, installed from its lock file when it is missing or the file has changed. Raises `DevError`."""
    lock = repository() / _LOCK
    home = repository() / "var" / "checkov"
    command, stamp = home / "bin" / "checkov", home / "lock"
    wanted = lock.read_text()
    if command.exists() and stamp.exists() and stamp.read_text() == wanted:
        return command
    say("checkov is missing: installing it")
    uv = str(Path(sys.executable).with_name("uv"))
    for arguments in (
        ("venv", "-q", "--clear", "--python", sys.executable, str(home)),
        ("pip", "sync", "-q", "--python", str(home / "bin" / "python"), "--require-hashes", str(lock)),
    ):
        done = subprocess.run(
            [uv, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise DevError(f"checkov could not be installed: {done.stderr.strip()[-500:]}")
    stamp.write_text(wanted)
    return command


def objections(manifests: Path, say: Say = print) -> list[str]:
    """What checkov says about a file of manifests, `CHECK object: words`. Raises `DevError` when it says nothing usable."""
    done = subprocess.run(
        [
            install(say), "--file", str(manifests), "--framework", "kubernetes", "--output", "json", "--quiet", "--compact",
            "--skip-download", "--skip-check", ",".join(SKIPPED),
        ],
        capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    try:
        report: dict[str, Any] = json.loads(done.stdout)
        failed = report["results"]["failed_checks"]
        if not report["summary"]["passed"]:
            raise KeyError("passed")
    except (ValueError, KeyError, TypeError) as error:
        raise DevError(f"checkov gave no report: {(done.stderr or done.stdout).strip()[-500:]}") from error
    return [f"{one['check_id']} {one['resource']}: {one['check_name']}" for one in failed]
