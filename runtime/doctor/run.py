"""What ``sr-doctor`` does once its arguments are read: every finding is tried, not guessed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sr_deploy import __version__
from sr_deploy.console import failed
from sr_deploy.errors import InputError, SrDeployError
from sr_deploy.files import cache_folder, check_reports, write_text
from sr_deploy.picture_kinds import reads_avif, writes_avif
from sr_deploy.runtime.backends.engine import CPU
from sr_deploy.runtime.pictures.libvips import libvips
from sr_deploy.strict_json import json_text

LEAST_PYTHON = (3, 10)
WIDEST = 100  # columns of the report, fewer in a narrower terminal
INDENT = 20  # longer than every ``Finding.what``
PACKAGES = {
    "train": ("torch", "lightning", "safetensors", "tensorboard"),
    "compress": ("nni",),
    "export": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "hdf5": ("h5py",),
    "charts": ("matplotlib",),
    "video": ("av",),
    "metrics": ("torchmetrics", "torchvision", "torch_fidelity"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    found: str
    mend: str = ""  # the command that gets what is missing; empty: nothing is missing

    @property
    def good(self) -> bool:
        """Whether nothing is missing."""
        return not self.mend


@dataclass(frozen=True)
class DoctorOptions:
    """What is asked of this machine."""

    need: tuple[str, ...] = ()  # keys of ``PROBES`` that have to be usable
    json: Path | None = None  # a file that gets the findings, too; ``-``: they are printed as JSON instead

    def __post_init__(self) -> None:
        """Raise ``InputError`` where something is needed that is not looked for."""
        for name in self.need:
            if name not in PROBES:
                raise InputError(f"need={name!r}: not one of {', '.join(PROBES)}; name one of them")


def doctor(options: DoctorOptions) -> int:
    """Print what was found and return the exit code: 1 if something that is needed is not usable."""
    to_output = str(options.json) == "-"
    check_reports({"--json": None if to_output else options.json}, [])
    findings = {name: probe() for name, probe in PROBES.items()}
    text = json_text({name: asdict(finding) for name, finding in findings.items()})
    shown = text.rstrip() if to_output else report(findings.values(), min(shutil.get_terminal_size((WIDEST, 0)).columns, WIDEST))
    print(shown)
    if options.json is not None and not to_output:
        write_text(options.json, text)
    code = 0
    for name in options.need:
        if not findings[name].good:
            code = failed("sr-doctor", f"{name} is not usable here: {findings[name].found}; {findings[name].mend}", 1)
    return code


def report(findings: Iterable[Finding], columns: int) -> str:
    """Return the findings as lines of at most ``columns`` characters; below what is missing stands what gets it."""
    lines = []
    for finding in findings:
        indent = " " * INDENT
        for first, text in ((finding.what.ljust(INDENT), finding.found), (f"{indent}-> ", finding.mend)):
            later = " " * len(first)
            lines += textwrap.wrap(text, columns, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)
    return "\n".join(lines)


def python() -> Finding:
    """Return whether the interpreter is new enough."""
    version = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    mend = "" if sys.version_info >= LEAST_PYTHON else "install Python 3.10 or later"
    return Finding("sr-deploy", f"{__version__}, {version}", mend)


def libvips_found() -> Finding:
    """Return whether deep and large pictures can be read and written."""
    try:
        vips = libvips()
    except SrDeployError as err:
        reason, _, mend = str(err).partition("; ")
        return Finding("libvips", reason, mend)
    return Finding("libvips", f"{'.'.join(str(vips.version(place)) for place in range(3))}, pyvips {vips.__version__}")


def onnxruntime(provider: str, extra: str) -> Finding:
    """Return whether ONNX Runtime is here and has a provider."""
    what = f"ONNX Runtime, {'CPU' if extra == 'cpu' else 'CUDA'}"
    try:
        ort = importlib.import_module("onnxruntime")
        offered = ort.get_available_providers()
    except (ImportError, AttributeError) as err:
        return Finding(what, f"not installed ({_words(err)})", f"pip install 'sr-deploy[{extra}]'")
    if provider in offered:
        return Finding(what, f"{ort.__version__}, {provider}")
    mend = f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'sr-deploy[{extra}]'"  # they overwrite each other
    return Finding(what, f"{ort.__version__} offers {', '.join(offered)}", mend)


def tensorrt() -> Finding:
    """Return whether plans can be built and run here."""
    from sr_deploy.runtime.backends.cuda import INSTALL, Cuda
    from sr_deploy.runtime.backends.tensorrt_library import tensorrt_module

    try:
        version = tensorrt_module().__version__
    except SrDeployError as err:
        return Finding("TensorRT", str(err).split(";")[0], f"{INSTALL}; elsewhere, use the .onnx engines")
    try:
        cuda = Cuda()
        return Finding("TensorRT", f"{version}, bindings for CUDA {cuda.version()}, driver for CUDA {cuda.driver_version()}")
    except SrDeployError as err:
        return Finding("TensorRT", f"{version}, but {str(err).split(';')[0]}", "nvidia-smi must work; or use the .onnx engines")


def gpu() -> Finding:
    """Return which GPU is here and what it has free."""
    from sr_deploy.runtime.backends.cuda import Cuda

    try:
        device = Cuda().device()
    except SrDeployError as err:
        reason, _, mend = str(err).partition("; ")
        return Finding("GPU", reason, mend)
    free, total = (n / 2**30 for n in (device.free_bytes, device.total_bytes))
    return Finding("GPU", f"{device.name}, compute capability {device.capability}, {free:.1f} of {total:.1f} GiB free")


def packages(extra: str) -> Finding:
    """Return whether an extra's packages can be found."""
    missing = [name for name in PACKAGES[extra] if importlib.util.find_spec(name) is None]
    names = {
        "train": "training",
        "compress": "pruning",
        "hdf5": "HDF5 training files",
        "charts": "charts",
        "video": "videos",
        "metrics": "LPIPS and FID",
    }
    what = names.get(extra, extra)
    if not missing:
        return Finding(what, ", ".join(PACKAGES[extra]))
    note = "; the same masks come without it" if extra == "compress" else ""
    extras = f"{extra},cpu" if "onnxruntime" in missing else extra
    return Finding(what, f"without {', '.join(missing)}{note}", f"pip install 'sr-deploy[{extras}]'")


def avif() -> Finding:
    """Return whether Pillow reads and writes AVIF."""
    release = importlib.import_module("PIL").__version__
    found = "read and written" if writes_avif() else "read, not written" if reads_avif() else "not read"
    return Finding("AVIF pictures", f"Pillow {release}, {found}", "" if writes_avif() else "pip install -U Pillow")


def cache() -> Finding:
    """Return whether the folder of measured kernels can be written."""
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if os.access(existing, os.W_OK):
        return Finding("cache", str(folder))
    return Finding("cache", f"{folder} cannot be written", "set XDG_CACHE_HOME to a folder of yours")


PROBES: dict[str, Callable[[], Finding]] = {
    "python": python,
    "cpu": lambda: onnxruntime(CPU, "cpu"),
    "cuda": lambda: onnxruntime("CUDAExecutionProvider", "cuda"),
    "tensorrt": tensorrt,
    "gpu": gpu,
    "libvips": libvips_found,
    "train": lambda: packages("train"),
    "compress": lambda: packages("compress"),
    "export": lambda: packages("export"),
    "hdf5": lambda: packages("hdf5"),
    "charts": lambda: packages("charts"),
    "video": lambda: packages("video"),
    "metrics": lambda: packages("metrics"),
    "avif": avif,
    "cache": cache,
}


def _words(err: Exception) -> str:
    return " ".join(str(err).split())
