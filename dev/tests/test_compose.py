"""docker-compose.yml, really run: images built by buildah, containers by podman, and the demo's four calls through them.

What no registry is needed for is built here: Kafka, Redis, PostgreSQL and Envoy under the names of the official images.
"""

import ast
import asyncio
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from offhook_dev import stand_ins
from offhook_dev.compose import COMPOSE_FILE, EDGE_FILE, REPOSITORY, ComposeStack, edge_file
from offhook_dev.containers import SERVICES_IMAGE, SIMULATOR_IMAGE, Engine
from offhook_dev.errors import DevError
from offhook_dev.prometheus import run_tool
from offhook_dev.pytest_plugin import real_is_required
from offhook_dev.remote_sim import RemoteSim
from offhook_dev.scenario import Scenario
from offhook_dev.simulated import NUMBERS, TWILIO_CREDENTIALS, VONAGE_CREDENTIALS

pytestmark = [pytest.mark.containers]

OBSERVABILITY = REPOSITORY / "docker-compose.observability.yml"
OURS = ("webhook-gateway", "media-bridge", "call-tracker", "number-sync", "recorder")
UNKNOWN_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)")


def compose(path: Path = COMPOSE_FILE) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


# What can be said without running anything.


def test_the_edge_of_the_compose_file_has_todays_routes() -> None:
    assert (REPOSITORY / EDGE_FILE).read_text() == edge_file()


@pytest.mark.parametrize("path", [COMPOSE_FILE, OBSERVABILITY], ids=lambda path: path.name)
def test_compose_files_are_what_the_compose_specification_allows(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_nothing_that_hadolint_objects_to() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, REPOSITORY / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_of_the_compose_files_is_explained_in_env_example() -> None:
    used = {
        name for path in (COMPOSE_FILE, OBSERVABILITY) for name in UNKNOWN_VARIABLE.findall(path.read_text())
    }
    # What the other compose file or an operator sets, and what only the tests do.
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    known = {found[1] for line in lines if (found := re.match(r"([A-Z][A-Z0-9_]*)=", line))}
    assert used - known == set(), "used, but not in .env.example"
    assert known - used - {"COMPOSE_PROFILES"} == set(), "in .env.example, but not used"


@pytest.mark.parametrize("path", [COMPOSE_FILE, OBSERVABILITY], ids=lambda path: path.name)
def test_no_image_is_whatever_is_newest_today(path: Path) -> None:
    for name, service in compose(path)["services"].items():
        image = service.get("image", "")
        if image and not image.startswith("${"):
            assert re.search(r":v?\d+\.\d+\.?\d*", image), f"{name}: {image}"


@pytest.mark.parametrize("path", [COMPOSE_FILE, OBSERVABILITY], ids=lambda path: path.name)
def test_containers_have_no_rights_they_do_not_need(path: Path) -> None:
    for name, service in compose(path)["services"].items():
        if "image" not in service:
            continue  # of the other file
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"privileged", "pid", "ipc", "userns_mode"} & set(service) == set(), name
        assert service.get("read_only") is True or name == "kafka", name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ())), name
        # Nobody else's machine is let in unless somebody says so.
        for port in service.get("ports", ()):
            assert port.startswith(("127.0.0.1:", "${OFFHOOK_HTTP_ADDRESS:-127.0.0.1}:")), f"{name}: {port}"


def test_only_what_has_to_reach_the_outside_is_on_that_network() -> None:
    services = compose()["services"]
    assert compose()["networks"]["inside"] == {"internal": True}
    outside = {name for name, service in services.items() if "outside" in service["networks"]}
    assert outside == {"edge", "media-bridge", "number-sync", "carrier-sim", "tunnel"}


def test_no_service_is_told_a_secret_that_it_does_not_need() -> None:
    services = compose()["services"]
    told = {name: set(services[name]["environment"]) for name in OURS}
    secrets = {
        "OFFHOOK_KEYRING",
        "OFFHOOK_TOKEN_KEY",
        "OFFHOOK_SESSION_KEY",
        "OFFHOOK_API_KEYS",
        "OFFHOOK_DATABASE_URL",
    }
    assert {name: sorted(told[name] & secrets) for name in OURS} == {
        "webhook-gateway": ["OFFHOOK_KEYRING", "OFFHOOK_TOKEN_KEY"],
        "media-bridge": ["OFFHOOK_KEYRING", "OFFHOOK_TOKEN_KEY"],
        "call-tracker": ["OFFHOOK_API_KEYS", "OFFHOOK_DATABASE_URL", "OFFHOOK_SESSION_KEY"],
        "number-sync": ["OFFHOOK_API_KEYS", "OFFHOOK_DATABASE_URL", "OFFHOOK_KEYRING", "OFFHOOK_SESSION_KEY"],
        "recorder": ["OFFHOOK_DATABASE_URL"],
    }


@pytest.mark.parametrize(
    ("lock", "packages"),
    [
        (
            "services",
            (
                "offhook-call-tracker",
                "offhook-media-bridge",
                "offhook-number-sync",
                "offhook-webhook-gateway",
            ),
        ),
        ("simulator", ("carrier-sim", "offhook-agent")),
    ],
)
def test_the_lock_of_an_image_holds_what_its_packages_need_and_nothing_else(
    lock: str, packages: tuple[str, ...]
) -> None:
    locked = _pins(REPOSITORY / "requirements" / f"{lock}.lock")
    everything = _pins(REPOSITORY / "requirements" / "dev.lock")
    assert {name: version for name, version in locked.items() if everything.get(name) != version} == {}
    needed = _closure(packages)
    assert needed - set(locked) == set(), "needed, but not locked"
    # What only another Python or another machine needs is locked, too, and not installed here.
    here = {name for name in locked if _installed(name)}
    assert here - needed == set(), "locked, but not needed"


def test_everything_the_services_import_is_a_dependency_they_declare() -> None:
    """An import that only a developer's environment satisfies ends the container at its start."""
    owners = importlib.metadata.packages_distributions()
    own = {path.name for path in REPOSITORY.glob("*/*/src/*")}
    undeclared = set()
    for folder in REPOSITORY.glob("services/*/src"):
        name = tomllib.loads((folder.parent / "pyproject.toml").read_text())["project"]["name"]
        needed = _closure((name,))
        for path in folder.rglob("*.py"):
            for module in _imported(path):
                if module in sys.stdlib_module_names or module in own:
                    continue
                if not {_normal(owner) for owner in owners.get(module, ())} & needed:
                    undeclared.add(f"{path.relative_to(REPOSITORY)}: {module}")
    assert undeclared == set()


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    script = REPOSITORY / "deploy/compose/make-env.sh"
    target = tmp_path / ".env"
    done = subprocess.run([script, target], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made = target.read_text()
    assert target.stat().st_mode & 0o077 == 0
    assert re.findall(r"^(?!#)\w*(?:KEY|KEYRING|KEYS|PASSWORD)=$", made, re.M) == []
    again = subprocess.run([script, target], capture_output=True, text=True, timeout=60)
    assert again.returncode == 1
    assert target.read_text() == made


def test_grafana_finds_its_way_between_traces_logs_metrics_and_calls() -> None:
    provisioned = compose(REPOSITORY / "deploy/grafana/provisioning/datasources/offhook.yaml")["datasources"]
    by_uid = {source["uid"]: source["jsonData"] for source in provisioned}
    assert by_uid["prometheus"]["exemplarTraceIdDestinations"][0]["datasourceUid"] == "tempo"
    assert by_uid["tempo"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    fields = {field["name"]: field for field in by_uid["loki"]["derivedFields"]}
    assert fields["trace"]["datasourceUid"] == "tempo"
    assert "/calls/" in fields["call"]["url"]
    mounted = compose(OBSERVABILITY)["services"]["grafana"]["volumes"]
    for volume in mounted[:2]:
        assert (REPOSITORY / volume.split(":")[0]).is_dir()


@pytest.mark.real
def test_prometheus_and_alertmanager_accept_their_files(tmp_path: Path) -> None:
    folder = REPOSITORY / "deploy/compose/observability"
    # Where the container has its rules, this machine has nothing.
    rules = str(REPOSITORY / "deploy/prometheus")
    config = (folder / "prometheus.yaml").read_text().replace("/etc/prometheus/rules", rules)
    (tmp_path / "prometheus.yaml").write_text(config)
    assert "SUCCESS" in run_tool("promtool", "check", "config", str(tmp_path / "prometheus.yaml"))
    assert "SUCCESS" in run_tool("amtool", "check-config", str(folder / "alertmanager.yaml"))


def test_every_process_is_scraped_under_its_name() -> None:
    scraped = compose(REPOSITORY / "deploy/compose/observability/prometheus.yaml")["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    ports = dict.fromkeys(OURS, 8080) | {"media-bridge": 8081}
    assert targets == {name: [f"{name}:{port}"] for name, port in ports.items()}


# What is run.


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = Engine()
    try:
        made.project_images()
        stand_ins.build(made)
    except DevError as error:
        if real_is_required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    return made


@pytest.fixture
async def stack(engine: Engine, tmp_path: Path) -> AsyncIterator[ComposeStack]:
    async with ComposeStack(engine, tmp_path / "compose") as running:
        yield running


def _run(
    engine: Engine, image: str, *command: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """A container with as few rights as in the compose file, until it ends."""
    hardened = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=none")
    return engine.podman("run", "--rm", *hardened, *options, image, *command, check=False)


@pytest.mark.real
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("image", [SERVICES_IMAGE, SIMULATOR_IMAGE])
def test_images_run_as_nobody_special_and_hold_no_tools(engine: Engine, image: str) -> None:
    look = "import os, shutil, sys; print(os.getuid(), os.getgid(), [t for t in sys.argv[1:] if shutil.which(t)])"
    tools = ("pip", "pip3", "uv", "gcc", "cc", "make", "curl", "wget", "git")
    looked = _run(engine, image, "-c", look, *tools, options=("--entrypoint=/opt/offhook/bin/python",))
    assert looked.stdout.strip() == "10001 10001 []", looked.stderr
    pip = _run(engine, image, "-m", "pip", "--version", options=("--entrypoint=/opt/offhook/bin/python",))
    assert "No module named pip" in pip.stderr
    write = "open('/opt/offhook/there', 'w')"
    wrote = _run(engine, image, "-c", write, options=("--entrypoint=/opt/offhook/bin/python",))
    assert "Read-only file system" in wrote.stderr
    labels = json.loads(engine.podman("inspect", "--format", "{{json .Config.Labels}}", image).stdout)
    assert {
        f"org.opencontainers.image.{name}" for name in ("title", "description", "version", "revision")
    } <= set(labels)


@pytest.mark.real
def test_a_service_without_its_secrets_says_which_in_a_sentence_each(engine: Engine) -> None:
    done = _run(engine, SERVICES_IMAGE, "webhook_gateway")
    assert done.returncode == 2
    assert [line.split(" ")[0] for line in done.stderr.splitlines() if line.startswith("OFFHOOK_")] == [
        "OFFHOOK_KEYRING",
        "OFFHOOK_TOKEN_KEY",
    ]


@pytest.mark.real
@pytest.mark.timeout(900)
async def test_the_compose_file_brings_up_a_system_that_takes_the_demos_four_calls(
    stack: ComposeStack,
) -> None:
    async with RemoteSim(f"http://127.0.0.1:{stack.simulator_port}") as sim:
        scenario = Scenario(stack, sim)
        key = await sim.new_key(VONAGE_CREDENTIALS["application_id"])
        await scenario.set_up(
            {"twilio": dict(TWILIO_CREDENTIALS), "vonage": VONAGE_CREDENTIALS | {"private_key": key}}
        )
        await _numbers_in_sync(scenario)
        await scenario.run(lambda: None, timeout_s=90)
    report = {f"{call.provider} {call.direction}": call.as_report() for call in scenario.calls}
    print(json.dumps(report, indent=1))
    assert {name: call["problems"] for name, call in report.items()} == {name: [] for name in report}

    # The one-shot step has ended well, and whoever asks again changes nothing.
    assert stack.state("prepare")["State"]["ExitCode"] == 0
    for name in OURS:
        state = stack.state(name)
        assert state["HostConfig"]["ReadonlyRootfs"] is True
        assert state["EffectiveCaps"] in (None, [])
    await _ends_in_order(stack)


async def _numbers_in_sync(scenario: Scenario) -> None:
    """number-sync writes the webhooks into both numbers by itself; a call before that would reach nobody."""
    async with asyncio.timeout(90):
        for configuration in scenario.configurations.values():
            path = f"/telephony-configurations/{configuration}/phone-numbers"
            while True:
                (number,) = (await scenario.api.get(path))["phone_numbers"]
                if number["sync"]["state"] == "synced":
                    break
                await asyncio.sleep(0.2)
    assert len(scenario.configurations) == len(NUMBERS)


async def _ends_in_order(stack: ComposeStack) -> None:
    """SIGTERM reaches the process itself, which ends with 0."""
    await asyncio.to_thread(stack.compose, "stop", "--timeout", "30", *OURS)
    codes = {name: stack.state(name)["State"]["ExitCode"] for name in OURS}
    assert codes == dict.fromkeys(OURS, 0)


def _imported(path: Path) -> set[str]:
    """The packages that are imported when the module is: what a function or a check of types imports is its own affair."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _pins(path: Path) -> dict[str, str]:
    """Name and version of each line."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", path.read_text(), re.M))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _closure(packages: tuple[str, ...]) -> set[str]:
    """All that these packages of ours need on this machine, without our own: by their project files, and by what the others'
    metadata says."""
    ours = _projects()
    found: set[tuple[str, str]] = set()
    waiting = [(name, "") for name in packages]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for text in _asked(ours[name], extra) if name in ours else importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = _normal(requirement.name)
                waiting += [(needed, ""), *((needed, one) for one in requirement.extras)]
    return {name for name, _ in found} - set(ours)


def _projects() -> dict[str, dict[str, Any]]:
    files = (*REPOSITORY.glob("libs/*/pyproject.toml"), *REPOSITORY.glob("services/*/pyproject.toml"))
    projects = [tomllib.loads(path.read_text())["project"] for path in files]
    return {project["name"]: project for project in projects}


def _asked(project: dict[str, Any], extra: str) -> list[str]:
    asked: list[str] = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return asked
