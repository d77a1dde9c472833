"""Memory that a process may still take: of the machine, of its control groups, of its address space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sr_deploy.memory import SHARE, available_bytes

GIB = 2**30


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """Make the files of a system with 8 GiB available."""
    files = {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n", "proc/self/cgroup": groups, **files}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_without_limits_the_machine_decides(tmp_path: Path) -> None:
    assert available_bytes(machine(tmp_path, "0::/\n", {})) == int(SHARE * 8 * GIB)


def test_a_limit_of_a_group_above_counts(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/user.slice/memory."
    files = {f"{group}max": str(3 * GIB), f"{group}current": str(2 * GIB), f"{group}stat": f"anon 5\ninactive_file {GIB}\n"}
    files["sys/fs/cgroup/user.slice/job/memory.max"] = "max"
    assert available_bytes(machine(tmp_path, "0::/user.slice/job\n", files)) == int(SHARE * 2 * GIB)


def test_limits_of_the_first_version_of_control_groups_count(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/"
    files = {f"{group}memory.limit_in_bytes": str(3 * GIB), f"{group}memory.usage_in_bytes": str(GIB)}
    files[f"{group}memory.stat"] = "total_inactive_file 0\n"
    assert available_bytes(machine(tmp_path, "9:name=systemd:/\n4:memory:/host/path\n", files)) == int(SHARE * 2 * GIB)
    files[f"{group}memory.limit_in_bytes"] = str(2**63 - 4096)  # none
    assert available_bytes(machine(tmp_path, "4:memory:/host/path\n", files)) == int(SHARE * 8 * GIB)


def test_a_limit_on_the_address_space_counts() -> None:
    script = (
        "import resource; from sr_deploy.memory import available_bytes;"
        f"resource.setrlimit(resource.RLIMIT_AS, ({2 * GIB}, -1)); print(available_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert 0 < int(done.stdout) < 2 * GIB
