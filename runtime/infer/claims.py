"""Claims on pictures, so that any number of runs on any number of machines share a folder of results.

A run claims a result just before it makes it: a small hidden file beside the result, created exclusively, that names host,
process and a random number. It is touched every 30 seconds and removed when the result is there. A claim is dead when its process
is gone, which a run on the same host knows, or when it was not touched for 5 minutes by the clock of the file server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from sr_deploy.temporary_files import new_temporary

TOUCH_S = 30.0
DEAD_S = 300.0
NAME = re.compile(r"\.sr-[0-9a-f]{24}\.claim")
ASIDE = re.compile(r"\.sr-[0-9a-f]{24}\.[0-9a-f]{8}")  # what a run left that was killed while it removed a claim


@dataclass(frozen=True)
class Claim:
    """Who makes a result."""

    host: str  # its name; and of Linux the boot and the space of process numbers, which a container has of its own
    space: str
    process: int
    began: str  # when the process began, as the system counts: numbers of processes are used again
    id: str

    def __str__(self) -> str:
        """The words for a message."""
        return f"process {self.process} on {self.host}"


UNKNOWN = Claim("an unknown host", "", 0, "", "")  # whose claim is being written


def claim_of_this_process() -> Claim:
    """Return a new claim."""
    return Claim(socket.gethostname(), _space(), os.getpid(), _began(os.getpid()), secrets.token_hex(8))


class Claims:
    """The claims that a run holds; a thread touches them."""

    def __init__(self) -> None:
        self._own = claim_of_this_process()
        self._held: set[Path] = set()
        self._made: list[Path] = []  # folders, the outer ones first
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> Claims:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        for path in list(self._held):
            self._remove(path)
        for folder in reversed(self._made):  # where no result came of the picture
            with contextlib.suppress(OSError):
                folder.rmdir()

    def take(self, output: Path) -> Claim | None:
        """Claim a result; return the living claim of another run where it has one.

        Where the folder takes no such file nothing is claimed, and what is wrong with it is told when the result is written.
        """
        path = place_of(output)
        with contextlib.suppress(OSError):
            self._make(path.parent)
            while not self._create(path):
                other = read_claim(path)
                if not is_dead(path, other):
                    return other or UNKNOWN
                set_aside(path, other)
        return None

    def release(self, output: Path) -> None:
        """Give up a claim, where it is held."""
        path = place_of(output)
        if path in self._held:
            self._remove(path)

    def _make(self, folder: Path) -> None:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._made += reversed(missing)

    def _create(self, path: Path) -> bool:
        """Return whether nobody else has the claim, and it is held from now on."""
        try:
            stream = path.open("x", encoding="utf-8")
        except FileExistsError:
            return False
        try:
            with stream:
                json.dump(asdict(self._own), stream)
        except BaseException:  # the disk is full, or a signal: an empty claim would live for minutes
            path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._held.add(path)
        return True

    def _remove(self, path: Path) -> None:
        with self._lock:
            self._held.discard(path)
        with contextlib.suppress(OSError):
            if read_claim(path) == self._own:  # it may have been taken for dead, and be another's now
                path.unlink()

    def _touch(self) -> None:
        while not self._ended.wait(TOUCH_S):
            with self._lock:
                held = list(self._held)
            for path in held:
                with contextlib.suppress(OSError):
                    os.utime(path)


def place_of(output: Path) -> Path:
    """Return the claim's file of a result: beside it, of a length that every file system takes."""
    return output.parent / f".sr-{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:24]}.claim"


def read_claim(path: Path) -> Claim | None:
    """Return a claim, or ``None`` where the file is gone or holds none."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return Claim(str(found["host"]), str(found["space"]), int(found["process"]), str(found["began"]), str(found["id"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_dead(path: Path, claim: Claim | None) -> bool:
    """Return whether nobody works under a claim any more; of one that cannot be read, as it is not written yet, time decides.

    Raises:
        OSError: its folder cannot be written.
    """
    own = claim_of_this_process()
    if claim is not None and (claim.host, claim.space) == (own.host, own.space):
        began = _began(claim.process)
        if began or _is_gone(claim.process):
            return began != claim.began
    try:
        return age_s(path) > DEAD_S
    except FileNotFoundError:
        return True


def age_s(path: Path) -> float:
    """Return how long ago a file was touched by the clock of the file server, as a file made beside it has it.

    Raises:
        OSError: the folder cannot be written, or the file is gone.
    """
    now, handle = new_temporary(path.parent, "")  # locked: no run that begins takes it for a leftover
    try:
        return os.fstat(handle).st_mtime - path.stat().st_mtime
    finally:
        now.unlink(missing_ok=True)
        os.close(handle)


def set_aside(path: Path, dead: Claim | None) -> None:
    """Remove a dead claim, and no other that took its place meanwhile."""
    aside = path.with_suffix(f".{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    try:
        if read_claim(aside) != dead:
            with contextlib.suppress(OSError):
                os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def remove_dead(folder: Path) -> None:
    """Remove the claims in a folder whose runs are gone. Nothing is raised."""
    with contextlib.suppress(OSError):
        for path in [Path(entry.path) for entry in os.scandir(folder) if NAME.fullmatch(entry.name)]:
            claim = read_claim(path)
            if is_dead(path, claim):
                set_aside(path, claim)
        for path in [Path(entry.path) for entry in os.scandir(folder) if ASIDE.fullmatch(entry.name)]:
            if age_s(path) > DEAD_S:
                path.unlink(missing_ok=True)


def _is_gone(process: int) -> bool:
    """Return whether no process has this number; one of another user may be hidden in ``/proc``, but not from signals."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _began(process: int) -> str:
    """Return when a process began, in the system's own count; of one that is gone or hidden nothing."""
    try:
        return Path(f"/proc/{process}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _space() -> str:
    """Return what tells the process numbers of this host from those of another start of it, and of a container."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip() + str(Path("/proc/self/ns/pid").readlink())
    return secrets.token_hex(8)  # no such knowledge here: only the time decides
