"""Check a wheel and an sdist as somebody would who publishes them: ``check_wheel.py DIST ENVIRONMENT``.

Both must be small and hold nothing but ``sr_deploy``, no checkpoint among it. Then the wheel is installed with the extra
``cpu`` into a new virtual environment, where ``sr-infer`` enlarges a photograph by the default engine, far from the checkout.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "tests" / "pictures" / "coffee.png"
LIMIT_BYTES = 5_000_000
CHECKPOINTS = (".safetensors", ".pt", ".pth")
NEEDED = ("sr_deploy/py.typed", "sr_deploy/gates.toml", "sr_deploy/runtime/engines/engines.json")
READ_SIDES = "import sys; from PIL import Image; print(*(side for path in sys.argv[1:] for side in Image.open(path).size))"


def faults_of_wheel(wheel: Path) -> list[str]:
    """Return what is wrong with the contents of a wheel, a line each."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = sorted({name.partition("/")[0] for name in names})
    strange = [top for top in tops if top != "sr_deploy" and not (top.startswith("sr_deploy-") and top.endswith(".dist-info"))]
    found = [f"{wheel.name}: {top}: not sr_deploy, and at the top level" for top in strange]
    found += [f"{wheel.name}: {name} is missing" for name in NEEDED if name not in names]
    return found + faults_of_both(wheel, names)


def faults_of_sdist(sdist: Path) -> list[str]:
    """Return what is wrong with the contents of an sdist, a line each."""
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    found = [f"{sdist.name}: {name}: tests are of no use without their pictures" for name in names if "/tests/" in name]
    return found + faults_of_both(sdist, names)


def faults_of_both(path: Path, names: list[str]) -> list[str]:
    """Return what neither of the two may be or hold, a line each."""
    found = [f"{path.name}: holds the checkpoint {name}" for name in names if name.endswith(CHECKPOINTS)]
    size = path.stat().st_size
    return [*found, f"{path.name}: {size} bytes, at most {LIMIT_BYTES} are allowed"] if size > LIMIT_BYTES else found


def try_out(wheel: Path, environment: Path) -> list[str]:
    """Install the wheel into a new environment, use it there, and return what went wrong, a line each."""
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment.resolve() / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, f"{wheel.resolve()}[cpu]"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python.with_name("sr-infer"), PICTURE, "-o", "larger.png"], check=True, cwd=folder)
        sides = [python, "-c", READ_SIDES, PICTURE, "larger.png"]
        shown = subprocess.run(sides, check=True, cwd=folder, capture_output=True, text=True).stdout
        named = [python.with_name("sr-eval"), "vdsr_qat", "--data", PICTURE.parent]
        refusal = subprocess.run(named, check=False, cwd=folder, capture_output=True, text=True)
    w, h, larger_w, larger_h = map(int, shown.split())
    found = [] if (larger_w, larger_h) == (2 * w, 2 * h) else [f"sr-infer made {larger_w}x{larger_h} pixels of {w}x{h}"]
    if refusal.returncode == 2 and "train/pretrained of the repository" in refusal.stderr and refusal.stderr.count("\n") == 1:
        return found
    return [*found, f"sr-eval does not say where a checkpoint is: {refusal.returncode}, {refusal.stderr!r}"]


def main() -> int:
    """Check what is in the folder of the first argument and print what is wrong with it."""
    dist, environment = map(Path, sys.argv[1:])
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    found = faults_of_wheel(wheel) + faults_of_sdist(sdist) or try_out(wheel, environment)
    print(*found or [f"{path}: {path.stat().st_size / 1e6:.1f} MB, checked" for path in (wheel, sdist)], sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
