"""Debian packages that the development servers need, installed when they are missing and it may be done."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from offhook_dev.errors import DevError
from offhook_dev.servers import Say

# Another apt (an unattended upgrade, a second test run) may hold the lock; it is worth waiting for.
_APT: Final = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")
_TIMEOUT_S: Final = 900


def can_install() -> bool:
    """Whether this process may install Debian packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(*packages: str, reason: str, say: Say) -> None:
    """Install `packages`. Raises `DevError` when that is not possible; `reason` is the sentence's beginning."""
    names = " ".join(packages)
    if not can_install():
        raise DevError(f"{reason}: install it (on Debian: sudo apt-get install {names}) and try again.")
    say(f"{reason}: installing {names}")
    _apt(reason, names, "update")
    _apt(reason, names, "install", "-y", "--no-install-recommends", *packages)


def install_first(candidates: Sequence[str], *, reason: str, say: Say) -> None:
    """Install the first of `candidates` that this release of Debian has. Raises `DevError` like `install`."""
    for package in candidates[:-1]:
        try:
            return install(package, reason=reason, say=say)
        except DevError:
            if not can_install():
                raise
    install(candidates[-1], reason=reason, say=say)


def without_main_cluster() -> None:
    """Keep Debian's PostgreSQL packages from creating and starting a server of their own."""
    settings = Path("/etc/postgresql-common/createcluster.conf")
    if settings.exists():
        lines = [line for line in settings.read_text().splitlines() if "create_main_cluster" not in line]
        settings.write_text("\n".join([*lines, "create_main_cluster = false", ""]))


def _apt(reason: str, names: str, *arguments: str, folder: str | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [*_APT, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_TIMEOUT_S, check=False, cwd=folder,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DevError(f"{reason}, and apt-get did not finish installing {names} in time.") from error
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        said = words[-1][:300] if words else f"exit code {done.returncode}"
        raise DevError(f"{reason}, and apt-get could not install {names}: {said}")


def unpack(*packages: str, into: Path, reason: str, say: Say) -> Path:
    """Put what Debian packages hold below `into`, without installing them: no daemon starts, nothing of the system changes.

    Their dependencies are not fetched: for programs that need the C library alone. Returns `into`. Raises `DevError`.
    """
    names = " ".join(packages)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise DevError(
            f"{reason}, and this is no Debian: put the programs of {names} on the PATH and try again."
        )
    say(f"{reason}: fetching {names}")
    if can_install():
        _apt(reason, names, "update")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="offhook-debian-") as folder:
        Path(folder).chmod(0o755)  # apt fetches as a user of its own
        _apt(reason, names, "-o", "APT::Sandbox::User=root", "download", *packages, folder=folder)
        for archive in sorted(Path(folder).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(archive), str(into)], check=True, timeout=_TIMEOUT_S)
    return into
