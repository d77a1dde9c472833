"""``Upscaler``: arrays of every documented type and layout, threads, closing, and what is refused."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray
from PIL import Image, ImageCms

from sr_deploy import Upscaler
from sr_deploy.errors import EngineError, InputError
from sr_deploy.runtime.backends.engine import Engine, Tiles, WrappedEngine
from sr_deploy.runtime.backends.load import load
from sr_deploy.runtime.upscaler import InTurns
from sr_deploy.runtime.upscaling.upscaling import upscale
from tests.runtime import tiny_onnx as tiny

PEAKS = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(np.float32): 1.0}
SHAPES = [(30, 40), (30, 40, 1), (30, 40, 2), (30, 40, 3), (30, 40, 4)]


@pytest.fixture(scope="module")
def upscaler(random_file: Path) -> Iterator[Upscaler]:
    with Upscaler(random_file, threads=1) as found:
        yield found


@pytest.fixture(scope="module")
def same(identity_file: Path) -> Iterator[Upscaler]:
    """One that returns what it gets."""
    with Upscaler(identity_file, scale=1, threads=1) as found:
        yield found


def image_of(shape: tuple[int, ...], dtype: DTypeLike = np.uint8, seed: int = 0) -> NDArray[np.generic]:
    values, peak = np.random.default_rng(seed).random(shape), PEAKS[np.dtype(dtype).newbyteorder("=")]
    return (values if peak == 1.0 else np.rint(values * peak)).astype(dtype)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_pillow_picture_gives_one(same: Upscaler, mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(image_of((20, 30), np.uint16))
    else:
        picture = Image.fromarray(image_of((20, 30, 3)).astype(np.uint8)).convert(mode)
    picture.info["icc_profile"] = b"profile"
    found = same.upscale(picture)
    assert (found.mode, found.size) == ({"1": "L", "P": "RGB"}.get(mode, mode), (30, 20))
    assert found.info == {"icc_profile": b"profile"}
    expected = np.asarray(picture.convert({"1": "L", "P": "RGB"}[mode]) if mode in "1P" else picture)
    assert np.array_equal(np.asarray(found), same.upscale(expected))


@pytest.mark.parametrize(
    ("mode", "sample", "first"),
    [
        ("I", np.int32(60_000), 60_000),
        ("F", np.float32(0.25), 0.25),
        ("La", np.uint8(200), 255),
        ("RGBa", np.uint8(200), 255),
        ("RGBX", np.uint8(200), 200),
        ("CMYK", np.uint8(255), 0),
        ("YCbCr", np.uint8(128), 128),
        ("HSV", np.uint8(0), 0),
        ("LAB", np.uint8(255), 252),  # a and b are signed: -1
    ],
)
def test_what_is_said_about_a_mode_can_be_done_and_clips_nothing(
    same: Upscaler, mode: str, sample: np.generic, first: float
) -> None:
    stored = len(Image.new(mode, (1, 1)).tobytes()) // sample.itemsize
    picture = Image.frombytes(mode, (6, 5), sample.tobytes() * 30 * stored)
    with pytest.raises(InputError, match=f"has mode {mode}, not one of") as caught:
        same.upscale(picture)
    code = str(caught.value).partition("; give ")[2].partition(", where")[0]
    found = same.upscale(eval(code, {"image": picture, "numpy": np, "ImageCms": ImageCms}))
    assert float(np.asarray(found).flat[0]) == first


def test_sixteen_bits_are_taken_in_any_order_of_bytes(same: Upscaler) -> None:
    samples = image_of((20, 30), np.uint16)
    for mode, order in (("I;16B", ">u2"), ("I;16", "<u2")):
        picture = Image.frombytes(mode, (30, 20), samples.astype(order).tobytes())
        assert np.array_equal(np.asarray(same.upscale(picture)), same.upscale(samples))


def test_a_pillow_picture_that_cannot_be_decoded_is_told(same: Upscaler, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.effect_noise((64, 64), 90).save(file)
    file.write_bytes(file.read_bytes()[:2000])
    with (
        pytest.raises(InputError, match=r"^image: .*truncated.*; open an undamaged file, and close it later$"),
        Image.open(file) as damaged,
    ):
        same.upscale(damaged)
    closed = Image.new("L", (5, 5))
    closed.close()
    with pytest.raises(InputError, match=r"^image: cannot be decoded "):
        same.upscale(closed)


@pytest.mark.parametrize(
    "wrong",
    [{"engine": 3}, {"engine": b"x"}, {"scale": "2"}, {"threads": "2"}, {"threads": 1.5}, {"ensemble": "no"}, {"trusted": 1}],
)
def test_an_argument_of_another_type_is_told_by_its_name(random_file: Path, wrong: dict[str, object]) -> None:
    given: dict[str, object] = {"engine": random_file, **wrong}
    with pytest.raises(InputError, match=f"^{next(iter(wrong))}=.*: is of type .*; give "):
        Upscaler(**given)  # type: ignore[arg-type]


def test_an_8_bit_picture_gives_what_sr_infer_writes(upscaler: Upscaler, random_file: Path) -> None:
    image = image_of((50, 70, 3)).astype(np.uint8)
    assert np.array_equal(upscaler.upscale(image), upscale(load(random_file, threads=1), image, 2))


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", ">f4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_dtype_and_layout_are_kept(upscaler: Upscaler, shape: tuple[int, ...], dtype: str) -> None:
    image = image_of(shape, dtype)
    found = upscaler.upscale(image)
    assert found.shape == (60, 80, *shape[2:]) and found.dtype == image.dtype and found.dtype.byteorder == image.dtype.byteorder
    assert found.flags.c_contiguous and found.flags.writeable


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_network_that_returns_its_input_changes_no_sample(same: Upscaler, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    image = np.array(image_of(shape, dtype))
    if shape[2:] in ((2,), (4,)):
        image[..., -1][image[..., -1] == 0] = 1  # colours that cannot be seen may change
    difference = np.abs(same.upscale(image).astype(np.float64) - image.astype(np.float64)).max()
    # float32 sums of three products to luma and back: 1e-6 of the range, less than half a step of 16 bits
    assert difference <= (1e-6 if dtype == np.float32 else 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_depths_give_the_same_picture(upscaler: Upscaler, shape: tuple[int, ...]) -> None:
    image = image_of(shape).astype(np.uint8)
    shallow = upscaler.upscale(image).astype(np.float64) / 255.0
    deep = upscaler.upscale(image.astype(np.uint16) * np.uint16(257)).astype(np.float64) / 65535.0
    real = upscaler.upscale(image.astype(np.float32) / np.float32(255.0)).astype(np.float64)
    assert np.abs(deep - real).max() <= 0.5 / 65535.0 + 1e-6
    assert np.abs(shallow - real).max() <= 0.5 / 255.0 + 1e-6


def test_a_dark_16_bit_frame_is_as_bright_as_it_says(same: Upscaler) -> None:
    dark = np.full((20, 20), 700, np.uint16)
    assert np.array_equal(same.upscale(dark), dark)
    assert same.upscale(dark.astype(np.float32) / np.float32(65535.0)).max() < 0.011


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_overshoot_is_clipped_not_wrapped(tmp_path: Path, dtype: DTypeLike) -> None:
    engine = tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 16, 16), offset=3.0)
    with Upscaler(engine, scale=1, threads=1) as bright:
        assert (bright.upscale(image_of((16, 16), dtype)) == PEAKS[np.dtype(dtype)]).all()


def test_floats_a_little_outside_are_clipped(same: Upscaler) -> None:
    image = np.array([[-0.2, 0.0, 0.5, 1.0, 1.3]], np.float32)
    assert np.abs(same.upscale(image) - np.clip(image, 0, 1)).max() <= 1e-6
    assert image[0, 0] == np.float32(-0.2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_strides_and_read_only_arrays_make_no_difference(upscaler: Upscaler, dtype: DTypeLike) -> None:
    wide = image_of((60, 80, 4), dtype)
    view = wide[::2, ::-2, 2::-1]
    frozen = np.asfortranarray(view)
    frozen.flags.writeable = False
    before = wide.copy()
    expected = upscaler.upscale(np.ascontiguousarray(view))
    assert np.array_equal(upscaler.upscale(view), expected) and np.array_equal(upscaler.upscale(frozen), expected)
    assert np.array_equal(wide, before)


def test_the_result_shares_no_memory_with_the_picture(same: Upscaler) -> None:
    image = image_of((20, 20), np.float32)
    found = same.upscale(image)
    assert not np.shares_memory(found, image) and found.flags.writeable


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("CMYK", (4, 4)), r"^image: has mode CMYK, not one of L, LA, RGB, RGBA, I;16; give image\.convert\('RGB'\)$"),
        ([[1, 2]], r"is a builtins\.list, not a numpy array"),
        (np.ma.masked_array(np.zeros((4, 4), np.uint8)), "is a numpy.ma.*MaskedArray, not a numpy array"),
        (np.zeros((4, 4), np.float64), "has dtype float64, not uint8, uint16 or float32; convert it"),
        (np.zeros((4, 4), np.float16), "has dtype float16"),
        (np.zeros((4, 4), np.int64), "has dtype int64"),
        (np.zeros((4, 4), bool), "has dtype bool"),
        (np.zeros((4, 4), "S3"), r"has dtype \|S3"),
        (np.zeros((4, 4), object), "has dtype object"),
        (np.zeros(4, np.uint8), r"has shape \(4,\), not \(h, w\) or \(h, w, c\) with c from 1 to 4"),
        (np.zeros((3, 4, 5), np.uint8), r"has shape \(3, 4, 5\), not .* move channels to the end"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"has shape \(1, 4, 4, 3\), not .* frames one by one"),
        (np.zeros((4, 4, 0), np.uint8), r"has shape \(4, 4, 0\), not"),
        (np.zeros((0, 4), np.uint8), r"has shape \(0, 4\), which holds no pixel"),
        (np.zeros((4, 0, 3), np.uint16), r"has shape \(4, 0, 3\), which holds no pixel"),
        (np.array([[0.5, np.nan]], np.float32), "no finite numbers"),
        (np.array([[0.5, np.inf]], np.float32), "no finite numbers"),
        (np.array([[0.0, 255.0]], np.float32), "has float32 values from 0 to 255, the range is 0 to 1; divide by 255"),
        (np.array([[-1.5, 1.0]], np.float32), "has float32 values from -1.5 to 1"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(same: Upscaler, image: NDArray[np.generic], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        same.upscale(image)
    assert "\n" not in str(caught.value)


def test_many_threads_get_what_one_gets(random_file: Path) -> None:
    images = [image_of((40 + n, 60 - n, 1 + n % 4), (np.uint8, np.uint16, np.float32)[n % 3], seed=n) for n in range(24)]
    with Upscaler(random_file, threads=2) as found, ThreadPoolExecutor(6) as pool:
        expected = [found.upscale(image) for image in images]
        assert all(map(np.array_equal, pool.map(found.upscale, images), expected))


class Slow(WrappedEngine):
    """An engine that notes how many threads are in it, and waits until it may end."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.inside, self.most, self.closed = 0, 0, False
        self.entered, self.go = threading.Event(), threading.Event()

    def run(self, tiles: Tiles) -> Tiles:
        assert not self.closed
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        assert self.go.wait(30.0)
        found = self.engine.run(tiles)
        self.inside -= 1
        return found

    def close(self) -> None:
        self.closed = True


def test_closing_waits_for_running_calls(identity_file: Path) -> None:
    found = Upscaler(identity_file, scale=1, threads=1)
    slow = Slow(load(identity_file, threads=1))
    found._engine = slow
    image = image_of((10, 10))
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(found.upscale, image)
        assert slow.entered.wait(30.0)
        closing = pool.submit(found.close)
        while vars(found)["_engine"] is not None:  # another thread takes it away
            pass
        with pytest.raises(EngineError, match="this Upscaler was closed"):
            found.upscale(image)
        assert not slow.closed and not closing.done()
        slow.go.set()
        assert np.array_equal(running.result(30.0), image)
        closing.result(30.0)
    assert slow.closed


def test_an_engine_that_takes_one_thread_is_run_by_one_at_a_time(identity_file: Path) -> None:
    slow = Slow(load(identity_file, threads=1))
    slow.go.set()
    turns = InTurns(slow)
    tiles = np.zeros((1, 1, 128, 128), np.float32)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(turns.run, [tiles] * 64))
    assert slow.most == 1


def test_after_the_block_a_call_is_refused(random_file: Path) -> None:
    with Upscaler(random_file, threads=1) as found:
        pass
    with pytest.raises(EngineError, match=r"random_fp32\.onnx: this Upscaler was closed; make another one$"):
        found.upscale(image_of((4, 4)))
    found.close()
    assert repr(found) == "<Upscaler random_fp32.onnx x2, CPUExecutionProvider, closed>"


@pytest.mark.parametrize("action", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_not_pickled_or_copied(upscaler: Upscaler, action: object) -> None:
    assert callable(action)
    with pytest.raises(
        TypeError, match=r"Upscaler random_fp32\.onnx x2.* cannot be pickled or copied.*; make one in each process"
    ):
        action(upscaler)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_is_told_to_make_its_own(upscaler: Upscaler) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            upscaler.upscale(image_of((4, 4)))
        except EngineError as err:
            code = 0 if "was made by another process; make one after the fork" in str(err) else 2
            upscaler.close()  # leaves the parent's alone
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert upscaler.upscale(image_of((4, 4))).shape == (8, 8)


def test_scale_is_the_engines_or_the_one_asked_for(random_file: Path) -> None:
    with Upscaler(random_file, threads=1) as two, Upscaler(str(random_file), scale=3, threads=1) as three:
        assert (two.scale, three.scale) == (2, 3)
        assert three.upscale(image_of((4, 5))).shape == (12, 15)
    with pytest.raises(InputError, match="serves scales 1, 2, 3, 4, not 7"):
        Upscaler(random_file, scale=7)


@pytest.mark.parametrize("scale", [0, -2])
def test_a_scale_that_is_none_is_refused(scale: int) -> None:
    with pytest.raises(InputError, match=rf"^scale={scale}: not a number above 0; give another, or leave it out$"):
        Upscaler(scale=scale)


@pytest.mark.parametrize("threads", [0, -1, 1000])
def test_a_wrong_number_of_threads_is_refused(random_file: Path, threads: int) -> None:
    with pytest.raises(InputError, match=rf"threads={threads}: not within 1 to 256"):
        Upscaler(random_file, threads=threads)


def test_a_provider_that_there_is_not_is_refused(random_file: Path) -> None:
    with pytest.raises(InputError, match=r"provider='gpu': not one of auto, cpu, cuda, tensorrt"):
        Upscaler(random_file, provider="gpu")  # type: ignore[arg-type]


def test_another_scale_than_the_calibrated_one_is_told(tmp_path: Path) -> None:
    engine = tiny.write(tmp_path / "m.onnx", tiny.zero_weights((2, 1)), (1, 1, 16, 16), calibrated_scale=2)
    with pytest.warns(UserWarning, match=r"m\.onnx: was calibrated for x2, not for x3"):
        Upscaler(engine, scale=3, threads=1).close()


def test_an_ensemble_is_the_mean_over_the_views(tmp_path: Path) -> None:
    engine = tiny.write(tmp_path / "m.onnx", tiny.random_weights((8, 1)), (1, 1, 48, 48))
    image = image_of((56, 56), np.float32)
    with Upscaler(engine, scale=1, threads=1) as one, Upscaler(engine, scale=1, threads=1, ensemble=True) as mean:
        views = [np.rot90(one.upscale(np.rot90(image, turns)), -turns) for turns in range(4)]
        views += [np.rot90(one.upscale(np.rot90(image[:, ::-1], turns)), -turns)[:, ::-1] for turns in range(4)]
        # each view is clipped to 0..1 here, the ensemble is clipped once
        inside = (np.min(views, axis=0) > 0.0) & (np.max(views, axis=0) < 1.0)
        assert np.abs(mean.upscale(image) - np.mean(views, axis=0))[inside].max() < 1e-5


@pytest.mark.parametrize(("name", "scale"), [(None, 2), ("edsr", 2), ("vdsr_pruned_qat_int8", 3)])
def test_the_engines_that_come_along_work_by_name(name: str | None, scale: int, crops: list[NDArray[np.uint8]]) -> None:
    small = np.ascontiguousarray(crops[0][:24, :20])
    with Upscaler(name, scale=scale, threads=2) as found:
        large: NDArray[np.uint8] = found.upscale(small)
    assert large.shape == (24 * scale, 20 * scale, 3) and large.dtype == np.uint8
    shrunk = large.reshape(24, scale, 20, scale, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 4.0  # grey levels: it is the same picture
