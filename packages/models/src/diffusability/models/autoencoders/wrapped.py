"""Objects that encode and decode, as autoencoders of the core."""

from typing import Any

from torch import nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.errors import PluginError
from diffusability.models.autoencoders.probing import probed
from diffusability.models.autoencoders.python_autoencoder import PythonAutoencoder


class EncodeDecode(nn.Module):
    """Two functions as one module. Modules, and the modules that functions are methods of, are its submodules."""

    def __init__(self, encode: Any, decode: Any) -> None:
        super().__init__()
        owners = [getattr(function, "__self__", None) for function in (encode, decode)]
        self.owners = nn.ModuleList(dict.fromkeys(owner for owner in owners if isinstance(owner, nn.Module)))
        self.encode = encode
        self.decode = decode


def wrap_autoencoder(autoencoder: Any, probe: tuple[int, ...] | None = None) -> Autoencoder:
    """An object with ``encode`` and ``decode``, or a pair of functions, as an autoencoder; weights stay shared.

    What a parallel wrapper holds (``module``, as of DistributedDataParallel) is taken out of it. Shape facts are found
    by encoding and decoding a small input.

    Args:
        autoencoder: the object.
        probe: shape ``(c, h, w)`` or ``(c, t, h, w)`` of an input that it takes; default: several are tried.

    Raises:
        PluginError: it lacks one of the two, or none of the inputs passes through both.
    """
    if isinstance(autoencoder, Autoencoder):
        return autoencoder
    inner = getattr(autoencoder, "module", None)
    if isinstance(inner, nn.Module) and not callable(getattr(autoencoder, "encode", None)):
        return wrap_autoencoder(inner, probe)
    name = f"autoencoder {type(autoencoder).__name__}"
    if isinstance(autoencoder, tuple | list):
        if len(autoencoder) != 2 or not all(map(callable, autoencoder)):
            raise PluginError(f"{name}: expected two functions, (encode, decode)")
        name = "autoencoder (encode, decode)"
        model: nn.Module = EncodeDecode(*autoencoder)
    else:
        for method in ("encode", "decode"):
            if not callable(getattr(autoencoder, method, None)):
                raise PluginError(
                    f"{name} has no method {method!r}; expected an object with encode and decode, a pair (encode,"
                    " decode), or a name such as 'flux:weights/vae'"
                )
        is_module = isinstance(autoencoder, nn.Module)
        model = autoencoder if is_module else EncodeDecode(autoencoder.encode, autoencoder.decode)
    made = PythonAutoencoder(model=model, info=probed(model, name, probe), name=name)
    made.training = model.training
    return made
