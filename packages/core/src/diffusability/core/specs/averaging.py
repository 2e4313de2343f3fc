"""Which averages of the weights a training stage keeps."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from diffusability.core.specs.base import Spec, fail

#: The relative width of the plain mean of all weights, 12^(-1/2): a power-function average cannot be wider.
_LARGEST_SIGMA_REL = 0.2886


class PowerFunctionEMASpec(Spec):
    """Power-function averages (Karras et al. 2024), and snapshots for `dfz ema` to make one of any length of."""

    sigma_rel: tuple[float, ...] = Field(
        (0.05, 0.10), min_length=1, description="width of each average as a share of the training so far; two to choose"
    )
    snapshot_every: PositiveInt = Field(1000, description="optimizer steps between snapshots; the last step makes one")
    snapshot_dtype: Literal["fp32", "fp16"] = Field("fp32", description="precision of snapshots on disk")

    @field_validator("sigma_rel")
    @classmethod
    def _widths(cls, widths: tuple[float, ...]) -> tuple[float, ...]:
        for width in widths:
            if not 0 < width <= _LARGEST_SIGMA_REL:
                raise ValueError(f"sigma_rel is {width!r}; expected more than 0 and at most {_LARGEST_SIGMA_REL}")
        if len(set(widths)) < len(widths):
            raise ValueError(f"sigma_rel names a width twice: {list(widths)!r}")
        return widths


class EMASpec(Spec):
    """Moving averages of the weights; later stages get the first one, and the others are saved beside it."""

    half_life_steps: PositiveFloat | tuple[PositiveFloat, ...] | None = Field(
        None, description="half-life of an exponential average in optimizer steps, or several"
    )
    rampup_ratio: PositiveFloat | None = Field(
        None,
        description="half-lives grow with training: at most this share of the steps so far, such as 0.05; default: they"
        " are the same from the first step on",
    )
    power_function: PowerFunctionEMASpec | None = None

    @field_validator("half_life_steps")
    @classmethod
    def _half_lives_differ(cls, steps: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        if isinstance(steps, tuple):
            if not steps:
                raise ValueError("half_life_steps is an empty list; give at least one, or leave it out")
            if len({f"{step:g}" for step in steps}) < len(steps):
                raise ValueError(f"half_life_steps names a half-life twice: {list(steps)!r}")
        return steps

    @model_validator(mode="after")
    def _some_average(self) -> "EMASpec":
        if self.half_life_steps is None and self.power_function is None:
            raise ValueError("ema averages nothing: give half_life_steps, or power_function: {}, or leave ema out")
        if self.half_life_steps is None and self.rampup_ratio is not None:
            text = (
                f"rampup_ratio {self.rampup_ratio!r} shortens half-lives, and there is no half_life_steps; leave it out"
            )
            raise fail("rampup_ratio", text, self.rampup_ratio, type(self).__name__)
        return self

    def half_lives(self) -> tuple[float, ...]:
        """The half-lives of the exponential averages."""
        steps = self.half_life_steps
        return () if steps is None else steps if isinstance(steps, tuple) else (steps,)

    def warnings(self, steps: int) -> list[str]:
        """A sentence on each half-life that is longer than a training of so many steps, which such an average lags."""
        if self.rampup_ratio is not None and self.rampup_ratio < 1:
            return []
        return [
            f"ema.half_life_steps {half_life:g} is longer than the stage's {steps} steps:"
            f" {0.5 ** (steps / half_life):.0%} of the average will be the weights from before training; expected a"
            " shorter one, or a rampup_ratio such as 0.05"
            for half_life in self.half_lives()
            if half_life > steps
        ]

    def num_averages(self) -> int:
        """How many averages are kept."""
        return len(self.half_lives()) + (len(self.power_function.sigma_rel) if self.power_function else 0)
