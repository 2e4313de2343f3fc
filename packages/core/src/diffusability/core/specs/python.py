"""The kind ``python`` of several groups: a function or class in the user's own file, without a package."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from diffusability.core.plugins.source_file import Target, check_target, parse_target, sources_of
from diffusability.core.specs.base import LocalPath, PluginSpec, Spec
from diffusability.core.specs.components import DatasetSpec, DenoiserSpec, EvaluatorSpec, FeaturesSpec, RegularizerSpec
from diffusability.core.specs.files.contents import FileSet


class FromFile(PluginSpec):
    """What all kinds ``python`` have in common: the file, the name in it, and the arguments of the call."""

    builds: ClassVar[str] = "diffusability.core.plugins.source_module:from_file"

    target: Annotated[str, LocalPath()] = Field(
        description="FILE.py:NAME, a function or class; called with the options, and with the BuildContext as `context`"
        " where it has a parameter of that name"
    )
    options: dict[str, Any] = Field({}, description="keyword arguments of the call")

    @field_validator("target")
    @classmethod
    def _names_code(cls, value: str) -> str:
        parse_target(value)
        return value

    @property
    def source(self) -> Target:
        """The file and the name in it."""
        return parse_target(self.target)

    def check_inputs(self) -> None:
        check_target(self.source, self.options)

    def code(self) -> tuple[FileSet, ...]:
        path = self.source.path
        return (FileSet(root=path.parent, names=sources_of(path), whole=True),)

    def files_read(self) -> dict[str, FileSet]:
        code = {"target": self.code()[0]} if self.source.path.is_file() else {}
        return super().files_read() | code

    def builds_untrained(self) -> bool:
        return False


class PythonRegularizerSpec(FromFile, RegularizerSpec):
    """A regularizer of your own, from a file: {kind: python, target: my_term.py:MyTerm}."""

    kind: Literal["python"] = "python"

    @property
    def label(self) -> str:
        return self.name or self.source.name


class PythonEvaluatorSpec(FromFile, EvaluatorSpec):
    """An evaluator of your own, from a file: {kind: python, target: my_metric.py:MyMetric}."""

    kind: Literal["python"] = "python"

    def distinct_name(self) -> str:
        return f"{self.source} {self.options}"


class PythonDenoiserSpec(FromFile, DenoiserSpec):
    """A denoiser of your own, from a file: {kind: python, target: my_denoiser.py:build}."""

    kind: Literal["python"] = "python"


class PythonFeaturesSpec(FromFile, FeaturesSpec):
    """A feature extractor of your own, from a file: {kind: python, target: my_features.py:build}."""

    kind: Literal["python"] = "python"

    def label(self) -> str:
        return self.source.name


class PythonDatasetSpec(FromFile, DatasetSpec):
    """A dataset of your own, from a file: {kind: python, target: my_data.py:build}; it gets `split`, too."""

    kind: Literal["python"] = "python"


def code_sets(spec: Spec) -> tuple[FileSet, ...]:
    """The sets of source files whose code runs when a spec, or one inside of it, is built."""
    return tuple(files for _, part in spec.walk() if isinstance(part, PluginSpec) for files in part.code())


def code_files(spec: Spec) -> list[Path]:
    """The source files whose code runs when a spec, or one inside of it, is built."""
    return list(dict.fromkeys(files.root / name for files in code_sets(spec) for name in files.names))
