"""PSNR of the engines that ship with sr-deploy: ``make engines`` puts new ones into ``runtime/engines`` with what they measure.

``python benchmarks/shipped_engines.py BUILT [SET5]``: ``BUILT`` holds int8 graphs fresh from ``sr-export``. One that is equal to
the shipped one keeps its figures; one that is new or differs is measured on the pictures in ``SET5``, beside the fp32 graph of
its network through the same tiles. Without ``engines.json`` all are measured. What is not in ``BUILT`` ships no more.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from sr_deploy.console import run
from sr_deploy.errors import InputError
from sr_deploy.files import list_pictures, write_bytes, write_text
from sr_deploy.runtime.backends.onnx_file import read_card
from sr_deploy.runtime.bench.machine import processor
from sr_deploy.runtime.engines.shipped import FOLDER, INDEX, Measured, Shipped, shipped_engines
from sr_deploy.train.weights.checkpoint import read_card as read_checkpoint_card

PRETRAINED = Path(__file__).resolve().parent.parent / "train" / "pretrained"
PROTOCOL = "whole"


def psnr_db(model: Path, scales: tuple[int, ...], data: Path) -> dict[int, float]:
    """Return what ``sr-eval`` says of a model, by scale."""
    command = [sys.executable, "-m", "sr_deploy.gate.eval.command", str(model), "--data", str(data), "--protocol", PROTOCOL]
    command += ["--scale", *map(str, scales), "--json", "-"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["results"]
    return {int(result["scale"]): round(float(result["psnr_db"]), 4) for result in found}


def measured(graph: Path, data: Path) -> Shipped:
    """Return the entry of a new graph.

    Raises:
        InputError: it was not made from the checkpoint in ``train/pretrained``.
    """
    card, content = read_card(graph), graph.read_bytes()
    checkpoint = PRETRAINED / f"{graph.stem.removesuffix('_int8')}.safetensors"
    if read_checkpoint_card(checkpoint).digest != card.parent_digest:
        raise InputError(f"{graph}: was not made from {checkpoint}; export it again with make engines")
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "sr_deploy.export.command", str(checkpoint), "-o", name, "--precision", "fp32"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        fp32_psnr_db = psnr_db(Path(name) / f"{checkpoint.stem}_fp32.onnx", card.scales, data)
    how = Measured(
        data=f"{data.name}: {len(list_pictures(data))} pictures",
        command=f"sr-eval {graph.name} --data {data.name} --scale {' '.join(map(str, card.scales))}",
        protocol=f"luma, {PROTOCOL} pictures, low resolution by bicubic, as many pixels shaved as the scale, exact integer sums",
        reference=f"{checkpoint.name} in fp32, through the same tiles",
        processor=processor(),
        versions={name: version(name) for name in ("onnxruntime", "sr-deploy", "torch")},
    )
    return Shipped(
        name=graph.stem,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        default_scale=card.default_scale,
        enlarges_before=card.upscale == "before",
        psnr_db=psnr_db(graph, card.scales, data),
        fp32_psnr_db=fp32_psnr_db,
        measured=how,
    )


def command() -> int:
    """Bring ``runtime/engines`` up to date and say what was done with each graph."""
    built = sorted(Path(sys.argv[1]).glob("*_int8.onnx"))
    data = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    known = {engine.name: engine for engine in shipped_engines()} if (FOLDER / INDEX).exists() else {}
    for graph in built:
        same = graph.stem in known and known[graph.stem].sha256 == hashlib.sha256(graph.read_bytes()).hexdigest()
        if not same and data is None:
            raise InputError(f"{graph}: is new or differs from the shipped one, so it has to be measured; add SET5=DIR")
        if not same and data is not None:
            known[graph.stem] = measured(graph, data)
        print(f"{graph.name}: {'unchanged' if same else f'measured, {known[graph.stem].psnr_db} dB'}")
    for graph in built:  # once all figures are there
        write_bytes(FOLDER / graph.name, graph.read_bytes())
    for name in known.keys() - {graph.stem for graph in built}:
        (FOLDER / f"{name}.onnx").unlink(missing_ok=True)
        print(f"{name}.onnx: ships no more")
        del known[name]
    entries = [asdict(known[name]) for name in sorted(known)]
    write_text(FOLDER / INDEX, json.dumps({"engines": entries}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run("shipped_engines.py", command))
