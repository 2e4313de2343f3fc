"""The variants of one run, or of several, side by side."""

from collections.abc import Iterator, Mapping, Sequence

import attrs

from diffusability.core.report.figures.line_styles import SEED_WIDTH, SHARED, LineStyle, variant_style
from diffusability.core.run.folder_reader import Run, Stage

#: What readers of training curves must know where variants train on latents of different encodings. Latents that are
#: easier to predict have a lower loss and may give worse samples (github.com/hustvl/LightningDiT/issues/50: a loss of
#: .253 and FID 3.17 against .283 and 2.17).
LOSSES_OF_OTHER_LATENTS = (
    "losses do not compare: these variants train on latents of different autoencoders or encodings, and a lower loss"
    " does not mean better samples"
)


@attrs.frozen(kw_only=True, eq=False)
class ComparedVariant:
    """A variant of a run with one of its seeds, and the line style that it has throughout the report.

    Attributes:
        run: the run's label.
        label: its own name.
        base: the name that it shares with its other seeds.
        seed: its seed, or None when the run recorded none.
        style: line style, the same for all seeds.
        stages: its stages by name.
    """

    run: str
    label: str
    base: str
    seed: int | None
    style: LineStyle
    stages: Mapping[str, Stage]


@attrs.frozen(kw_only=True, eq=False)
class VariantGroup:
    """A variant with all of its seeds."""

    label: str
    style: LineStyle
    members: Sequence[ComparedVariant]


@attrs.frozen(kw_only=True, eq=False)
class StageFolder:
    """What variants that share a stage have in common; most often it is one variant's own.

    Attributes:
        label: names of the variants, or that it is all of them.
        base: the same without seeds, equal for all seeds of a variant.
        style: line style that stands for them.
        drawn: the same, thinner where other seeds have lines of their own beside it.
        variants: the names one by one.
        stage: the stage.
    """

    label: str
    base: str
    style: LineStyle
    drawn: LineStyle
    variants: tuple[str, ...]
    stage: Stage

    @property
    def is_one_of_several_seeds(self) -> bool:
        """Whether other seeds of its variant have folders of their own."""
        return self.drawn != self.style


@attrs.frozen(kw_only=True, eq=False)
class Comparison:
    """All variants, the baseline first, and the names of all stages in order.

    Attributes:
        runs: the runs.
        variants: the variants, each with each of its seeds.
        groups: the variants, each with all of its seeds.
        stage_names: the stages.
    """

    runs: Sequence[Run]
    variants: Sequence[ComparedVariant]
    groups: Sequence[VariantGroup]
    stage_names: Sequence[str]

    @property
    def title(self) -> str:
        """The name of the run, or of the runs."""
        return " · ".join(run_labels(self.runs))

    @property
    def num_seeds(self) -> int:
        """How many seeds the variant with the most has."""
        return max((len(group.members) for group in self.groups), default=0)

    @property
    def remarks(self) -> list[str]:
        """What a reader must know before the numbers, each with its stage and variants."""
        labels_by_sentence: dict[str, list[str]] = {}
        for run in self.runs:
            for variant, changes in run.overrides.items():
                for change in changes:
                    labels_by_sentence.setdefault(f"changed on the command line: {change}", []).append(
                        variant if len(self.runs) == 1 else f"{run.name}/{variant}"
                    )
        for folder in self.all_folders():
            for sentence in folder.stage.remarks:
                labels_by_sentence.setdefault(f"{folder.stage.name}: {sentence}", []).append(folder.label)
        for name in self.stage_names:
            folders = [folder for folder in self.folders(name) if folder.stage.trains_on]
            if len({folder.stage.trains_on for folder in folders}) > 1:
                labels_by_sentence[f"{name}: {LOSSES_OF_OTHER_LATENTS}"] = [folder.label for folder in folders]
        return [f"{sentence} ({', '.join(labels)})" for sentence, labels in labels_by_sentence.items()]

    def folders(self, stage_name: str) -> list[StageFolder]:
        """The distinct folders of a stage, in order of variants. Variants without that stage are left out."""
        sharing: dict[object, list[ComparedVariant]] = {}
        for variant in self.variants:
            stage = variant.stages.get(stage_name)
            if stage is not None:
                sharing.setdefault(stage.directory or variant.label, []).append(variant)
        return [self._folder(stage_name, variants) for variants in sharing.values()]

    def all_folders(self) -> Iterator[StageFolder]:
        """The distinct folders of all stages."""
        for name in self.stage_names:
            yield from self.folders(name)

    def _folder(self, stage_name: str, variants: Sequence[ComparedVariant]) -> StageFolder:
        bases = list(dict.fromkeys(variant.base for variant in variants))
        style = SHARED if len(bases) > 1 and len(bases) == len(self.groups) else variants[0].style
        alone = all(len(group.members) == 1 or _covers(variants, group) for group in self._groups_of(bases))
        return StageFolder(
            label=self._joint_label(variants),
            base=self._joint_base(variants[0].run, bases),
            style=style,
            drawn=style if alone else attrs.evolve(style, width=SEED_WIDTH),
            variants=tuple(variant.label for variant in variants),
            stage=variants[0].stages[stage_name],
        )

    def _joint_base(self, run: str, bases: Sequence[str]) -> str:
        if len(bases) > 1:
            if len(bases) == len(self.groups):
                return "all variants"
            if len(bases) == len({variant.base for variant in self.variants if variant.run == run}):
                return f"{run}, all variants"
        return ", ".join(bases)

    def _joint_label(self, variants: Sequence[ComparedVariant]) -> str:
        """Names of variants; of one that is there with all of its seeds, the name that these share."""
        bases = list(dict.fromkeys(variant.base for variant in variants))
        whole = {group.label for group in self._groups_of(bases) if _covers(variants, group)}
        if len(whole) == len(bases):
            return self._joint_base(variants[0].run, bases)
        return ", ".join(
            dict.fromkeys(variant.base if variant.base in whole else variant.label for variant in variants)
        )

    def _groups_of(self, bases: Sequence[str]) -> list[VariantGroup]:
        return [group for group in self.groups if group.label in bases]


def _covers(variants: Sequence[ComparedVariant], group: VariantGroup) -> bool:
    labels = {variant.label for variant in variants}
    return all(member.label in labels for member in group.members)


def run_labels(runs: Sequence[Run]) -> list[str]:
    """The names of runs, numbered where two of them are equal."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def compare(runs: Sequence[Run]) -> Comparison:
    """Lines up the variants of runs. Of several runs, variants are called ``run/variant``."""
    variants: list[ComparedVariant] = []
    styles: dict[str, LineStyle] = {}
    for run_label, run in zip(run_labels(runs), runs, strict=True):
        prefix = "" if len(runs) == 1 else f"{run_label}/"
        for variant, stages in run.variants.items():
            base, seed = run.seeds.get(variant, (variant, None))
            style = styles.setdefault(prefix + base, variant_style(len(styles)))
            variants.append(
                ComparedVariant(
                    run=run_label, label=prefix + variant, base=prefix + base, seed=seed, style=style, stages=stages
                )
            )
    groups = [
        VariantGroup(label=base, style=style, members=[variant for variant in variants if variant.base == base])
        for base, style in styles.items()
    ]
    stage_names = list(dict.fromkeys(name for variant in variants for name in variant.stages))
    return Comparison(runs=runs, variants=variants, groups=groups, stage_names=stage_names)
