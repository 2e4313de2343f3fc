"""``dfz export``."""

from pathlib import Path

from rich.console import Console

from diffusability.core.run.selection import select_model


def export_model(run: Path, to: Path, stage: str | None, variant: str | None, trust_code: bool = False) -> None:
    """Writes a trained model of a run into a folder of its own."""
    model = select_model(run, stage, variant)
    from diffusability.core.models.exporting.export import export

    export(model, to, trust_code)
    Console(soft_wrap=True).print(f"{model.stage} of variant {model.variant}: {to}", highlight=False, markup=False)
