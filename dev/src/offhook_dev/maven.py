"""Jars of a recipe (a `pom.xml`), fetched once for each version of it, into `var/<name>/libs`."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from offhook_dev import system_packages
from offhook_dev.errors import DevError
from offhook_dev.servers import Say

_TIMEOUT_S: Final = 1200
_NO_NETWORK: Final = re.compile(
    r"Unknown host|UnknownHost|Connection refused|Connection reset|Network is unreachable|No route to host"
    r"|timed out|Temporary failure in name resolution|Name or service not known|offline mode",
    re.IGNORECASE,
)


def jars(recipe: Path, var: Path, what: str, say: Say) -> Path:
    """The directory of the jars of `recipe` below `var`, filled through Maven when this version of it has not been yet.

    `what` names it for people. Raises `DevError`.
    """
    libs = var / "libs" / hashlib.sha256(recipe.read_bytes()).hexdigest()[:16]
    if libs.is_dir():
        return libs
    libs.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(libs.parent / ".lock"):
        if libs.is_dir():  # another process was faster
            return libs
        maven = _maven(what, say)
        # Fetched aside and renamed when complete: nobody ever sees half of the jars.
        aside = libs.parent / f".fetching-{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            _fetch(maven, recipe, aside, what, say)
            aside.rename(libs)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return libs


def _fetch(maven: str, recipe: Path, into: Path, what: str, say: Say) -> None:
    log = into.parent / "maven.log"
    say(f"fetching {what} through Maven, once; this takes about a minute")
    fetched = 0
    command = [
        maven, "-B", "-C", "-f", str(recipe), "dependency:copy-dependencies", f"-DoutputDirectory={into}",
    ]  # fmt: skip
    with (
        log.open("w") as record,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            record.write(line)
            if "Downloaded from" in line and ".jar " in line:
                fetched += 1
                if fetched % 25 == 0:
                    say(f"{fetched} files fetched")
        code = process.wait(_TIMEOUT_S)
    if code != 0:
        if _NO_NETWORK.search(log.read_text(errors="replace")):
            raise DevError(
                f"The jars of {what} cannot be fetched: Maven does not reach its repository. Connect to the network (or"
                f" name a mirror in ~/.m2/settings.xml) and try again; details are in {log}."
            )
        raise DevError(
            f"The jars of {what} cannot be fetched: Maven ended with {code}; details are in {log}."
        )


def _maven(what: str, say: Say) -> str:
    found = shutil.which("mvn")
    if found is None:
        system_packages.install("maven", reason=f"Fetching {what} needs Maven, which is missing", say=say)
        found = shutil.which("mvn")
    if found is None:
        raise DevError(f"Fetching {what} needs Maven, and mvn is not on the PATH.")
    return found


@contextlib.contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
