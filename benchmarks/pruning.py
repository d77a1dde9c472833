"""What pruning costs in quality: criteria, teachers, rounds, what each layer gives, at equal steps and equal multiplications.

``python benchmarks/pruning.py TRAIN_DIR... --val DIR [--network FILE] [--steps 2000] [--sparsity 0.5] [--only none both]``

Each row is one run of ``sr-prune`` with the same pictures, steps and seed. The share of multiplications of ``--target-macs``
is the one that the uniform sparsity leaves, so all rows cost the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sr_deploy.console import run, table
from sr_deploy.files import write_text
from sr_deploy.options import natural_int, positive_int
from sr_deploy.runtime.bench.machine import machine

ROOT = Path(__file__).resolve().parent.parent
NOT_SOLVED = ("--reconstruct", "0")
ROWS: dict[str, tuple[str, ...]] = {
    "none": NOT_SOLVED,
    "output": ("--distill", "output", *NOT_SOLVED),
    "features": ("--distill", "features", *NOT_SOLVED),
    "both": ("--distill", "both", *NOT_SOLVED),
    "rounds 2": ("--rounds", "2", *NOT_SOLVED),
    "rounds 2, both": ("--rounds", "2", "--distill", "both", *NOT_SOLVED),
    "target-macs": ("--target-macs", "SHARE", *NOT_SOLVED),
    "target-macs, both": ("--target-macs", "SHARE", "--distill", "both", *NOT_SOLVED),
    "taylor": ("--criterion", "taylor", *NOT_SOLVED),
    "taylor, both": ("--criterion", "taylor", "--distill", "both", *NOT_SOLVED),
    "taylor, target-macs": ("--criterion", "taylor", "--target-macs", "SHARE", *NOT_SOLVED),
    "reconstruct": (),
    "taylor, reconstruct": ("--criterion", "taylor"),
    "activation, reconstruct": ("--criterion", "activation"),
    "activation, reconstruct, both": ("--criterion", "activation", "--distill", "both"),
}

Result = dict[str, object]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data", type=Path, nargs="+", help="folders of pictures to fine-tune on")
    p.add_argument("--val", type=Path, required=True, help="pictures whose PSNR is measured")
    p.add_argument("--network", type=Path, default=ROOT / "train/pretrained/vdsr.safetensors", help="default: %(default)s")
    p.add_argument("--steps", type=positive_int, default=2000, help="of fine-tuning, in each row (default: %(default)s)")
    p.add_argument("--sparsity", type=float, default=0.5, help="default: %(default)s")
    p.add_argument("--batch-size", type=positive_int, default=16, help="default: %(default)s")
    p.add_argument("--seed", type=natural_int, default=0, help="default: %(default)s")
    p.add_argument("--device", default="auto", help="default: %(default)s")
    p.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="rows to measure (default: all)")
    p.add_argument("--output", type=Path, default=ROOT / "benchmarks/pruning.json", help="default: %(default)s")
    return p


def sr_prune(words: Sequence[object]) -> None:
    """Run it; a network that is no longer above bicubic, exit code 1, is a row like others."""
    command = ["sr-prune", *map(str, words)]
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    if code not in (0, 1):
        raise subprocess.CalledProcessError(code, command)


def pruned(arguments: argparse.Namespace, options: Sequence[str], folder: Path) -> Result:
    """Return what ``sr-prune`` writes of one run."""
    amount = () if "--target-macs" in options else ("--sparsity", str(arguments.sparsity))
    tuning = ("--data", *arguments.data, "--finetune-steps", arguments.steps, "--batch-size", arguments.batch_size)
    places = ("-o", folder / "small.safetensors", "--json", folder / "table.json", "--val", arguments.val, "--overwrite")
    machine_options = ("--seed", arguments.seed, "--device", arguments.device, "--cache", folder / "cache")
    words = [arguments.network, *places, *amount, *tuning, *machine_options, *options]
    sr_prune(words)
    found: Result = json.loads((folder / "table.json").read_text("utf-8"))
    return found


def share_of(arguments: argparse.Namespace, folder: Path) -> float:
    """Return the share of the multiplications that the uniform sparsity leaves."""
    words = [arguments.network, "-o", folder / "small.safetensors", "--json", folder / "table.json", "--overwrite"]
    sr_prune([*words, "--sparsity", arguments.sparsity, *NOT_SOLVED])
    dense, small = json.loads((folder / "table.json").read_text("utf-8"))["results"]
    return float(small["macs"]) / float(dense["macs"])


def row_of(name: str, result: Result) -> list[str]:
    """Return one line of the table: multiplications that are left, and PSNR before and after fine-tuning."""
    results = result["results"]
    assert isinstance(results, list)
    dense, before, after = results[0], results[-2], results[-1]
    left = f"{100.0 * after['macs'] / dense['macs']:.2f} %"
    return [name, left, *(f"{before['psnr_db'][scale]:.3f} -> {psnr:.3f}" for scale, psnr in after["psnr_db"].items())]


def main() -> int:
    """Measure, print the table, write the JSON."""
    arguments = parser().parse_args()
    found: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        share = share_of(arguments, folder)
        for label in arguments.only:
            options = [f"{share:.6f}" if word == "SHARE" else word for word in ROWS[label]]
            found[label] = pruned(arguments, options, folder)
            print(*row_of(label, found[label]), file=sys.stderr, flush=True)
    scales = list(next(iter(found.values()))["results"][0]["psnr_db"])  # type: ignore[index]
    heading = [f"{arguments.network.stem}, {arguments.steps} steps", "MACs left", *(f"PSNR x{scale}" for scale in scales)]
    print(table([heading, *(row_of(label, result) for label, result in found.items())], markdown=True))
    settings = {"network": arguments.network.name, "steps": arguments.steps, "sparsity": arguments.sparsity}
    settings |= {"batch_size": arguments.batch_size, "seed": arguments.seed, "val": arguments.val.name}
    settings["data"] = [folder.name for folder in arguments.data]
    report = {"machine": machine(), **settings, "results": found}
    write_text(arguments.output, json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run("pruning.py", main))
