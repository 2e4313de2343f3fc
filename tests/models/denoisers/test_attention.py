import pytest
import torch

from diffusability.models.denoisers.attention import attend, gelu


@pytest.mark.parametrize("tokens", [6, 520], ids=["by products", "by the fused kernel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_equals_the_formula(dtype: torch.dtype, tokens: int) -> None:
    """Values and gradients against a softmax in float64, within the rounding of the dtype, on either path."""
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(2, 3, tokens, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]
    exact = [tensor.detach().double().requires_grad_() for tensor in heads]
    q, k, v = exact
    expected = torch.softmax(q @ k.mT / 8**0.5, -1) @ v
    attended = attend(*heads)
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    (expected * weights).sum().backward()
    (attended.double() * weights).sum().backward()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(attended.double(), expected, rtol=tolerance, atol=tolerance)
    for ours, reference in zip(heads, exact, strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=0, atol=5 * tolerance)


def test_gelu_in_compiled_code_is_the_tanh_approximation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form that is used inside compiled code against torch's own, over the whole range."""
    values = torch.linspace(-12, 12, 4001)
    expected = torch.nn.functional.gelu(values, approximate="tanh")
    torch.testing.assert_close(gelu(values), expected, rtol=0, atol=0)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(gelu(values), expected, rtol=1e-5, atol=1e-6)
    assert gelu(values.bfloat16()).dtype == torch.bfloat16


def test_attention_keeps_no_weights_for_the_backward_pass() -> None:
    """The largest tensor that autograd keeps of attention in bf16 against the queries: not tokens times tokens."""
    heads = [torch.randn(1, 1, 128, 8).bfloat16().requires_grad_() for _ in range(3)]
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        attend(*heads)
    assert max(kept, default=0) <= heads[0].numel()
