"""Mistakes of plugin authors: each names the plugin, the method and its line, in every group."""

import traceback
from typing import Literal

import pytest
import torch

from diffusability.core.cli.bug_report import without_callers
from diffusability.core.contracts.objective import Batch, Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import PluginError, TrainingError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.plugins.contract_checks import CONTRACTS, build_fault, place_of
from diffusability.core.plugins.registry import GROUPS
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import SPEC_BASES, RegularizerSpec

#: For each group, a method whose result matters.
METHODS = {
    group: next(name for name, returns in contract.methods.items() if returns is not None and name != "__len__")
    for group, contract in CONTRACTS.items()
    if group != "trackers"
}


def spec_of(group, build):
    """A spec class of a third party with this ``build``, made as a package's would be."""
    return type("Spec", (SPEC_BASES[group],), {
        "__annotations__": {"kind": Literal["mine"]}, "kind": "mine", "build": build, "__module__": "mine",
    })  # fmt: skip


def object_of(group, **methods):
    """An instance of a third party's class that has the contract's methods, and these."""
    base = CONTRACTS[group].base
    abstract = {name: lambda self, *args, **named: 1 for name in getattr(base, "__abstractmethods__", ())}
    return type("Mine", (base,), {**abstract, **methods, "__module__": "mine"})()


def built(group, build):
    arguments = (BuildContext(), "train") if group == "datasets" else (BuildContext(),)
    return spec_of(group, build)().build(*arguments)


def test_every_group_has_a_contract():
    """The groups of entry points, and that each method is one of the class."""
    assert CONTRACTS.keys() == GROUPS.keys() == SPEC_BASES.keys()
    assert all(hasattr(contract.base, name) for contract in CONTRACTS.values() for name in contract.methods)


@pytest.mark.parametrize("group", GROUPS)
def test_a_build_with_other_parameters_is_named_by_checking_and_by_building(group):
    """None at all and one too many; the class without ``build``, too. ``build_fault`` is what `dfz check` asks."""

    def too_few(self):
        raise AssertionError

    def too_many(self, context, split, more):
        raise AssertionError

    for build in (too_few, too_many):
        spec_class = spec_of(group, build)
        fault = build_fault(spec_class, SPEC_BASES[group])
        assert fault is not None
        assert "Spec.build(self" in fault
        assert f"{__file__}:{build.__code__.co_firstlineno}" in fault
        with pytest.raises(PluginError, match=rf"{GROUPS[group]} 'mine' .*Spec\.build\(self") as caught:
            built(group, build)
        assert fault in str(caught.value)
    missing = type("Spec", (SPEC_BASES[group],), {
        "__annotations__": {"kind": Literal["mine"]}, "kind": "mine", "__module__": "mine",
    })  # fmt: skip
    assert build_fault(missing, SPEC_BASES[group]) == ("Spec must set builds = 'module:Class', or implement build()")


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("returned", [None, 5])
def test_a_build_that_returns_something_else_is_named(group, returned):
    """None, and a number."""
    name = CONTRACTS[group].base.__name__
    what = "None" if returned is None else "a int"
    with pytest.raises(PluginError, match=rf"'mine' .*: Spec\.build returned {what}; expected a {name} \(.*\.py:\d+\)"):
        built(group, lambda self, *args: returned)


@pytest.mark.parametrize("group", GROUPS)
def test_a_method_with_other_parameters_is_named_when_built(group):
    """The first method of each contract without any parameter."""
    method = next(name for name in CONTRACTS[group].methods if name != "__len__")
    wrong = object_of(group, **{method: lambda self, a, b, c, d, e, f, g: None})
    with pytest.raises(PluginError, match=rf"'mine' .*: Mine\.{method}\(self, a, b.*cannot be called as .*\.py:\d+\)"):
        built(group, lambda self, *args: wrong)


@pytest.mark.parametrize("group", METHODS)
def test_a_method_that_returns_none_is_named_when_called(group):
    """Called by itself, as the engine would; the class is checked once, however often it is built."""
    forgets = object_of(group, **{METHODS[group]: lambda self, *args, **named: None})
    for _ in range(2):
        made = built(group, lambda self, *args: forgets)
        method = getattr(type(made), METHODS[group])
        with pytest.raises(PluginError, match=rf"Mine\..* returned None; expected .* \({__file__}:\d+\)"):
            method(made)


@pytest.mark.parametrize("group", METHODS)
def test_an_error_inside_keeps_its_type_and_gets_a_note(group):
    """A division by 0 in ``build`` and in a method: still that error, with the plugin's name, once."""

    def breaks(self, *args, **named):
        return 1 / 0

    made = built(group, lambda self, *args: object_of(group, **{METHODS[group]: breaks}))
    for call in (lambda: built(group, breaks), getattr(made, METHODS[group])):
        with pytest.raises(ZeroDivisionError) as caught:
            call()
        (note,) = caught.value.__notes__
        assert note.startswith(f"in {GROUPS[group]} 'mine'")
        assert note.endswith(f"({place_of(breaks)})")


def test_tracebacks_begin_below_typer():
    """Frames of a command that typer calls: those of typer and click, and what is above them, are left out."""
    outside = {"__name__": "click.core"}
    exec("def invoke(call):\n    call()\n", outside)

    def command():
        raise KeyError("x")

    try:
        outside["invoke"](command)
    except KeyError as error:
        names = [frame.name for frame in traceback.extract_tb(without_callers(error.__traceback__))]
        assert names == ["command"]


class Halves(Objective):
    """The loss is the parameter; latents are twice it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return StepOutput(losses={"loss": self.weight * 1}, batch=batch, latents=2 * self.weight.view(1, 1, 1, 1))

    def save(self, directory):
        raise NotImplementedError


@pytest.mark.parametrize(("made", "refused"), [("detached", True), ("attached", False), ("rests", False)])
def test_a_term_without_a_gradient_is_refused_at_the_first_step(made, refused):
    """Detached latents are named with the place of ``forward``; a constant 0 is a step in which a term rests."""

    class Mine(Regularizer):
        def forward(self, output, task):
            terms = {"detached": output.latents.detach().sum(), "attached": output.latents.sum()}
            return terms.get(made, torch.zeros(()))

    spec_class = spec_of("regularizers", lambda self, context: Mine())
    task = TrainTask(Halves(), {"mine": spec_class().build(BuildContext())}, [spec_class()])
    batch = Batch(data=torch.zeros(1, 1), labels=None, randomness=BatchRandomness(seed=0, step=0, positions=[0]))
    if refused:
        with pytest.raises(TrainingError, match=rf"'mine' .*Mine\.forward returned a term without a.*{__file__}:\d+"):
            task(batch)
        task.eval()
    assert torch.isfinite(task(batch).loss)
    assert isinstance(spec_class(), RegularizerSpec)
