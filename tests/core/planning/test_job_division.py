"""Which stages make a job, on which GPUs it runs, and what is said when it fails."""

import pytest
from tiny_runs import tiny_spec, write_spec

from diffusability.core.cli.job_processes import _failure, gpus_of_slots
from diffusability.core.errors import SpecError
from diffusability.core.planning.job_division import assigned_stages, jobs_of
from diffusability.core.planning.plan import load_plan, select


@pytest.fixture
def plan(tmp_path):
    """Three variants: two share all but their denoisers, the third shares nothing with them."""
    content = tiny_spec()
    content["variants"] = {
        "a": {},
        "b": {"stages.dit.optimizer.lr": 2.0e-3},
        "c": {"stages.pretrain.regularizers": []},
    }
    return load_plan(write_spec(tmp_path, content))


def test_stages_of_the_same_variants_are_one_job(plan):
    """What is shared comes first and is needed by its variants; every stage is in one job."""
    jobs = {job.name: job for job in jobs_of(plan.order)}
    assert {name: [stage.name for stage in job.stages] for name, job in jobs.items()} == {
        "pretrain": ["pretrain", "measure", "encode"],
        "a": ["dit", "generate"],
        "b": ["dit", "generate"],
        "c": ["pretrain", "measure", "encode", "dit", "generate"],
    }
    shared = plan.stages["a"]
    assert (
        jobs["a"].needs
        == jobs["b"].needs
        == {shared[name].directory_name for name in ("pretrain", "encode")} - {shared["pretrain"].directory_name}
    )
    assert jobs["c"].needs == jobs["pretrain"].needs == frozenset()


def test_shared_jobs_are_told_apart(tmp_path):
    """Two pairs of variants, each with an autoencoder of its own."""
    content = tiny_spec()
    other = {"stages.pretrain.regularizers": []}
    slow = {"stages.dit.optimizer.lr": 1.0e-5}
    content["variants"] = {"a": {}, "a-slow": slow, "c": other, "c-slow": other | slow}
    jobs = [job.name for job in jobs_of(load_plan(write_spec(tmp_path, content)).order)]
    assert jobs == ["pretrain of a", "a", "a-slow", "pretrain of c", "c", "c-slow"]


def test_a_selection_needs_nothing_outside_it(plan):
    """With --until and --variant."""
    (job,) = jobs_of(select(plan, ["c"], "encode"))
    assert [stage.name for stage in job.stages] == ["pretrain", "measure", "encode"]
    assert job.needs == frozenset()


def test_a_process_finds_the_stages_that_it_was_started_for(plan):
    """None without the variable; a sentence when the spec was changed meanwhile."""
    names = [stage.directory_name for stage in plan.order[:2]]
    assert assigned_stages(plan, None) is None
    assert assigned_stages(plan, " ".join(names)) == set(names)
    with pytest.raises(SpecError, match="changed while its jobs were being started"):
        assigned_stages(plan, "pretrain-00000000")


@pytest.mark.parametrize(
    ("num_jobs", "num_ranks", "gpus", "expected"),
    [
        (3, 1, [], [None, None, None]),
        (2, 1, ["0", "1", "2"], ["0", "1"]),
        (3, 1, ["4", "5"], ["4", "5", "4"]),
        (2, 2, ["0", "1", "2", "3"], ["0,1", "2,3"]),
    ],
)
def test_every_slot_has_gpus_of_its_own_where_there_are_enough(num_jobs, num_ranks, gpus, expected):
    """One-rank jobs share the GPUs when there are too few."""
    assert gpus_of_slots(num_jobs, num_ranks, gpus) == expected


def test_too_few_gpus_for_jobs_of_several_ranks_are_refused():
    """With both numbers."""
    with pytest.raises(SpecError, match="2 jobs of 4 ranks need 8 GPUs, but 4 can be seen"):
        gpus_of_slots(2, 4, list("0123"))


def test_a_killed_job_is_told_from_one_that_failed():
    """The exit code of a job's own error is the command's."""
    assert "killed by SIGKILL (was the host out of memory?)" in str(_failure("a", -9, "the others continue"))
    failed = _failure("a", 2, "the others continue")
    assert failed.exit_code == 2
    assert "its message is above" in str(failed)
