"""A PostgreSQL server of its own in a temporary folder, where its binaries are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

PASSWORD = "geh/eim@1"


class PostgresServer:
    """A server that listens on this machine alone.

    Args:
        binaries: Folder of initdb and pg_ctl.
        folder: Its own, which `user` may write into.
        user: Who runs it; it refuses to be run by root.
    """

    def __init__(self, binaries: Path, folder: Path, user: str | None) -> None:
        self.binaries, self.folder, self.user = binaries, folder, user
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        if user is not None:
            shutil.chown(secret, user)
        self._run("initdb", "-U", "tester", "-A", "scram-sha-256", "--pwfile", str(secret), "-N", "-D", self._data)
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def new_database(self, name: str) -> str:
        """The address of a new, empty database."""
        import sqlalchemy

        password = PASSWORD.replace("/", "%2F").replace("@", "%40")
        address = f"postgresql://tester:{password}@127.0.0.1:{self.port}/"
        engine = sqlalchemy.create_engine(
            address.replace("postgresql:", "postgresql+psycopg:") + "postgres", isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return address + name

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self.binaries / program), *arguments]
        done = subprocess.run(
            command, user=self.user, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; the test is skipped where there is none to run, or the extra is missing."""
    for name in ("sqlalchemy", "psycopg"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    found = [Path(path) for path in (shutil.which("initdb"),) if path]
    found = [path.resolve().parent for path in found] + sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]
    binaries = next((folder for folder in found if (folder / "pg_ctl").exists()), None)
    user = None
    if os.getuid() == 0:
        user = next((entry.pw_name for entry in pwd.getpwall() if entry.pw_name == "postgres"), None)
    if binaries is None or (os.getuid() == 0 and user is None):
        pytest.skip("there is no PostgreSQL server here")
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        if user is not None:
            shutil.chown(name, user)
        server = PostgresServer(binaries, Path(name), user)
        try:
            yield server
        finally:
            server.stop()
