"""Whole photographs through an int8 graph and the fp32 one: the second is run once for each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnxruntime as ort

from sr_deploy.export.accuracy import verification as module
from sr_deploy.export.accuracy.verification import WholePictures
from sr_deploy.export.photographs import Photographs
from sr_deploy.runtime.backends.onnx_engine import open_session
from sr_deploy.runtime.backends.onnx_file import read_card


class Counted:
    """A session that counts how often it runs."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session, self.runs = session, 0

    def run(self, *arguments: object) -> object:
        self.runs += 1
        return self.session.run(*arguments)


@pytest.mark.parametrize("room", [2**28, 0])
def test_the_fp32_graph_runs_once_for_each_photograph(
    room: int, exported: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", room)
    card, photographs = read_card(exported / "tiny_fp32.onnx"), Photographs(photos, "y")
    graph, reference = (
        Counted(open_session(exported / f"tiny_{precision}.onnx", ["CPUExecutionProvider"], 1)) for precision in ("int8", "fp32")
    )
    pictures = WholePictures(photographs, list(photographs.paths), card, (2, 3))
    first = pictures.losses(graph, reference)
    once = reference.runs
    assert pictures.losses(graph, reference) == first and graph.runs == 2 * once > 0
    assert reference.runs == (once if room else 2 * once)
