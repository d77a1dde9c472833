"""The machine that figures were measured on: its processor and GPU."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": platform.system(),
        **gpu_state(),
    }


def gpu_state() -> dict[str, str]:
    """Return the clocks and temperature of the first GPU, by nvidia-smi; nothing where there is none."""
    fields = ("name", "clocks.sm", "clocks.mem", "temperature.gpu")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    command.append(f"--id={first or 0}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {f"gpu {name}": value.strip() for name, value in zip(fields, done.stdout.split(","), strict=False)}


def processor() -> str:
    """Return the processor's name and the vector extensions that decide how fast int8 is."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", "").split())
    known = [flag for flag in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8") if flag in flags]
    return f"{fields.get('model name', platform.processor())} ({', '.join(known) or 'no vector extensions'})"
