"""When a sampler's guidance needs a model with classes, and what is said when the model has none. Free of torch."""

from diffusability.core.specs.components import SamplerSpec


def needs_classes(sampler: SamplerSpec) -> bool:
    """Whether a sampler guides by classes: it has a scale, and no weaker model in their place."""
    return sampler.guidance_scale != 1 and getattr(sampler, "guide", None) is None


def no_classes_message(guidance_scale: float, reason: str) -> str:
    """What is wrong with a guidance scale, for a model without classes; ``reason`` says how that is known."""
    return (
        f"guidance_scale {guidance_scale!r} needs a class-conditional model, and {reason};"
        " expected guidance_scale 1, or a guide"
    )
