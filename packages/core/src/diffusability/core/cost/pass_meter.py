"""Counts operations, and the most memory that tensors take at a time."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

from diffusability.core.cost.amounts import Flops
from diffusability.core.cost.stand_ins import is_stand_in

_ATEN = torch.ops.aten
_LOW = (torch.bfloat16, torch.float16)


def _cpu_attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


def _cpu_attention_backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    shapes = (grad.shape, query.shape, key.shape, value.shape)
    return int(sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]


#: torch's formulas, and those of the CPU's fused attention, which it lacks.
_FORMULAS: Mapping[Any, Callable[..., int]] = {
    **flop_registry,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward,
}


class PassMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts matrix products and convolutions, as torch's flop counter does, and bytes of what is made inside.

    A tensor counts from the operation that allocates its memory until nothing refers to it any more. So ``peak`` is
    what temporaries and the activations kept for the backward pass take together, also with recomputation. Tensors
    from before, such as weights and their gradients, do not count.

    Where code asks a fake tensor for its value, it gets 1.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = Flops()
        self.live = 0
        self.peak = 0
        self._known: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if func is _ATEN._local_scalar_dense.default and is_stand_in(tensors[0]):
            return _one(tensors[0].dtype)
        for tensor in tensors:
            self._known.setdefault(tensor.untyped_storage(), True)
        out = func(*args, **kwargs)
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is not None:
            count = float(formula(*args, **kwargs, out_val=out))
            low = next(tensor.dtype for tensor in tensors if tensor.is_floating_point()) in _LOW
            self.flops = self.flops + (Flops(low=count) if low else Flops(single=count))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        return out

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, size).atexit = False

    def _forget(self, size: int) -> None:
        self.live -= size


def _one(dtype: torch.dtype) -> bool | int | float:
    if dtype == torch.bool:
        return True
    return 1.0 if dtype.is_floating_point else 1


#: What autocast computes in float32 on CUDA and not on CPUs (pytorch.org/docs/stable/amp.html), by name.
_FLOAT32_ON_CUDA = frozenset(
    """
    __pow__ __rdiv__ __rpow__ __rtruediv__ acos asin binary_cross_entropy_with_logits cosh
    cosine_similarity cross_entropy cumprod cumsum dist erfinv exp expm1 group_norm kl_div l1_loss
    layer_norm log log10 log1p log2 log_softmax mse_loss nll_loss norm normalize pdist pow prod
    reciprocal renorm rms_norm rsqrt sinh smooth_l1_loss softmax softmin softplus sum tan
    """.split()  # noqa: SIM905 - a list of 44 words
)


class CUDAAutocast(TorchFunctionMode):
    """Inside, autocast on the CPU casts to float32 what it would cast on CUDA: norms, softmax and losses.

    Their inputs and outputs then take as much memory as they would there.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FLOAT32_ON_CUDA and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, _at_least_float32, (args, kwargs))
        return func(*args, **kwargs)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _LOW else tensor
