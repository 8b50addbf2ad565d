"""A real server of the S3 protocol on this machine: S3Proxy over a folder, from the jars that Maven fetches."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from offhook_dev.kafka import java, var
from offhook_dev.maven import jars
from offhook_dev.ports import LOOPBACK
from offhook_dev.servers import Say, Server, say_on_stderr

ACCESS_KEY_ID: Final = "access-key-of-tests"
SECRET_ACCESS_KEY: Final = "secret-key-of-tests"
BUCKET: Final = "recordings"
_RECIPE: Final = Path(__file__).resolve().parents[2] / "s3"
_JAVA_OPTIONS: Final = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_CONFIGURATION: Final = """\
s3proxy.endpoint={url}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={key}
s3proxy.credential={secret}
# Checksums that newer clients send beside the signature.
s3proxy.ignore-unknown-headers=true
jclouds.provider=filesystem-nio2
jclouds.identity=unused
jclouds.credential=unused
jclouds.filesystem.basedir={data}
"""


class S3Server(Server):
    """One server with one empty bucket, `BUCKET`; what it holds survives restarts."""

    name = "s3"

    def __init__(self, directory: Path, *, port: int | None = None, say: Say = say_on_stderr) -> None:
        super().__init__(directory, port=port)
        self._say = say

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @classmethod
    def install(cls, say: Say = say_on_stderr) -> Path:
        """Make sure that Java and the jars are there; returns the jars' directory. Raises `DevError`."""
        java(say)
        return jars(_RECIPE / "pom.xml", var() / "s3", "S3Proxy", say)

    def _prepare(self) -> None:
        self.install(self._say)
        data = self.directory / "data"
        (data / BUCKET).mkdir(parents=True, exist_ok=True)
        configuration = _CONFIGURATION.format(
            url=self.url, key=ACCESS_KEY_ID, secret=SECRET_ACCESS_KEY, data=data
        )
        (self.directory / "s3proxy.properties").write_text(configuration)

    def _command(self) -> Sequence[str]:
        libs = self.install(self._say)
        return [
            java(self._say), *_JAVA_OPTIONS, f"-Dlogback.configurationFile={_RECIPE / 'logback.xml'}",
            "-cp", f"{libs}/*", "org.gaul.s3proxy.Main", "--properties", str(self.directory / "s3proxy.properties"),
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=2) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n\r\n")
                # Without a signature: refused, by somebody who is there.
                return connection.recv(16).startswith(b"HTTP/1.1 ")
        except OSError:
            return False
