"""``dfz ema``."""

from pathlib import Path

import typer

from diffusability.core.errors import SpecError
from diffusability.core.numerics.power_function import LARGEST_SIGMA_REL
from diffusability.core.run.selection import select_model


def write_averaged_model(
    run: Path, stage: str | None, sigma_rel: float, to: Path, variant: str | None, step: int | None
) -> None:
    """Writes the model of a stage with an average of the asked width, and says from what it was made."""
    if not 0 < sigma_rel <= LARGEST_SIGMA_REL:
        raise SpecError(f"--sigma-rel is {sigma_rel!r}; expected more than 0 and at most {LARGEST_SIGMA_REL:.4f}")
    folder = select_model(run, stage, variant).directory
    from diffusability.core.engine.averages.averaged_models import synthesize_model

    made = synthesize_model(folder, sigma_rel, to, step)
    typer.echo(f"{to}: average of width {sigma_rel:g} after step {made.step}, from {len(made.terms)} snapshots")
