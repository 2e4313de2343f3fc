"""The text that goes with an exported denoiser."""

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.models.exporting.evidence import Evidence
from diffusability.core.models.exporting.model_card import (
    card_header,
    card_metrics,
    card_protocols,
    card_recipe,
    model_name,
)
from diffusability.core.run.selection import TrainedModel

_SAMPLING = """```python
from diffusability.core import load_generator

generator = load_generator(folder, sampler={"kind": "euler", "steps": 40})
images = generator.at(range(16)).images  # b c h w in [-1, 1]
```"""


def denoiser_card(model: TrainedModel, evidence: Evidence, *, diffusion: DiffusionModel, exchange: str | None) -> str:
    """The card of a denoiser; ``exchange`` is the folder in another library's layout, if there is one."""
    classes = "unconditional" if diffusion.num_classes is None else f"{diffusion.num_classes} classes"
    count = sum(parameter.numel() for parameter in diffusion.denoiser.parameters())
    other = f" Weights in the layout of others are in `{exchange}/`." if exchange else ""
    facts = (
        f"A `{diffusion.spec.kind}` of {count / 1e6:.2f} M parameters on latents of shape {diffusion.latent_shape!r},"
        f" {classes}, trained with [diffusability](https://pypi.org/project/diffusability)."
    )
    what = f"It predicts {diffusion.parametrisation.prediction} of normalised latents."
    files = "`model.safetensors` also holds the normaliser of latents; `autoencoder/` decodes them."
    lines = [facts, "", f"{what} {files}{other}", "", _SAMPLING, ""]
    return "\n".join(
        [
            card_header(model, evidence, "diffusability", ["diffusion", "diffusability"], "generation"),
            f"# {model_name(model)}",
            "",
            *lines,
            *card_metrics(evidence.evaluations),
            *card_protocols(evidence.evaluations),
            *card_recipe(model, evidence),
        ]
    )
