"""How much memory a picture takes, and how much there is: known before it is decoded.

What may be used is the least of what the machine has available (``MemAvailable``), what the control groups of this process
leave, and the limit on its address space; ``--memory`` replaces all of them.
"""

from __future__ import annotations

import argparse
import re
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
LEAST = 2**26
SHARE = 0.9  # of what is available; other programs go on living
UNLIMITED = 2**60  # control groups of version 1 give nearly 2**63 where there is no limit


def byte_count(text: str) -> int:
    """Return ``2G``, ``1.5GiB``, ``800M`` or a plain number as bytes (units of 1024), for ``type=`` of an argument."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory; write 2G or 800M")
    value = int(float(found[1]) * UNITS[found[2]])
    if value < LEAST:
        raise argparse.ArgumentTypeError(f"{text} is less than {LEAST // 2**20}M, which no picture can do with")
    return value


def in_words(count: float) -> str:
    """Return bytes as people write them: ``1.4 GB`` (of 1024 MB)."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{max(count / 2**20, 1):.0f} MB"


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
