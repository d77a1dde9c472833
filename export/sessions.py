"""ONNX Runtime sessions on the CPU for everything that an export computes."""

from __future__ import annotations

import onnx
import onnxruntime as ort

from sr_deploy.export.graphs.reading import digest_of
from sr_deploy.runtime.backends.engine import CPU
from sr_deploy.runtime.backends.onnx_engine import cores, open_session


class Sessions:
    """Opens graphs, all with the same number of threads; they run one after another and share one pool of memory."""

    def __init__(self, threads: int | None = None) -> None:
        """Use ``threads`` CPU threads, all cores by default."""
        self.threads = threads or cores()
        self._kept: dict[str, ort.InferenceSession] = {}

    def open(self, model: onnx.ModelProto, *, exact: bool = False) -> ort.InferenceSession:
        """Return a new session; ``exact`` asks for integer sums that never saturate, whatever the processor.

        Raises:
            InputError: ONNX Runtime cannot read the model.
        """
        return open_session(model.SerializeToString(), [CPU], self.threads, exact=exact, pooled=True)

    def kept(self, model: onnx.ModelProto) -> ort.InferenceSession:
        """Return the session of a graph that is run again and again: one for all equal graphs, exact."""
        digest = digest_of(model)
        if digest not in self._kept:
            self._kept[digest] = self.open(model, exact=True)
        return self._kept[digest]

    def divided(self, parts: int) -> Sessions:
        """Return what opens sessions of which ``parts`` run at once."""
        return Sessions(-(-self.threads // parts))
