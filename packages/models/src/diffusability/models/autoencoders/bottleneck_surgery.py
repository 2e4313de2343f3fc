"""Another number of latent channels for trained weights: linear maps folded into the bottleneck's convolutions."""

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.models.autoencoders.bottleneck import Bottleneck, Conv

#: Log variance of channels that are new: standard deviation 0.05.
_NEW_LOGVAR = -6.0


@attrs.frozen(kw_only=True, eq=False)
class ChannelMap:
    """Linear maps between old and new latents: ``z' = to_new z`` and ``z ~ to_old z'``.

    Log variances of new channels are those of a Gaussian under the map, ``log sum_i to_new_i^2 s_i^2``, with the
    weighted mean of logarithms in place of the logarithm of the weighted mean.
    """

    to_new: Float[Tensor, "new old"]
    to_old: Float[Tensor, "old new"]


#: Directions to which the decoder is blind count at least this share of the one that it sees best.
_LEAST_SHARE = 1e-4


def decoder_metric(bottleneck: Bottleneck) -> Float[Tensor, "c c"]:
    """What a change d of latents does to the decoder's first features, as the quadratic form ``d^T G d``.

    ``G = A^T (sum_k W_k^T W_k + S^T S / K) A``, with A of ``post_quant``, W_k the K taps of the first convolution, and
    S their sum: changes that differ from pixel to pixel, and changes that do not.
    """
    taps = bottleneck.first.weight.detach().double().flatten(2)
    total = taps.sum(2)
    metric = torch.einsum("oik,ojk->ij", taps, taps) + total.T @ total / taps.shape[2]
    if bottleneck.post_quant is not None:
        matrix = bottleneck.post_quant.weight.detach().double().flatten(1)
        metric = matrix.T @ metric @ matrix
    return metric.float()


def principal_map(
    second_moment: Float[Tensor, "c c"], channels: int, metric: Float[Tensor, "c c"] | None = None
) -> ChannelMap:
    """The projection of latents on their principal components, which loses the least of ``E[d^T G d]``.

    With H the root of the metric G and U the leading eigenvectors of ``H M H``, ``z' = s U^T H z`` and
    ``z ~ H^-1 U z' / s``; each s gives its component the mean square of the old channels. Without a metric, G and s
    are 1: a rotation.

    About zero rather than about the mean, so that zeros stay zeros: convolutions pad latents with them.
    """
    moment = second_moment.double()
    if metric is None:
        components = torch.linalg.eigh(moment).eigenvectors.flip(1)[:, :channels].float()  # descending
        return ChannelMap(to_new=components.T, to_old=components)
    shares, directions = torch.linalg.eigh(metric.double())
    roots = shares.clamp_min(_LEAST_SHARE * float(shares.max())).sqrt()
    root, inverse = directions * roots @ directions.T, directions / roots @ directions.T
    energies, vectors = torch.linalg.eigh(root @ moment @ root)
    leading = vectors.flip(1)[:, :channels]
    scale = (moment.diagonal().mean() / energies.flip(0)[:channels].clamp_min(1e-12)).sqrt()
    to_new, to_old = scale[:, None] * (leading.T @ root), inverse @ leading / scale
    return ChannelMap(to_new=to_new.float(), to_old=to_old.float())


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
    if old.is_gaussian:
        squares = to_new.square().sum(1)
        _bias(new.moments)[len(to_new) :].add_(torch.where(squares > 0, squares, 1.0).log())
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
