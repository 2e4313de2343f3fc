"""Each YAML block of the documentation, as it is written there: a spec that passes every check which needs no files.

A block that is not a whole spec extends the one of docs/specs.md (clips: examples/video.yaml) at
the place that docs/specs.md gives for its first key.
"""

import re

import pytest
import yaml
from documents import PAGES, ROOT, name_of, text_blocks

from diffusability.core.errors import SpecError
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan
from diffusability.core.planning.source import parse_source
from diffusability.core.specs.run import RunSpec

BLOCKS = [
    pytest.param(text, id=f"{name_of(page)}:{line}") for page in PAGES for line, text in text_blocks(page, "yaml")
]
(MINIMAL,) = [text for _, text in text_blocks(ROOT / "docs/specs.md", "yaml") if "extends it" in text]
#: Where a fragment stands, by its key; `objective` and `evaluators` by the kind in it, as docs/specs.md says.
PLACES = {
    "autoencoder": "stages.finetune.objective",
    "denoiser": "stages.dit.objective",
    "sampler": "stages.generate",
    **dict.fromkeys(("regularizers", "ema", "adversarial", "checkpoint", "optimizer"), "stages.finetune"),
}


def place_of(key, value):
    """The dotted path of a block's key in the spec over which it is laid."""
    if key.partition(".")[0] in {*RunSpec.model_fields, "extends", "seeds", "variants", "table"}:
        return key
    if isinstance(value, dict) and value.get("kind") in ("train", "encode", "evaluate"):
        return f"stages.{key}"
    if key == "objective":
        return f"stages.{'finetune' if value['kind'] == 'reconstruction' else 'dit'}.objective"
    if key == "evaluators":
        return f"stages.{'generate' if any('features' in each for each in value) else 'measure'}.evaluators"
    return f"{PLACES[key]}.{key}"


def planned(text, folder):
    """The plan of a block. Raises ``SpecError`` with what ``dfz check`` would say of it."""
    content = parse_source(text, "block").data
    whole = {"name", "stages"} <= content.keys() or "extends" in content
    if not whole:
        base = folder / "base.yaml"
        kinds = re.findall(r"kind: ([\w-]+)", text)
        base.write_text((ROOT / "examples/video.yaml").read_text() if "video-folder" in kinds else MINIMAL)
        content = {"extends": "base.yaml"} | {place_of(key, value): value for key, value in content.items()}
    path = folder / "block.yaml"
    path.write_text(text if whole else yaml.safe_dump(content, sort_keys=False))
    plan = load_plan(path)
    check(plan, files=())
    return plan


@pytest.mark.parametrize("text", BLOCKS)
def test_every_documented_spec_passes_the_check(text, tmp_path):
    """Whole specs and fragments; three dots stand for nothing that YAML knows."""
    assert "..." not in text
    planned(text, tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("weight: 1.0e-6", "wieght: 1.0e-6"), ("kind: kl", "kind: lk"), ("factors: [2]", "factors: [0.5]")],
)
def test_a_wrong_block_would_be_noticed(right, wrong, tmp_path):
    """One word of a fragment changed."""
    (text,) = [text for _, text in text_blocks(ROOT / "docs/regularizers.md", "yaml") if right in text]
    with pytest.raises(SpecError):
        planned(text.replace(right, wrong), tmp_path)


def test_blocks_name_their_language():
    """Every fenced block: what is not marked is neither run nor coloured."""
    for page in PAGES:
        fences = re.findall(r"^ *```(.*)$", page.read_text(), re.M)
        assert "" not in fences[::2], name_of(page)
