"""Names and arities of TensorRT's Python bindings, release by release, from their full listing.

The full listing of a release is read off the real binding module: every public name, its members, and the first line of
their documentation where that is a signature. Here only what a check needs is kept: for each class its members, for each method
how many arguments it takes. ``python -m tests.tensorrt.compact FULL.json api/VERSION.json``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

KEPT = (
    *("Builder", "BuilderFlag", "DataType", "HardwareCompatibilityLevel", "IBuilderConfig", "ICudaEngine", "IExecutionContext"),
    *("IHostMemory", "IInt8EntropyCalibrator2", "ILayer", "ILogger", "INetworkDefinition", "IOptimizationProfile"),
    *("IProgressMonitor", "ITensor", "ITimingCache", "LayerType", "Logger", "MatrixOperation", "MemoryPoolType"),
    *("NetworkDefinitionCreationFlag",),
    *("OnnxParser", "ParserError", "Runtime", "TensorIOMode", "__version__", "float16", "float32", "int8"),
)

Arity = list[int] | None
"""[least, most] arguments without ``self``, most -1 for any number; ``None``: no method, or not known."""


def arity(signature: str) -> Arity:
    """Return how many arguments a signature line names."""
    if "(" not in signature:
        return None
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    if "*args" in inside:
        return [0, -1]
    depth, parts = 0, [""]
    for character in inside:
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    named = [part for part in parts if part.strip() and not part.strip().startswith(("self", "/"))]
    return [sum("=" not in part for part in named), len(named)]


def main() -> None:
    """Write the compact listing."""
    full = json.loads(Path(sys.argv[1]).read_text())
    found: dict[str, object] = {}
    for name in KEPT:
        value = full.get(name)
        if isinstance(value, dict):
            found[name] = {member: arity(line) if member not in ("name", "value") else None for member, line in value.items()}
        elif value is not None:
            found[name] = value
    Path(sys.argv[2]).write_text(json.dumps(found, sort_keys=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
