"""A finished training whose steps are raised goes on as if it had had them from the beginning."""

import json

import pytest
from tiny_runs import run_here, tiny_spec, write_spec

pytestmark = pytest.mark.integration


def spec_of(steps):
    """A short pretraining at a constant learning rate."""
    content = tiny_spec()
    pretrain = content["stages"]["pretrain"] | {"steps": steps, "preview": None, "learning_rate": {"warmup_steps": 2}}
    return {**content, "stages": {"pretrain": pretrain}}


def test_more_steps_are_the_same_training(tmp_path):
    """Weights, averages and log equal those of an uninterrupted run; only the further steps are computed."""
    stages = {}
    for name, lengths in (("whole", (7,)), ("raised", (4, 7))):
        (tmp_path / name).mkdir()
        for steps in lengths:
            plan, folder = run_here(write_spec(tmp_path / name, spec_of(steps)), tmp_path / name / "runs")
        stages[name] = folder.stage(plan.order[0])
    assert len(list(stages["raised"].parent.glob("pretrain-*"))) == 2
    whole, raised = ((stage / "model/model.safetensors").read_bytes() for stage in stages.values())
    assert whole == raised
    whole, raised = (losses(stage / "metrics.jsonl") for stage in stages.values())
    assert whole == raised
    assert len(whole) == 7


def losses(path):
    """Step and loss of each line of a log."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]
