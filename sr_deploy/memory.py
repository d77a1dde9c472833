"""How much memory this process may still take.

The least of what the machine has available (MemAvailable), what the control groups of this process leave, and the limit on its
address space.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SHARE = 0.9  # of what is available; other programs go on living
UNLIMITED = 2**60  # control groups of version 1 give nearly 2**63 where there is no limit


def available_bytes(system: Path = Path("/")) -> int:
    """Return the bytes that this process may still take.

    Args:
        system: where ``proc`` and ``sys`` lie.
    """
    found = [SHARE * left for left in (*_machine(system), *_groups(system), *_address_space(system))]
    return int(min(found, default=UNLIMITED))


def _machine(system: Path) -> Iterator[int]:
    with suppress(OSError, ValueError):
        for line in (system / "proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _address_space(system: Path) -> Iterator[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit not in (resource.RLIM_INFINITY, -1):
        with suppress(OSError, ValueError):
            pages = int((system / "proc/self/statm").read_text("ascii").split()[0])
            yield max(limit - pages * resource.getpagesize(), 0)


def _groups(system: Path) -> Iterator[int]:
    """Yield what each control group leaves that this process is in, from its own up to the root."""
    with suppress(OSError):
        for line in (system / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers == "":
                root, names = system / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                root = system / "sys/fs/cgroup/memory"
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            else:
                continue
            # In a container the path is the host's, and what is mounted is the container's own group.
            for folder in {root, *(root / part for part in _upwards(place))}:
                yield from _left(folder, *names)


def _upwards(place: str) -> list[str]:
    parts = place.strip("/").split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _left(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> Iterator[int]:
    with suppress(OSError, ValueError):
        limit = int((folder / limit_name).read_text("ascii"))  # "max" is no limit
        usage = int((folder / usage_name).read_text("ascii"))
        lines = (folder / "memory.stat").read_text("ascii").splitlines()
        cache = next((int(line.split()[1]) for line in lines if line.split()[0] == cache_name), 0)
        if limit < UNLIMITED:
            yield max(limit - usage + cache, 0)  # cached files make room when it is needed
