"""The table of ``dfz check``: one row for stages of several variants that differ in their numbers alone."""

from pathlib import Path

import pytest
from rich.console import Console

from diffusability.core.cli.plan_table import byte_count, groups, plan_table
from diffusability.core.planning.plan import load_plan

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def plan():
    return load_plan(ROOT / "recipes" / "micro" / "predictors.yaml")


def rendered(plan, width, is_done=lambda stage: False):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(plan_table("title", plan.order, list(plan.stages), 1, is_done))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_fourteen_variants_fit_on_a_screen(plan, width):
    """Seventy stages in at most 30 lines of the terminal's width, with nothing cut off."""
    lines = rendered(plan, width)
    assert len(plan.order) == 70
    assert len(lines) <= 30
    assert all(len(line.rstrip()) <= width for line in lines)
    assert not any("…" in line for line in lines)


def test_every_stage_is_in_one_group(plan):
    """Names stay together, in the order of the spec, and no stage is lost or counted twice."""
    stage_groups = groups(plan.order)
    members = [stage.digest for group in stage_groups for stage in group.stages]
    assert sorted(members) == sorted(stage.digest for stage in plan.order)
    names = [group.name for group in stage_groups]
    assert list(dict.fromkeys(names)) == ["autoencoder", "score", "encode", "dit", "generate"]
    assert names == sorted(names, key=list(dict.fromkeys(names)).index)


def test_numbers_that_differ_are_a_range(plan):
    """Parameters of the autoencoders that are trained with the KL term alone, and of all denoisers."""
    text = "\n".join(rendered(plan, 120))
    assert "autoencoder x7 (c4, c8, c16, c32, +3 more)" in text
    assert "0.14-0.18M" in text
    assert "4.17-4.21M" in text
    assert "8.0-64.0 MiB" in text  # 8192 posteriors of 4 to 32 channels of 8x8 in half precision
    assert "psnr, kl-per-dim, dct-spectrum, +8 more" in text


def test_statuses_are_counted(plan):
    """Of a group some of whose stages are done."""
    done = {stage.digest for stage in plan.order if stage.name == "dit" and "c4" in stage.variants}
    text = "\n".join(rendered(plan, 120, lambda stage: stage.digest in done))
    assert "1 done, 13 to do" in text
    assert text.count("14 to do") == 3


@pytest.mark.parametrize(
    ("count", "text"),
    [(2048, "2 KiB"), (3 * 2**20 // 2, "1.5 MiB"), (500 * 2**20, "500 MiB"), (12 * 2**30, "12.0 GiB")],
)
def test_byte_counts(count, text):
    assert byte_count(count) == text
