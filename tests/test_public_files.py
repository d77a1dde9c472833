"""Weights files in torch's cache: taken, downloaded from a server of the test, or refused in one line."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("torch")

from sr_deploy import public_files
from sr_deploy.errors import MachineError
from sr_deploy.public_files import cached_file

CONTENT = bytes(range(256)) * 8192  # two blocks
NAME = f"small-net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch: the folder its files go to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def server() -> Iterator[str]:
    """A server on this machine that sends CONTENT under every name, and stops after half of it under ``half``."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "missing" in self.path:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            half = "half" in self.path
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if half else CONTENT)
            if half:
                self.wfile.flush()
                stopped.wait(30.0)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        stopped.set()
        found.shutdown()


def test_a_file_in_the_cache_is_taken_without_a_network(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT)
    assert cached_file(f"https://nowhere.invalid/{NAME}", cache.parent) == cache / NAME


def test_a_missing_file_is_downloaded(cache: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cached_file(f"{server}/{NAME}", cache.parent).read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == [NAME]
    found = capsys.readouterr()
    assert found.out == "" and f"downloading {server}/{NAME}" in found.err


def test_a_name_without_digits_is_not_compared(cache: Path, server: str) -> None:
    assert cached_file(f"{server}/plain.pth", cache.parent).read_bytes() == CONTENT


def test_what_is_not_the_file_of_that_name_is_not_kept(cache: Path, server: str) -> None:
    with pytest.raises(MachineError, match=r"net-01234567\.pth is damaged \(its SHA-256 begins with [0-9a-f]{8}\); fetch"):
        cached_file(f"{server}/net-01234567.pth", cache.parent)
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_named(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(MachineError, match=rf"{NAME} is damaged .*; remove {cache / NAME}"):
        cached_file(f"https://nowhere.invalid/{NAME}", cache.parent)


def test_a_refused_connection_says_what_to_fetch_and_where_to_put_it(cache: Path) -> None:
    with socket.socket() as taken:  # bound, but not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/{NAME}"
        with pytest.raises(
            MachineError,
            match=rf"{NAME} cannot be downloaded \(\[Errno \d+\] Connection refused\); fetch {address} and put it into {cache}$",
        ):
            cached_file(address, cache.parent)


def test_an_answer_of_not_found_is_told(cache: Path, server: str) -> None:
    with pytest.raises(MachineError, match="404"):
        cached_file(f"{server}/missing-{NAME}", cache.parent)


def test_a_server_that_never_answers_is_not_waited_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_files, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MachineError, match=r"no answer in 0\.2 s|timed out"):
        cached_file(f"http://127.0.0.1:{silent.getsockname()[1]}/{NAME}", cache.parent)


def test_a_download_that_stops_leaves_nothing(cache: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_files, "ANSWER_S", 0.5)
    with pytest.raises(MachineError, match="broke off"):
        cached_file(f"{server}/half-{NAME}", cache.parent)
    assert list(cache.iterdir()) == []
