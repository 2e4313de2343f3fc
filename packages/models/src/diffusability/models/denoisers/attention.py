"""Attention and GELU, each by the fastest of the equal ways that a device has."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Heads = Float[Tensor, "b heads n d"]

#: Up to this many tokens two batched matrix products beat the CPU's fused kernel in bf16, most of all backward: by 3.4
#: times at 64 tokens, 1.6 at 256, 1.4 at 512, and not at all at 2048 (see ``benchmarks/dit_tokens.py``).
_MOST_TOKENS_FOR_PRODUCTS = 512


def attend(queries: Heads, keys: Heads, values: Heads) -> Heads:
    """``softmax(q k^T / sqrt(d)) v`` (Vaswani et al. 2017, equation 1).

    By ``scaled_dot_product_attention``, but on a CPU in bf16 with few tokens, where products and a softmax are faster.
    The scores are then rounded to bf16; the softmax is computed in float32 either way.
    """
    if _products_are_faster(queries):
        with torch.autocast("cpu", enabled=False):
            heads = (queries.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1))
            mixed = _products(*heads) if _decides_itself_what_to_keep() else _again_when_backward(*heads)
        return mixed.view(*queries.shape[:2], *mixed.shape[1:])
    return F.scaled_dot_product_attention(queries, keys, values)


def _products(
    queries: Float[Tensor, "s n d"], keys: Float[Tensor, "s n d"], values: Float[Tensor, "s n d"]
) -> Float[Tensor, "s n d"]:
    unused = queries.new_empty(())
    scores = torch.baddbmm(unused, queries, keys.mT, beta=0, alpha=queries.shape[-1] ** -0.5)
    return torch.softmax(scores, dim=-1) @ values


def _again_when_backward(
    queries: Float[Tensor, "s n d"], keys: Float[Tensor, "s n d"], values: Float[Tensor, "s n d"]
) -> Float[Tensor, "s n d"]:
    """Keeps no weights of attention for the backward pass, as the fused kernel does not; so no memory is lost."""
    mixed: Tensor = checkpoint(_products, queries, keys, values, use_reentrant=False, preserve_rng_state=False)
    return mixed


def _decides_itself_what_to_keep() -> bool:
    return torch.compiler.is_compiling() or not torch.is_grad_enabled()


def _products_are_faster(queries: Heads) -> bool:
    return (
        queries.device.type == "cpu"
        and queries.dtype == torch.bfloat16
        and queries.shape[-2] <= _MOST_TOKENS_FOR_PRODUCTS
    )


def gelu(values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """GELU by its tanh approximation, ``x/2 (1 + tanh(u))``, ``u = sqrt(2/pi) (x + 0.044715 x^3)``.

    Source: Hendrycks & Gimpel (2016), section 2. In compiled code for a CPU it is ``x sigmoid(2u)``, which is the same
    number and takes half of the time there; outside of it, that would be more passes over memory.
    """
    if torch.compiler.is_compiling() and values.device.type == "cpu":
        x = values.float()
        return (x * torch.sigmoid(1.5957691216057308 * x * (1 + 0.044715 * x * x))).to(values.dtype)
    return F.gelu(values, approximate="tanh")
