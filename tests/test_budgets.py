"""Budget files: what they may hold and which limits an engine gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_deploy.budgets import BUDGETS, KEYS, Budget, budget_for, read_budgets, unused_names
from sr_deploy.errors import InputError


def tables(folder: Path, text: str) -> dict[str, object]:
    path = folder / "gates.toml"
    path.write_text(text)
    return read_budgets(path)


def test_a_table_holds_for_every_model(tmp_path: Path) -> None:
    found = tables(tmp_path, "[int8]\nmax_drop_db = 0.15\nmin_agreement_db = 42\n")
    assert budget_for(found, "vdsr_int8", "int8", 2) == Budget(max_drop_db=0.15, min_agreement_db=42)


def test_a_models_table_overrides_single_entries(tmp_path: Path) -> None:
    text = "[int8]\nmax_drop_db = 0.15\nmax_shift_levels = 0.2\n[models.vdsr.int8]\nmax_drop_db = 0.05\n"
    found = tables(tmp_path, text)
    assert budget_for(found, "vdsr_int8", "int8", 2) == Budget(max_drop_db=0.05, max_shift_levels=0.2)
    assert budget_for(found, "vdsr_pruned_int8", "int8", 2) == Budget(max_drop_db=0.15, max_shift_levels=0.2)


def test_a_models_table_of_one_precision_leaves_the_others(tmp_path: Path) -> None:
    found = tables(tmp_path, "[fp16]\nmax_drop_db = 0.01\n[models.vdsr.int8]\nmax_drop_db = 0.05\n")
    assert budget_for(found, "vdsr_fp16", "fp16", 2) == Budget(max_drop_db=0.01)
    assert budget_for(found, "other_int8", "int8", 2) == Budget()


def test_a_scale_has_limits_of_its_own(tmp_path: Path) -> None:
    text = "[int8]\nmin_psnr_db = 30\n[int8.x4]\nmin_psnr_db = 28\nmax_drop_db = 0.2\n[models.m.int8.x4]\nmin_psnr_db = 29\n"
    found = tables(tmp_path, text)
    assert budget_for(found, "m_int8", "int8", 2) == Budget(min_psnr_db=30)
    assert budget_for(found, "m_int8", "int8", 4) == Budget(min_psnr_db=29, max_drop_db=0.2)
    assert budget_for(found, "other_int8", "int8", 4) == Budget(min_psnr_db=28, max_drop_db=0.2)


def test_every_limit_is_explained(root: Path) -> None:
    page = (root / "docs" / "gate.md").read_text("utf-8")
    assert [key for key in KEYS if f"{key} = " not in page] == []


def test_a_name_that_nearly_fits_an_engine_is_told(tmp_path: Path) -> None:
    found = tables(tmp_path, "[models.vdsr_prund.int8]\nmax_drop_db = 0.1\n[models.other.int8]\nmax_drop_db = 0.1\n")
    (line,) = unused_names(found, [("vdsr_pruned_int8", "int8")])
    assert line == "[models.vdsr_prund] fits no engine here; did you mean vdsr_pruned?"
    assert unused_names(found, [("edsr_int8", "int8")]) == []
    right = tables(tmp_path, "[models.vdsr_x3.int8]\nmax_drop_db = 0.1\n[models.vdsr_x4.int8]\nmax_drop_db = 0.1\n")
    assert unused_names(right, [("vdsr_x3_int8", "int8")]) == []


def test_the_budgets_of_the_repository_are_sound() -> None:
    found = read_budgets(BUDGETS)
    assert all(budget_for(found, "vdsr", precision, 2).max_drop_db is not None for precision in ("fp32", "fp16", "int8"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[int9]\nmax_drop_db = 1\n", r"\[int9\]: 'int9' is no precision; known: fp32, fp16, int8"),
        ("max_drop_db = 1\n", "'max_drop_db' is no precision"),
        ("int8 = 3\n", r"\[int8\]: is 3, a table is needed"),
        ("[int8]\nmax_dorp_db = 1\n", r"\[int8\]: 'max_dorp_db' is no budget; known: max_drop_db"),
        ("[int8]\nmax_drop_db = '0.1'\n", "max_drop_db is '0.1', a number is needed"),
        ("[int8]\nmax_drop_db = true\n", "max_drop_db is True, a number is needed"),
        ("[int8]\nmax_drop_db = nan\n", "max_drop_db is nan, a number is needed"),
        ("[int8]\nmax_drop_db = inf\n", "max_drop_db is inf, a number is needed"),
        ("[int8]\nmax_drop_db = [1]\n", r"max_drop_db is \[1\], a number is needed"),
        ("[models.vdsr.int9]\nmax_drop_db = 1\n", r"\[models\.vdsr\.int9\]: 'int9' is no precision"),
        ("[models.vdsr.int8]\nmax = 1\n", r"\[models\.vdsr\.int8\]: 'max' is no budget"),
        ("[models.vdsr]\nmax_drop_db = 1\n", r"'max_drop_db' is no precision"),
        ("[models]\nvdsr = 1\n", "vdsr is 1, a table per precision is needed"),
        ("models = 1\n", "models is 1, a table per precision is needed"),
        ("[int8]\nmax_dorp_db = 1\n[models.'']\n", "'max_dorp_db' is no budget"),
        ("[int8]\nmin_agreement_db = -1\n", "min_agreement_db is -1, a number is needed, 0 or more"),
        ("[int8.x4]\nmax = 1\n", r"\[int8\.x4\]: 'max' is no budget"),
        ("[int8.x4.x4]\nmax_drop_db = 1\n", r"\[int8\.x4\]: 'x4' is no budget"),
        ("[int8.x0]\nmax_drop_db = 1\n", r"\[int8\]: 'x0' is no budget"),
        ("[int8]\nx4 = 1\n", r"\[int8\.x4\]: is 1, a table is needed"),
        ("[models.m.int8.x4]\nmin_psnr_db = -1\n", r"\[models\.m\.int8\.x4\]: min_psnr_db is -1, a number is needed"),
        ("[int8\n", "not a TOML file"),
        (f"a = {'[' * 5000}{']' * 5000}\n", r"gates\.toml: not a TOML file"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        tables(tmp_path, text)
    assert "\n" not in str(caught.value) and "gates.toml" in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a TOML file"):
        read_budgets(tmp_path / "b.toml")


def test_the_mark_that_windows_begins_a_text_with_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b"\xef\xbb\xbf[int8]\r\nmax_drop_db = 0.1\r\n")
    assert read_budgets(tmp_path / "b.toml") == {"int8": {"max_drop_db": 0.1}}


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_budgets(tmp_path / "none.toml")
