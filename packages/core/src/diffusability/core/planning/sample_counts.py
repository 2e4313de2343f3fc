"""Numbers of samples that a spec asks for and its data cannot give. Free of torch."""

from collections.abc import Sequence

from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.stages import EncodeStage, EvaluateStage, TrainStage


def fewer(asked: int, there: int, split: str, who: str = "") -> str:
    """A sentence that says so; empty where there are enough.

    Args:
        asked: the number in the spec.
        there: the examples of the data.
        split: which ones.
        who: for whom they are.
    """
    if asked <= there:
        return ""
    what = f"{who}: " if who else ""
    return f"{what}num_samples is {asked}, and the {split} data has {there}; all {there} are used"


def fewer_for(evaluators: Sequence[EvaluatorSpec], there: int, split: str) -> list[str]:
    """A sentence for each number that some of these evaluators of real images ask for by name, and do not get."""
    asked: dict[int, list[str]] = {}
    for spec in evaluators:
        if "num_samples" in spec.model_fields_set and spec.num_samples > there:
            asked.setdefault(spec.num_samples, []).append(spec.distinct_name())
    return [fewer(count, there, split, ", ".join(names)) for count, names in asked.items()]


def shortfalls(stage: PlannedStage) -> list[str]:
    """What checking can say of a stage: of data whose size is known without opening it."""
    spec = stage.spec
    match spec:
        case EncodeStage(num_samples=int(asked), split=split):
            there = stage.data.num_examples(split)
            sentences = [] if there is None else [fewer(asked, there, split)]
        case EvaluateStage():
            there = stage.data.num_examples(spec.resolved_split())
            sentences = [] if there is None else fewer_for(_of_images(spec.evaluators), there, spec.resolved_split())
        case TrainStage() if spec.evaluate is not None and stage.data.holds == "images":
            there = stage.data.num_examples("validation")
            sentences = [] if there is None else fewer_for(_of_images(spec.evaluate.evaluators), there, "validation")
        case _:
            sentences = []
    return [sentence for sentence in sentences if sentence]


def _of_images(evaluators: Sequence[EvaluatorSpec]) -> list[EvaluatorSpec]:
    """Those that are known to read real images, or what is made of them."""
    fields = {"images", "labels", "posterior", "latents", "reconstruction"}
    return [spec for spec in evaluators if (spec.needed() or frozenset()) & fields]
