"""Another number of latent channels for trained weights: linear maps folded into the bottleneck's convolutions."""

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.models.bottleneck import Bottleneck, Conv

#: Log variance of channels that are new: standard deviation 0.05.
_NEW_LOGVAR = -6.0


@attrs.frozen(kw_only=True, eq=False)
class ChannelMap:
    """Linear maps between old and new latents: ``z' = to_new z`` and ``z ~ to_old z'``.

    Log variances of new channels are means of old ones, weighted by the squares of ``to_new``: the variance of a
    rotated Gaussian, with the mean of logarithms in place of the logarithm of the mean.
    """

    to_new: Float[Tensor, "new old"]
    to_old: Float[Tensor, "old new"]


def principal_map(second_moment: Float[Tensor, "c c"], channels: int) -> ChannelMap:
    """The projection on the principal components of latents about zero, which loses the least of their square.

    About zero rather than about their mean, so that zeros stay zeros: convolutions pad latents with them.
    """
    _, vectors = torch.linalg.eigh(second_moment.double())  # ascending
    components = vectors.flip(1)[:, :channels].float()
    return ChannelMap(to_new=components.T, to_old=components)


def identity_map(old: int, new: int) -> ChannelMap:
    """The first channels as they are; when growing, new channels that the old ones do not know of."""
    return ChannelMap(to_new=torch.eye(new, old), to_old=torch.eye(old, new))


@torch.no_grad()
def operate(old: Bottleneck, new: Bottleneck, mapping: ChannelMap, generator: torch.Generator) -> None:
    """Fills a new bottleneck so that it encodes ``to_new`` of the old latents, and decodes ``to_old`` of its own.

    When growing, the decoder is blind to new channels at first, so that the decoded function does not change; the
    encoder fills them with random features of its own, so that the decoder's weights for them have gradients.
    """
    to_new, to_old = mapping.to_new, mapping.to_old
    grows = to_new.shape[0] > to_new.shape[1]
    weight, bias = _folded(old.moments, old.quant)
    halves = [to_new, _weights_of_logvar(to_new)] if old.is_gaussian else [to_new]
    rows: Tensor = torch.block_diag(*halves)  # type: ignore[no-untyped-call]
    new.moments.weight.copy_(_rows(rows, weight))
    _bias(new.moments).copy_(rows @ bias)
    if grows:
        _grow(new.moments, old_weight=weight, channels=to_new.shape, gaussian=old.is_gaussian, generator=generator)
    for target in (new.quant, new.post_quant):
        if target is not None:
            target.weight.copy_(torch.eye(len(target.weight)).view_as(target.weight))
            _bias(target).zero_()
    for source, target in zip(old.means, new.means, strict=True):
        target.weight.copy_(_rows(to_new, source.weight))
    for source, target in zip(old.readers, new.readers, strict=True):
        target.weight.copy_(_columns(source.weight, to_old))
        if source.bias is not None:
            _bias(target).copy_(source.bias)
    _set_first(old, new, to_old)


def _set_first(old: Bottleneck, new: Bottleneck, to_old: Float[Tensor, "old new"]) -> None:
    """The decoder's first convolution, of ``A to_old z' + a`` with A and a from the old ``post_quant``.

    The constant a goes into the new ``post_quant`` as far as it lies in the span of ``A to_old``; what is left goes
    into the bias, which is exact but at borders, where the convolution pads with zeros.
    """
    _bias(new.first).copy_(_bias(old.first))
    if old.post_quant is None or new.post_quant is None:
        new.first.weight.copy_(_columns(old.first.weight, to_old))
        return
    matrix = old.post_quant.weight.flatten(1)
    constant = _bias(old.post_quant)
    through = matrix @ to_old
    shift = torch.linalg.lstsq(through.double(), constant.double()[:, None], driver="gelsd").solution[:, 0].float()
    left = constant - through @ shift
    _bias(new.post_quant).copy_(shift)
    new.first.weight.copy_(_columns(old.first.weight, through))
    _bias(new.first).add_(old.first.weight.flatten(2).sum(2) @ left)


def _folded(conv: Conv, quant: Conv | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution followed by one of single pixels: they compose to one."""
    if quant is None:
        return conv.weight, _bias(conv)
    matrix = quant.weight.flatten(1)
    return _rows(matrix, conv.weight), matrix @ _bias(conv) + _bias(quant)


def _weights_of_logvar(to_new: Float[Tensor, "new old"]) -> Float[Tensor, "new old"]:
    return to_new.square() / to_new.square().sum(1, keepdim=True).clamp_min(1e-12)


def _grow(conv: Conv, *, old_weight: Tensor, channels: torch.Size, gaussian: bool, generator: torch.Generator) -> None:
    """New means are random features as large as the old ones; new log variances are constant."""
    new, old = channels
    fresh = torch.randn(conv.weight[old:new].shape, generator=generator) * old_weight[:old].std()
    conv.weight[old:new].copy_(fresh)
    if gaussian:
        conv.weight[new + old :].zero_()
        _bias(conv)[new + old :].fill_(_NEW_LOGVAR)


def _rows(matrix: Float[Tensor, "m n"], weight: Tensor) -> Tensor:
    """Applies a matrix to the outputs of a convolution."""
    applied: Tensor = torch.tensordot(matrix, weight, dims=1)
    return applied


def _columns(weight: Tensor, matrix: Float[Tensor, "m n"]) -> Tensor:
    """Applies a matrix to the inputs of a convolution."""
    applied: Tensor = torch.tensordot(weight, matrix, dims=([1], [0])).movedim(-1, 1)
    return applied


def _bias(conv: Conv) -> Tensor:
    assert conv.bias is not None
    return conv.bias
