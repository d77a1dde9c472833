"""Fuzzing for a given time: ``python -m tests.fuzz.run --minutes 10 [--target loader|tiler] [--with atheris|hypothesis]``.

With atheris (coverage of Python code guides it) where it is installed, else with hypothesis. What breaks the loader is written
into ``--found`` as a file; where it is small it belongs into ``tests/fuzz/found``, and a test reads it from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sr_deploy.files import write_bytes

TARGETS = ("loader", "tiler")
NUMBERS = struct.Struct("<7H")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description="Fuzz the loader and the tiler for some time.")
    p.add_argument("--minutes", type=float, default=10.0, help="altogether (default: 10)")
    p.add_argument("--target", choices=TARGETS, action="append", help="one of them (default: both, half of the time each)")
    p.add_argument("--with", dest="engine", choices=("atheris", "hypothesis"), help="default: atheris if it is installed")
    p.add_argument("--seed", type=int, default=1, help="of the random choices (default: 1)")
    p.add_argument("--found", type=Path, default=Path("build/fuzz"), help="folder for what breaks (default: build/fuzz)")
    p.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)  # given: this process is atheris' own
    return p


def main(argv: list[str] | None = None) -> int:
    """Fuzz, and return 0 if nothing broke, else 1."""
    arguments = parser().parse_args(argv)
    targets = arguments.target or list(TARGETS)
    engine = arguments.engine or ("atheris" if importlib.util.find_spec("atheris") else "hypothesis")
    if arguments.corpus is not None:
        return run_atheris(targets[0], arguments)
    codes = []
    for target in targets:
        seconds = 60 * arguments.minutes / len(targets)
        run = with_atheris if engine == "atheris" else with_hypothesis
        codes.append(run(target, seconds, arguments))
    return max(codes)


def one(target: str, data: bytes) -> None:
    """Try one input."""
    from tests.fuzz.targets import check_cut, cut_of, load_bytes, with_checksums

    if target == "loader":
        load_bytes(with_checksums(data) if data and data[-1] % 2 else data)
    else:
        check_cut(cut_of(NUMBERS.unpack(data[: NUMBERS.size].ljust(NUMBERS.size, b"\0"))))


def with_atheris(target: str, seconds: float, arguments: argparse.Namespace) -> int:
    """Run atheris in a process of its own, which it ends itself."""
    from tests.fuzz.targets import seeds

    with tempfile.TemporaryDirectory() as corpus:
        if target == "loader":
            for name, content in seeds().items():
                (Path(corpus) / name.replace(";", "")).write_bytes(content)
        arguments.found.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-m", "tests.fuzz.run", "--target", target, "--corpus", corpus, "--seed", str(arguments.seed)]
        line += ["--minutes", str(seconds / 60), "--found", str(arguments.found)]
        return int(subprocess.run(line, check=False).returncode != 0)


def run_atheris(target: str, arguments: argparse.Namespace) -> int:
    """Fuzz in this process until the time is over or something breaks."""
    import atheris

    with atheris.instrument_imports(include=["PIL", "sr_deploy"]):
        from tests.fuzz import targets

    options = [f"-max_total_time={round(60 * arguments.minutes)}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=1500"]
    options += [f"-seed={arguments.seed}", f"-artifact_prefix={arguments.found}/", "-print_final_stats=1", "-verbosity=0"]
    with targets.little_memory():
        atheris.Setup([sys.argv[0], *options, str(arguments.corpus)], lambda data: one(target, data))
        atheris.Fuzz()
    return 0


def with_hypothesis(target: str, seconds: float, arguments: argparse.Namespace) -> int:
    """Draw inputs until the time is over; write down what breaks and go on with other ones."""
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st

    from tests.fuzz.strategies import changed_pictures
    from tests.fuzz.targets import little_memory

    drawn = changed_pictures() if target == "loader" else st.binary(min_size=NUMBERS.size, max_size=NUMBERS.size)
    end, tried, broken, number = time.monotonic() + seconds, [0], 0, arguments.seed
    last = [b""]

    def attempt(data: bytes) -> None:
        tried[0] += 1
        last[0] = data
        one(target, data)

    while time.monotonic() < end:
        some = settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        try:
            with little_memory():
                seed(number)(some(given(data=drawn)(attempt)))()
        except Exception as err:  # whatever it is, it is what was looked for
            broken += 1
            path = arguments.found / f"{target}-{hashlib.sha256(last[0]).hexdigest()[:12]}.bin"
            write_bytes(path, last[0])
            print(f"{target}: {type(err).__name__}: {err}; see {path}", flush=True)
        number += 1
    print(f"{target}: {tried[0]} inputs, {broken} broke it", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
