"""A whole spec."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from diffusability.core.errors import nearest
from diffusability.core.specs.base import Spec, fail
from diffusability.core.specs.components import AnyDataset
from diffusability.core.specs.engine import EngineSpec
from diffusability.core.specs.stages import AnyStage, Seed


def folder_name(name: str) -> str:
    """The name itself. Raises ValueError when it cannot be a folder's name or a step of a dotted path."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"{name!r} becomes a folder name: use letters, digits, '_' and '-', a letter or digit first")
    return name


FolderName = Annotated[str, AfterValidator(folder_name)]


class RunSpec(Spec):
    """One variant of a spec: named stages in order, and what they share.

    The ``variants`` of a spec file are overlaid before this class sees it.
    """

    name: FolderName
    seed: Seed = 0
    seeds: tuple[Seed, ...] | None = Field(
        None, description="every variant runs once with each of these seeds; instead of 'seed'"
    )
    data: AnyDataset | None = None
    engine: EngineSpec = EngineSpec()
    stages: dict[FolderName, AnyStage] = Field(min_length=1)

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if seeds is not None and not seeds:
            raise ValueError("'seeds' is empty; expected seeds, such as [0, 1, 2]")
        for place, seed in enumerate(seeds or ()):
            if seed in (seeds or ())[:place]:
                raise fail((place,), f"seed {seed} is given twice", seed)
        return seeds

    @model_validator(mode="after")
    def _seed_or_seeds(self) -> "RunSpec":
        if self.seeds is not None and "seed" in self.model_fields_set:
            raise fail("seeds", "give 'seed' or 'seeds', not both", self.seeds)
        return self

    @field_validator("stages")
    @classmethod
    def _references_exist(cls, stages: dict[str, AnyStage]) -> dict[str, AnyStage]:
        names = list(stages)
        for place, (name, stage) in enumerate(stages.items()):
            earlier = names[:place]
            for path, target, marker in stage.references():
                if target not in names:
                    message = (
                        f"there is no stage {target!r}; {nearest(target, earlier)}earlier stages: {_listed(earlier)}"
                    )
                elif target not in earlier:
                    message = (
                        f"stage {name!r} refers to {'itself' if target == name else f'the later stage {target!r}'};"
                        f" a stage uses earlier ones only: {_listed(earlier)}"
                    )
                elif stages[target].kind not in marker.kinds:
                    wanted = " or ".join(marker.kinds)
                    message = f"stage {target!r} is of kind {stages[target].kind!r}; expected kind {wanted}"
                else:
                    continue
                raise fail((name, *path), message, target)
        return stages

    @field_validator("data")
    @classmethod
    def _data_comes_from_outside(cls, data: AnyDataset | None) -> AnyDataset | None:
        if data is not None and any(True for _ in data.references()):
            raise ValueError("data that refers to a stage belongs into the stages that use it, not to the whole run")
        return data

    @model_validator(mode="after")
    def _data_is_given(self) -> "RunSpec":
        for name, stage in self.stages.items():
            if stage.data is None and self.data is None:
                raise ValueError(f"stage {name!r} has no data, and the run names none; set 'data' in one of them")
        return self

    def with_each_seed(self) -> "dict[int, RunSpec]":
        """This spec with one seed at a time, by seed, in order."""
        return {seed: self.model_copy(update={"seed": seed, "seeds": None}) for seed in self.seeds or (self.seed,)}

    def seed_of(self, stage: str) -> int:
        """The seed of a stage: its own, or else the run's."""
        own = self.stages[stage].seed
        return self.seed if own is None else own

    def data_of(self, stage: str) -> AnyDataset:
        """The data of a stage."""
        data = self.stages[stage].data or self.data
        assert data is not None
        return data

    def engine_of(self, stage: str) -> EngineSpec:
        """The engine settings of a stage."""
        return self.stages[stage].engine or self.engine


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
