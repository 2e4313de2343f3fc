"""What the engine does to the repeated blocks of a task: it compiles them, and computes their activations again.

The contract: a module that has such blocks lists them in ``repeated_blocks()``. They are modules that are called as
modules, none within another. Names of parameters do not change, and neither do results but by rounding.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from diffusability.core.errors import SpecError
from diffusability.core.specs.engine import EngineSpec

#: Makes what surrounds the first computation of a block's activations, and the second one in the backward pass.
Surrounding = Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]]

#: Shapes and kinds of blocks that one piece of code is compiled for; beyond them torch would fall back silently.
_MAX_VERSIONS = 64


def repeated_blocks(task: nn.Module) -> list[nn.Module]:
    """The blocks that the modules of a task list, each once."""
    blocks: dict[int, nn.Module] = {}
    for module in task.modules():
        listed: Callable[[], Iterable[nn.Module]] | None = getattr(module, "repeated_blocks", None)
        if callable(listed):
            blocks |= {id(block): block for block in listed()}
    return list(blocks.values())


def prepare_blocks(
    task: nn.Module, engine: EngineSpec, surrounding: Surrounding = noop_context_fn, **compiling: Any
) -> None:
    """Wraps the blocks of a task as the engine's settings ask; to be called before DeepSpeed gets the task.

    Args:
        task: what is trained.
        engine: the settings.
        surrounding: for activations that are computed again.
        compiling: options of ``torch.compile``.

    Raises:
        SpecError: something is asked for that needs blocks, and no part of the task lists any.
    """
    asked = [name for name in ("activation_checkpointing", "compile") if getattr(engine, name)]
    if not asked:
        return
    blocks = repeated_blocks(task)
    if not blocks:
        raise SpecError(
            f"engine.{asked[0]} is true, but no part of what is trained lists repeated_blocks(), which it would be"
            " applied to; leave it out, or add that method to the autoencoder or denoiser"
        )
    for block in blocks:
        if engine.compile:
            block.forward = torch.compile(block.forward, **compiling)
        if engine.activation_checkpointing:
            block.forward = partial(_recomputed, block.forward, surrounding)
    if engine.compile:
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, _MAX_VERSIONS)


def _recomputed(forward: Callable[..., Any], surrounding: Surrounding, *args: Any, **kwargs: Any) -> Any:
    # Not the reentrant kind: that one needs an input with a gradient, and a second forward in a step breaks it.
    return checkpoint(forward, *args, use_reentrant=False, context_fn=surrounding, **kwargs)


@contextmanager
def gathered_as_one(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """While DeepSpeed initialises ZeRO-3: it is to gather each of these blocks by one hook, and none inside of it.

    What is compiled must not have hooks inside. DeepSpeed calls such a block a leaf module. It also reduces the
    gradients of a leaf all at once after the block's backward pass, which fails when a step uses the block twice; it
    does so for the parameters that it finds while it initialises, and therefore is not shown any.
    """
    from deepspeed.utils import set_z3_leaf_module

    hidden = list(blocks)
    for block in hidden:
        set_z3_leaf_module(block, True)
        block.parameters = lambda recurse=True: iter(())  # type: ignore[method-assign]
    try:
        yield
    finally:
        for block in hidden:
            del block.parameters
