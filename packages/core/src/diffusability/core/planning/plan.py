"""From a spec file to the stages that must run: variants resolved, equal stages shared, each with its digest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from pydantic import ValidationError

from diffusability.core.errors import Problem, SpecError, nearest
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.planning.extends import read_spec
from diffusability.core.planning.overlay import overlay, override
from diffusability.core.planning.overrides import is_meant, is_of_the_run
from diffusability.core.planning.problems import problems_of
from diffusability.core.planning.source import Source
from diffusability.core.planning.table import validate_table
from diffusability.core.specs.components import AnyDataset
from diffusability.core.specs.engine import EngineSpec
from diffusability.core.specs.run import RunSpec, folder_name
from diffusability.core.specs.stages import StageSpec
from diffusability.core.specs.table import KEY as TABLE
from diffusability.core.specs.table import TableSpec

DEFAULT_VARIANT = "default"


def digest_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity, hexadecimal."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


@attrs.frozen(kw_only=True, eq=False)
class PlannedStage:
    """A stage with everything resolved that it depends on.

    Attributes:
        name: its name in the spec.
        variants: the variants that share it.
        spec: what it does.
        data: its data.
        engine: its engine settings.
        seed: what it draws from, derived from its name and from its seed in the spec or else the run's.
        spec_seed: its seed in the spec or else the run's: of what stages with other names draw alike.
        identity: everything that can change its result, as plain data.
        digest: of its identity (hexadecimal SHA-256).
        inputs: the stages it uses, by name.
    """

    name: str
    variants: tuple[str, ...]
    spec: StageSpec
    data: AnyDataset
    engine: EngineSpec
    seed: int
    spec_seed: int
    identity: Mapping[str, Any]
    digest: str
    inputs: Mapping[str, "PlannedStage"]

    @property
    def directory_name(self) -> str:
        """Folder of the stage below ``stages/``."""
        return f"{self.name}-{self.digest[:8]}"

    def resolved(self) -> dict[str, Any]:
        """Everything that defines it, complete with defaults, as plain data."""
        stage = self.spec.model_dump(mode="json")
        stage["data"] = self.data.model_dump(mode="json")
        stage["engine"] = self.engine.model_dump(mode="json")
        return {
            "name": self.name,
            "digest": self.digest,
            "seed": self.seed,
            "inputs": {name: stage.digest for name, stage in self.inputs.items()},
            "stage": stage,
        }


@attrs.frozen(kw_only=True)
class PlannedVariant:
    """A variant of the spec with one of its seeds.

    Attributes:
        base: name of the variant in the spec.
        seed: the run's seed.
    """

    base: str
    seed: int


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """What a spec file asks for.

    A variant with several seeds is planned once for each, as ``BASE-seedN``; everything that is by variant is by
    these names. All variants with the first seed come first, then all with the second.

    Attributes:
        name: name of the run.
        source: the file as written, laid over what it extends.
        variants: the variant of the spec and the seed of each planned variant.
        specs: the validated spec of each variant.
        sources: each variant's data with the places of its values.
        stages: each variant's stages by name.
        order: all stages, each once, in the order in which they run.
        table: the table of the results, or None; no part of what is run.
        chosen: the planned variants that a command line names; all where it names none.
        overrides: the ``path=value`` changes of the command line, which are those of the chosen variants alone.
    """

    name: str
    source: Source
    variants: Mapping[str, PlannedVariant]
    specs: Mapping[str, RunSpec]
    sources: Mapping[str, Source]
    stages: Mapping[str, Mapping[str, PlannedStage]]
    order: Sequence[PlannedStage]
    table: TableSpec | None = None
    chosen: frozenset[str] = frozenset()
    overrides: Sequence[str] = ()

    @property
    def bases(self) -> list[str]:
        """The variants of the spec, whatever their seeds."""
        return list(dict.fromkeys(variant.base for variant in self.variants.values()))

    def named(self, names: Sequence[str]) -> list[str]:
        """The planned variants that are meant, in order: each by its own name, or all seeds by that of the spec.

        All are meant when none is named.

        Raises:
            SpecError: there is no such variant.
        """
        known = list(dict.fromkeys([*self.variants, *self.bases]))
        for name in names:
            if name not in known:
                raise _unknown("variant", name, known)
        wanted = set(names)
        return [name for name, variant in self.variants.items() if not names or wanted & {name, variant.base}]


def _unknown(kind: str, name: str, known: Sequence[str]) -> SpecError:
    return SpecError(f"there is no {kind} {name!r}; {nearest(name, known)}{kind}s: {', '.join(known)}")


def load_plan(path: Path, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> Plan:
    """Reads a spec file with what it extends, overlays its variants, validates each and plans the stages.

    Args:
        path: the YAML file.
        overrides: ``path=value`` changes, laid over every variant that is meant.
        only: the variants that are meant, or one of their seeds each (``se-seed1``); all where none is named. The
            others are planned as the file has them.

    Raises:
        SpecError: with every problem that was found, each with its place in the file; there is no such variant.
    """
    source = read_spec(path)
    sources, specs = {}, {}
    problems: list[Problem] = []
    shared = source.without("variants").without(TABLE)
    of_table = [assignment for assignment in overrides if assignment.lstrip().startswith((f"{TABLE}.", f"{TABLE}="))]
    for name, change in _variants_of(source).items():
        try:
            resolved = overlay(shared, change)
            for assignment in overrides:
                if assignment not in of_table and (is_meant(name, only) or is_of_the_run(assignment)):
                    resolved = override(resolved, assignment)
            specs[name] = validate(resolved)
            sources[name] = resolved
        except SpecError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise SpecError(problems)
    stages = list(dict.fromkeys(stage for spec in specs.values() for stage in spec.stages))
    with_table = source
    for assignment in of_table:
        with_table = override(with_table, assignment)
    table = validate_table(with_table, (TABLE,), list(specs), stages) if TABLE in with_table.data else None
    plan = _plan(source, specs, sources, table)
    return attrs.evolve(plan, chosen=frozenset(plan.named(only)), overrides=tuple(overrides))


def select(plan: Plan, variants: Sequence[str] = (), until: str | None = None) -> list[PlannedStage]:
    """The stages to run, in order: of some variants (all when none is named), up to and with stage ``until``.

    A variant of the spec stands for all of its seeds.

    Raises:
        SpecError: there is no such variant or stage.
    """
    known = list(dict.fromkeys(stage.name for stage in plan.order))
    if until is not None and until not in known:
        raise _unknown("stage", until, known)
    chosen: dict[str, PlannedStage] = {}
    for variant in plan.named(variants):
        for name, stage in plan.stages[variant].items():
            chosen[stage.directory_name] = stage
            if name == until:
                break
    return [stage for stage in plan.order if stage.directory_name in chosen]


def validate(source: Source) -> RunSpec:
    """Validates one variant. Raises SpecError with the place of each problem."""
    try:
        return RunSpec.model_validate(source.data)
    except ValidationError as error:
        raise problems_of(error, source) from None


def _variants_of(source: Source) -> dict[str, Source]:
    if "variants" not in source.data:
        return {DEFAULT_VARIANT: Source(None, {}, source.name)}
    variants = source.data["variants"]
    if not isinstance(variants, dict) or not variants:
        raise SpecError(
            [
                Problem(
                    f"'variants' must map names to changes, got {variants!r}",
                    "variants",
                    source.locate(("variants",)),
                )
            ]
        )
    for name in variants:
        try:
            folder_name(name)
        except ValueError as error:
            raise SpecError([Problem(str(error), f"variants.{name}", source.locate(("variants", name)))]) from None
    return {name: source.sub(("variants", name)) for name in variants}


def _by_seed(specs: Mapping[str, RunSpec], source: Source) -> tuple[dict[str, PlannedVariant], dict[str, RunSpec]]:
    """Each variant with each of its seeds, all variants with one seed before those with the next."""
    with_seeds = {base: spec.with_each_seed() for base, spec in specs.items()}
    variants: dict[str, PlannedVariant] = {}
    planned = {}
    for seed in dict.fromkeys(seed for by_seed in with_seeds.values() for seed in by_seed):
        for base, by_seed in with_seeds.items():
            if seed not in by_seed:
                continue
            name = f"{base}-seed{seed}" if len(by_seed) > 1 else base
            if name in variants:
                message = f"variant {name!r} is also what another variant is called with one of its seeds; rename it"
                raise SpecError([Problem(message, f"variants.{name}", source.locate(("variants", name)))])
            variants[name], planned[name] = PlannedVariant(base=base, seed=seed), by_seed[seed]
    return variants, planned


def _plan(
    source: Source, base_specs: Mapping[str, RunSpec], base_sources: Mapping[str, Source], table: TableSpec | None
) -> Plan:
    variants, specs = _by_seed(base_specs, source)
    by_identity: dict[tuple[str, str], PlannedStage] = {}
    stages: dict[str, dict[str, PlannedStage]] = {}
    for variant, spec in specs.items():
        planned: dict[str, PlannedStage] = {}
        for name in spec.stages:
            stage = _planned(name, spec, planned, variant)
            shared = by_identity.get((name, stage.digest))
            if shared is not None:
                stage = attrs.evolve(shared, variants=(*shared.variants, variant))
            by_identity[name, stage.digest] = stage
            planned[name] = stage
        stages[variant] = planned
    # A stage that several variants share was evolved: let every variant see the last form.
    final = {
        variant: {name: by_identity[name, stage.digest] for name, stage in planned.items()}
        for variant, planned in stages.items()
    }
    names = sorted({spec.name for spec in specs.values()})
    if len(names) > 1:
        raise SpecError(f"variants cannot change the run's name; found {', '.join(names)}")
    return Plan(
        name=names[0],
        source=source,
        variants=variants,
        specs=specs,
        sources={name: base_sources[variant.base] for name, variant in variants.items()},
        stages=final,
        order=list(by_identity.values()),
        table=table,
    )


def _planned(name: str, spec: RunSpec, earlier: Mapping[str, PlannedStage], variant: str) -> PlannedStage:
    stage, data, engine, seed = spec.stages[name], spec.data_of(name), spec.engine_of(name), spec.seed_of(name)
    used = {target for part in (stage, data) for _, target, _ in part.references()}
    inputs = {target: earlier[target] for target in sorted(used)}
    identity = {
        "name": name,
        "seed": seed,
        "stage": {key: value for key, value in stage.identity().items() if key not in ("data", "engine", "seed")},
        "data": data.identity(),
        "engine": engine.identity(),
        "inputs": {target: used_stage.digest for target, used_stage in inputs.items()},
    }
    return PlannedStage(
        name=name,
        variants=(variant,),
        spec=stage,
        data=data,
        engine=engine,
        seed=derived_seed(seed, name),
        spec_seed=seed,
        identity=identity,
        digest=digest_of(identity),
        inputs=inputs,
    )
