"""The whole pipeline from Python: a network is pruned, exported, checked, and enlarges a photograph.

``python examples/pipeline.py [OUT]``, in a checkout; a minute on two CPU cores. It fine-tunes for 20 steps to be short.
"""

import sys
from pathlib import Path

from PIL import Image

from sr_deploy import Upscaler
from sr_deploy.compress import PruneOptions, prune
from sr_deploy.export import ExportOptions, export
from sr_deploy.gate import GateOptions, gate

root = Path(__file__).resolve().parent.parent
out = Path(sys.argv[1] if len(sys.argv) > 1 else "build/example")
photographs = root / "calib_data" / "calibrate"
dense = root / "train" / "pretrained" / "plain_m_x2.safetensors"

smaller = out / "plain_m_x2_pruned.safetensors"
pruned = prune(dense, PruneOptions(output=smaller, data=(photographs,), finetune_steps=20, batch_size=4, overwrite=True))
graphs = export(pruned.checkpoint, ExportOptions(out, precisions=("fp32", "int8"), calib_tiles=8)).graphs
verdict = gate([graphs["int8"]], GateOptions(reference=pruned.checkpoint, data=root / "tests" / "pictures"))
with Upscaler(graphs["int8"]) as upscaler:
    upscaler.upscale(Image.open(root / "tests" / "pictures" / "coffee.png")).save(out / "coffee_x2.png")

print(*(f"{row.stage}: {row.weights} weights" for row in pruned.rows), sep=", ")
print(f"int8: {verdict.results[0].drop_db:.3f} dB below fp32; {'passed' if verdict.passed else verdict.failures[0]}")
