"""Images built and containers run without a container engine's daemon: buildah and podman from Debian's packages.

Everything of theirs is under one directory: images, containers, configuration. The system's own containers are neither
seen nor touched. Rights that a sandbox withholds are not asked for: builds run in a chroot, limits stay below the
process's own, no systemd is needed.
"""

import contextlib
import fcntl
import os
import re
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from offhook_dev import system_packages
from offhook_dev.errors import DevError
from offhook_dev.kafka import var
from offhook_dev.servers import Say, say_on_stderr

SERVICES_IMAGE: Final = "localhost/offhook:dev"
SIMULATOR_IMAGE: Final = "localhost/offhook-simulator:dev"
TARGETS: Final = {"services": SERVICES_IMAGE, "simulator": SIMULATOR_IMAGE}
BASE_IMAGE: Final = "localhost/offhook-debian:12-slim"
"""What `docker.io/library/debian:12-slim` is replaced by where no registry is reached: the same packages."""

_REPOSITORY: Final = Path(__file__).resolve().parents[3]
_PROGRAMS: Final = {
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "conmon": "conmon",
    "iptables": "iptables",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
}
# What the image `debian:12-slim` leaves out, too.
_NOT_NEEDED: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
_BUILD_TIMEOUT_S: Final = 1200
_TIMEOUT_S: Final = 120
_MAX_FILES: Final = 16384
_MAX_PROCESSES: Final = 4096
_SHARES: Final = 12 * 1024  # as many as the compose file has containers; 1024 is one process's
# Which index the packages come from is the machine's affair; what it is told, the build is told.
_INDEX_SETTING: Final = re.compile(
    r"(PIP|UV)_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|INSECURE_HOST)"
)
_AUTHORITIES: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")


class Engine:
    """Builds and runs with all of its files below `home` (by default, `var/containers`)."""

    def __init__(self, home: Path | None = None, *, say: Say = say_on_stderr) -> None:
        self.home = (home or var() / "containers").absolute()
        self._say = say

    def install(self) -> None:
        """Make sure that the programs are there, and write their configuration. Raises `DevError`."""
        missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
        if missing:
            system_packages.install(
                *missing, reason="Building and running images needs buildah and podman", say=self._say
            )
        self.home.mkdir(parents=True, exist_ok=True)
        files, processes = (
            min(wanted, resource.getrlimit(kind)[1]) if resource.getrlimit(kind)[1] > 0 else wanted
            for wanted, kind in (
                (_MAX_FILES, resource.RLIMIT_NOFILE),
                (_MAX_PROCESSES, resource.RLIMIT_NPROC),
            )
        )
        (self.home / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
            'log_driver = "k8s-file"\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            '[network]\nnetwork_backend = "netavark"\n'
            f'network_config_dir = "{self.home / "networks"}"\n'
        )
        (self.home / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.home / "store"}"\nrunroot = "{self.home / "run"}"\n'
        )

        self._take_a_share()

    def _take_a_share(self) -> None:
        """All containers together have one group of processes, which gets no more of a busy machine than one single process
        outside of it, unless it is told otherwise (version 1 of cgroups)."""
        group = Path("/sys/fs/cgroup/cpu/libpod_parent")
        if (group.parent / "cpu.shares").exists() and os.access(group.parent, os.W_OK):
            group.mkdir(exist_ok=True)
            (group / "cpu.shares").write_text(str(_SHARES))

    @property
    def environment(self) -> dict[str, str]:
        """What buildah, podman and podman-compose have to be started with."""
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.home / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.home / "storage.conf"),
            # Health checks are asked for, not run by timers of systemd.
            "DISABLE_HC_SYSTEMD": "true",
            "BUILDAH_ISOLATION": "chroot",
        }

    def run(
        self, *command: str, timeout_s: float = _TIMEOUT_S, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine's. With `check`, raises `DevError` with its last words when it fails."""
        try:
            done = subprocess.run(
                command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise DevError(f"`{shlex.join(command[:3])} …` did not end within {timeout_s:.0f} s") from error
        if check and done.returncode != 0:
            words = (done.stderr or done.stdout).strip().splitlines()
            said = " / ".join(words[-3:])[:600] if words else f"exit code {done.returncode}"
            raise DevError(f"`{shlex.join(command[:3])} …` failed: {said}")
        return done

    def podman(
        self, *arguments: str, timeout_s: float = _TIMEOUT_S, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`podman …`, see `run`."""
        return self.run("podman", *arguments, timeout_s=timeout_s, check=check)

    def has_image(self, name: str) -> bool:
        return self.podman("image", "exists", name, check=False).returncode == 0

    def base(self) -> str:
        """The image everything is built on, made of Debian's packages when it is not there. Returns its name."""
        if not self.has_image(BASE_IMAGE):
            archive = self.home / "base.tar"
            with self._step("a Debian of the smallest kind, by mmdebstrap"):
                without = [f"--dpkgopt=path-exclude={path}" for path in _NOT_NEEDED]
                self.run(
                    "mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io", *without, "bookworm", str(archive),
                    timeout_s=_BUILD_TIMEOUT_S,
                )  # fmt: skip
                self.podman("import", "--quiet", str(archive), BASE_IMAGE, timeout_s=_BUILD_TIMEOUT_S)
                archive.unlink()
        return BASE_IMAGE

    def build(
        self,
        name: str,
        context: Path,
        *,
        arguments: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Build the Dockerfile in `context` as image `name`. Layers are kept, so that a repeated build takes seconds."""
        given = [
            part for key, value in (arguments or {}).items() for part in ("--build-arg", f"{key}={value}")
        ]
        with self._step(f"image {name}"):
            self.run(
                "buildah", "build", "--isolation", "chroot", "--layers", "--quiet", *given, *options, *self._secrets(),
                "--tag", name, str(context), timeout_s=_BUILD_TIMEOUT_S,
            )  # fmt: skip

    def project_images(self, *, labels: Mapping[str, str] | None = None) -> None:
        """Both images of the Dockerfile, under the names that the compose file and the manifests use."""
        with self.locked():
            self.install()
            arguments = {"BASE": self.base(), **(labels or {})}
            for target, name in TARGETS.items():
                self.build(name, _REPOSITORY, arguments=arguments, options=("--target", target))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time makes images."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / ".lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _secrets(self) -> list[str]:
        """The machine's own authorities and package index, for single commands of the build."""
        options = []
        authorities = next((found for name in _AUTHORITIES if (found := os.environ.get(name))), None)
        if authorities and Path(authorities).is_file():
            options += ["--secret", f"id=ca.pem,src={authorities}"]
        settings = {name: value for name, value in os.environ.items() if _INDEX_SETTING.fullmatch(name)}
        if settings:
            path = self.home / "build.env"
            path.touch(mode=0o600)
            path.write_text(
                "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
            )
            options += ["--secret", f"id=build.env,src={path}"]
        return options

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._say(f"{what}: {time.monotonic() - begun:.0f} s")


def build_images(say: Say = say_on_stderr) -> None:
    """What `make images` does: with Docker where its daemon answers, else with buildah.

    `OFFHOOK_BUILDER` chooses: `docker`, `podman` (its ordinary store), or `buildah` (a store below `var`).
    """
    chosen = os.environ.get("OFFHOOK_BUILDER") or ("docker" if _docker_answers() else "buildah")
    labels = {"VERSION": version("offhook"), "REVISION": _revision()}
    if chosen == "buildah":
        engine = Engine(say=say)
        engine.project_images(labels=labels)
        say(
            f"they are in a store of their own: CONTAINERS_STORAGE_CONF={engine.home / 'storage.conf'} podman images"
        )
        return
    if chosen not in ("docker", "podman"):
        raise DevError(f"OFFHOOK_BUILDER is docker, podman or buildah, not {chosen!r}.")
    arguments = [part for key, value in labels.items() for part in ("--build-arg", f"{key}={value}")]
    for target, name in TARGETS.items():
        command = [chosen, "build", "--target", target, "--tag", name, *arguments, str(_REPOSITORY)]
        if subprocess.run(command, check=False).returncode != 0:
            raise DevError(f"`{shlex.join(command[:4])} …` failed; what it said is above.")


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0


def _revision() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=_REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip() or "unknown"
