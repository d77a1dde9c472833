"""``sr-bench``: what it reports, in which files, and what it refuses; no time is asserted."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sr_deploy.runtime.bench
from sr_deploy.card import ModelCard
from sr_deploy.errors import InputError
from sr_deploy.measure import EQUAL_DB, bicubic, score
from sr_deploy.planes import read_luma
from sr_deploy.progress import Step
from sr_deploy.runtime.backends.engine import Engine, Gpu, Tiles, WrappedEngine
from sr_deploy.runtime.bench import BenchOptions, compare, peak, timing
from sr_deploy.runtime.bench import run as bench
from sr_deploy.runtime.bench.command import main
from sr_deploy.runtime.bench.peak import cpu_peak_tops, measure_peaks, with_shares
from sr_deploy.runtime.bench.table import Row, best_batches, cells_of, footnotes, points_of, row
from sr_deploy.runtime.bench.timing import best_per_tile, comparison, interleaved_ms, per_megapixel, warm_up


@pytest.fixture
def data(tmp_path: Path, pictures: Path) -> Path:
    """Return a folder with a part of a photograph."""
    (tmp_path / "data").mkdir()
    with Image.open(pictures / "coffee.png") as image:
        image.crop((200, 150, 296, 246)).save(tmp_path / "data" / "part.png")
    return tmp_path / "data"


def test_the_table_has_a_line_for_each_engine(random_file: Path, identity_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(random_file), str(identity_file), "--rounds", "2", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["engine", "precision"] and "PSNR" not in lines[0]
    assert [line.split()[0] for line in lines[2:]] == [random_file.name, identity_file.name]
    assert lines[2].split()[-1] == "1.00"


def test_json_and_markdown_hold_the_same_figures(identity_file: Path, random_file: Path, data: Path, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("b.json", "b.md")]
    options = ["--rounds", "2", "--threads", "1", "--data", str(data), "--json", files[0], "--markdown", files[1]]
    assert main([str(identity_file), str(random_file), *options]) == 0
    found = json.loads(Path(files[0]).read_text(), parse_constant=pytest.fail)
    first, second = found["results"]
    expected = score(bicubic, read_luma(data / "part.png"), 2).psnr_db
    assert found["bicubic_psnr_db"] == pytest.approx(expected)
    assert first["psnr_db"] == pytest.approx(expected, abs=1e-3)  # its network returns its input
    assert second["psnr_db"] < first["psnr_db"]
    assert first["speedup"] == 1.0 and second["speedup"] == pytest.approx(first["ms_per_megapixel"] / second["ms_per_megapixel"])
    assert first["file_mb"] == identity_file.stat().st_size / 1e6
    assert found["peak_tflops"] > 0
    assert set(found["machine"]) == {"processor", "cores", "python", "system"}
    text = Path(files[1]).read_text()
    assert text.startswith("| engine") and f"{first['psnr_db']:.3f}" in text and "| bicubic" in text


def test_a_flat_picture_is_no_infinity_in_json(identity_file: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("L", (64, 64), 100).save(tmp_path / "flat" / "flat.png")
    options = ["--rounds", "1", "--threads", "1", "--data", str(tmp_path / "flat"), "--json", str(tmp_path / "b.json")]
    assert main([str(identity_file), *options]) == 0
    found = json.loads((tmp_path / "b.json").read_text(), parse_constant=pytest.fail)
    assert (found["results"][0]["psnr_db"], found["bicubic_psnr_db"]) == (EQUAL_DB, EQUAL_DB)


class Counter(WrappedEngine):
    """An engine that writes down when it runs."""

    def __init__(self, name: str, like: Engine, log: list[str]) -> None:
        super().__init__(like)
        self.name, self.log = name, log

    def run(self, tiles: Tiles) -> Tiles:
        self.log.append(self.name)
        return tiles


def test_an_engine_that_comes_along_is_measured_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vdsr", "--rounds", "1"]) == 0
    assert "vdsr_pruned_qat_int8.onnx " in capsys.readouterr().out
    assert main(["edsrr"]) == 2
    assert "edsrr: no such file, and no shipped engine is called so" in capsys.readouterr().err


def test_engines_take_turns_once_they_are_warm(identity: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTLE_RUNS", 1)
    log: list[str] = []
    times = interleaved_ms({name: Counter(name, identity, log) for name in "ab"}, 3)
    assert [len(found) for found in times.values()] == [3, 3]
    turns = [name for name, _ in itertools.groupby(log)]
    assert turns == ["a", "b"] * 4  # to warm up, and three rounds


def test_warming_up_ends_when_the_time_is_stable() -> None:
    falling = iter([9.0, 5.0, 4.0, 3.0, *[2.0] * 100])
    assert warm_up(lambda: next(falling)) == 10  # 4, then threes until two medians agree
    noisy = np.random.default_rng(0)
    assert warm_up(lambda: float(noisy.lognormal(sigma=2.0))) <= 44


def test_figures_of_a_row(identity_file: Path, identity: Engine) -> None:
    found = row((str(identity_file), 1), identity, [4.0, 2.0, 3.0], 2 * per_tile(identity, 3.0))
    assert (found.p50_ms, found.speedup, found.psnr_db, found.device_ms) == (3.0, 2.0, None, None)
    assert found.p90_ms == pytest.approx(float(np.percentile([2.0, 3.0, 4.0], 90)))
    assert found.tiles_per_s == pytest.approx(1000 / 3)
    macs = identity.card.macs or 0
    assert found.tops == pytest.approx(2 * macs / 0.003 / 1e12) and found.share_of_peak is None
    (shared,) = with_shares([dataclasses.replace(found, tops=0.5)], {"fp32": 2.0}, on_gpu=False)
    assert shared.share_of_peak == 0.25
    assert footnotes([shared]) == ["of peak: TOP/s as a part of what a matrix product reaches here (fp32 2 TOP/s)"]
    assert footnotes([found]) == [] and "of peak" not in cells_of([found], None)[0]


def test_no_share_of_the_peak_is_above_one(identity_file: Path, identity: Engine) -> None:
    one = row((str(identity_file), 1), identity, [1.0], None)
    rows = [
        dataclasses.replace(one, precision=p, tops=tops) for p, tops in (("fp32", 3.0), ("fp32", 1.5), ("int8", 8.0), ("fp16", 1))
    ]
    found = with_shares(rows, {"fp32": 2.0, "int8": 16.0}, on_gpu=False)  # the machine was busy when the product ran
    assert [row.share_of_peak for row in found] == [1.0, 0.5, 0.5, None]
    assert [row.share_of_peak for row in with_shares(rows, {"fp32": 2.0}, on_gpu=True)] == [None] * 4


def test_every_precision_has_a_peak_of_its_own(identity: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SIDE", 64)

    class Int8(WrappedEngine):
        @property
        def card(self) -> ModelCard:
            return identity.card.with_changes(precision="int8")

    assert measure_peaks([identity], threads=1).keys() == {"fp32", "fp16"}
    assert measure_peaks([Int8(identity)], threads=1).keys() == {"int8"}
    assert measure_peaks([identity, Int8(identity)], threads=1).keys() == {"fp32", "fp16", "int8"}


def per_tile(engine: Engine, tile_ms: float) -> float:
    """Return what a megapixel costs in tiles of ``tile_ms``."""
    found = per_megapixel(engine.card, tile_ms)
    assert found is not None
    return found


def test_a_megapixel_of_result_is_counted_without_the_halo(identity: Engine) -> None:
    card = identity.card.with_changes(input_shape=(1, 1, 20, 30), output_shape=(1, 1, 40, 60), halo=5)
    assert per_megapixel(card, 2.0) == pytest.approx(2.0 / (10 * 20 * 4) * 1e6)
    enlarged_before = card.with_changes(output_shape=(1, 1, 20, 30))
    assert per_megapixel(enlarged_before, 2.0) == pytest.approx(2.0 / (10 * 20) * 1e6)
    assert per_megapixel(card.with_changes(halo=10), 2.0) is None


class Several(Counter):
    """An engine with three numbers of tiles at once, and a device that has a clock of its own."""

    @property
    def batches(self) -> tuple[int, ...]:
        return 1, 2, 8

    @property
    def gpu(self) -> Gpu:
        return Gpu(lambda rounds, batch: [float(batch)] * rounds, 2_000_000, lambda: 1.0)

    def run(self, tiles: Tiles) -> Tiles:
        self.log.append(str(len(tiles)))
        return tiles


def test_every_batch_of_an_engine_is_timed(identity: Engine, identity_file: Path) -> None:
    log: list[str] = []
    engine = Several("s", identity, log)
    assert identity.batches == (1,)
    jobs = {("s", batch): engine for batch in engine.batches}
    times = interleaved_ms(jobs, 2, batches={job: job[1] for job in jobs})
    assert {len(found) for found in times.values()} == {2} and set(log) == {"1", "2", "8"}
    name, macs = str(identity_file), identity.card.macs or 0
    rows = [row((name, batch), engine, [ms] * 3, per_tile(engine, 4.0)) for batch, ms in ((1, 4.0), (2, 4.0), (8, 32.0))]
    assert [r.batch for r in rows] == [1, 2, 8] and [r.speedup for r in rows] == [1.0, 2.0, 1.0]
    assert rows[2].tops == pytest.approx(2 * 8 * macs / 0.032 / 1e12) and (rows[2].device_ms, rows[2].device_mb) == (
        (8.0, 8.0, 8.0),
        2.0,
    )
    assert best_batches(rows) == [
        f"{identity_file.name}: most throughput with 2 tiles at once, 500.0 tiles/s, 2.00 times that of 1"
    ]
    assert best_batches(rows[:1]) == []
    fastest = best_per_tile({(name, 1): [4.0], (name, 2): [4.0], ("other", 8): [1.0]}, name)
    assert fastest.tolist() == [2.0]


def test_the_table_names_the_batch_only_where_there_are_several(identity: Engine, identity_file: Path) -> None:
    rows: list[Row] = [row((str(identity_file), n), Several("s", identity, []), [1.0], 1.0) for n in (1, 2)]
    assert "batch" in cells_of(rows, None)[0]
    assert "batch" not in cells_of(rows[:1], None)[0]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_peak_is_a_matrix_product(precision: str) -> None:
    assert 0 < cpu_peak_tops(precision, threads=1, side=256, runs=2) < 100


def test_mistakes_are_one_line(identity_file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (3, 3)).save(data / "tiny.png")
    options = ["--rounds", "1", "--threads", "1"]
    assert main([str(identity_file), *options, "--data", str(data)]) == 2
    assert main([str(identity_file), *options, "--data", str(tmp_path / "none")]) == 2
    assert main([str(identity_file), *options, "--data", str(data), "--scale", "5"]) == 2
    assert main([str(tmp_path / "none.onnx"), *options]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_a_comparison_takes_nothing_that_it_would_ignore(identity_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--compare", str(identity_file), str(identity_file), "--json", "x.json", "--peak-tflops", "1"])
    assert ended.value.code == 2
    assert "--compare only says a ratio; leave out --json, --peak-tflops" in capsys.readouterr().err


def test_a_picture_that_is_too_small_is_named_before_anything_is_timed(
    identity_file: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (16, 40)).save(data / "tiny.png")
    monkeypatch.setattr(bench, "interleaved_ms", lambda *args, **kwargs: pytest.fail("timed"))
    assert main([str(identity_file), "--data", str(data)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{data / 'tiny.png'}: 16x40 pixels is too small to measure at x2, 17 are needed" in line


def test_two_engines_are_compared_in_pairs(identity_file: Path, random_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--compare", str(identity_file), str(random_file), "--rounds", "3", "--threads", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{random_file} is ") and f"times as fast as {identity_file} (middle half of 3 pairs: " in line


def test_networks_that_enlarge_elsewhere_are_compared_by_their_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "interleaved_ms", lambda runs, *_, **__: {job: [50.0, 50.0] for job in runs})
    assert main(["--compare", "vdsr", "m"]) == 0  # tiles of 256, halos of 20 and 8
    assert f"is {(240 * 2) ** 2 / 216**2:.2f} times as fast" in capsys.readouterr().out


def test_a_ratio_is_the_median_of_pairs() -> None:
    first, second = np.array([4.0, 40.0, 4.0, 4.0]), np.array([2.0, 20.0, 1.0, 2.0])
    assert str(comparison(first, second, Path("a"), Path("b"))).startswith(
        "b is 2.00 times as fast as a (middle half of 4 pairs: 2.00 to"
    )


@pytest.mark.parametrize("arguments", [[], ["x.onnx", "--compare", "a.onnx", "b.onnx"]])
def test_engines_or_a_comparison_are_needed(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_chart_shows_each_network_with_its_precisions(
    identity_file: Path, random_file: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    chart = tmp_path / "chart.png"
    options = ["--rounds", "2", "--threads", "1", "--data", str(data), "--chart", str(chart), "--json", str(tmp_path / "r.json")]
    assert main([str(identity_file), str(random_file), *options]) == 0
    with Image.open(chart) as image:
        assert image.format == "PNG" and min(image.size) > 300
    rows = [Row(**{**row, "device_ms": None}) for row in json.loads((tmp_path / "r.json").read_text())["results"]]
    named = [
        dataclasses.replace(rows[0], engine="out/net_fp32.onnx"),
        dataclasses.replace(rows[1], engine="out/net.onnx", batch=2),
    ]
    found = points_of([*named, dataclasses.replace(rows[0], psnr_db=None)])
    assert found == {
        "net": [("fp32", rows[0].ms_per_megapixel, rows[0].psnr_db), ("fp32", rows[1].ms_per_megapixel, rows[1].psnr_db)]
    }


def test_a_chart_needs_pictures(identity_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(identity_file), "--chart", str(tmp_path / "c.png")])
    assert "draws PSNR against latency; name pictures with --data" in capsys.readouterr().err


def test_in_python_figures_are_returned_and_nothing_is_printed(
    identity_file: Path, random_file: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[Step] = []
    options = BenchOptions(engines=(identity_file, random_file), rounds=2, data=data, threads=1, peak_tflops=1.0)
    found = sr_deploy.runtime.bench.bench(options, progress=told.append)
    assert [row.engine for row in found.rows] == [str(identity_file), str(random_file)]
    assert found.rows[0].psnr_db == pytest.approx(found.bicubic_psnr_db, abs=1e-3) and found.scale == 2
    assert (found.peaks, found.warnings) == ({"fp32": 1.0}, ()) and "processor" in found.machine
    assert told == [Step("timing", 1, 2), Step("timing", 2, 2)]
    assert capfd.readouterr() == ("", "")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.scale = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engines": ()}, r"engines=\(\): none to time; name at least one"),
        ({"rounds": 0}, "rounds=0: not a number above 0"),
        ({"scale": -1}, "scale=-1: not a number above 0"),
        ({"peak_tflops": float("inf")}, "peak_tflops=inf: not a number above 0"),
        ({"provider": "gpu"}, "provider='gpu': not one of auto, cpu, cuda, tensorrt"),
        ({"threads": 257}, "threads=257: not within 1 to 256"),
    ],
)
def test_options_are_checked_with_their_values(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BenchOptions(**{"engines": (Path("a.onnx"),), **wrong})


def test_two_engines_are_needed_to_compare(identity_file: Path) -> None:
    with pytest.raises(InputError, match="engines: 1 are given, two are compared"):
        compare(BenchOptions(engines=(identity_file,)))


def test_the_python_api_is_imported_when_it_is_asked_for() -> None:
    script = (
        "import sys, sr_deploy.runtime.bench as room; heavy = ('numpy', 'cv2', 'PIL', 'onnxruntime');"
        "print([name for name in heavy if name in sys.modules]); print(room.bench.__module__, room.BenchOptions.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "sr_deploy.runtime.bench.run BenchOptions"]
    with pytest.raises(AttributeError, match="has no attribute 'benches'"):
        sr_deploy.runtime.bench.benches  # type: ignore[attr-defined]  # noqa: B018
