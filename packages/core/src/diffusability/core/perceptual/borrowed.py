"""Networks that a loss uses and that are not part of the model."""

from typing import Any, Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class BorrowedNetwork(Generic[Network]):
    """Keeps a fixed network out of the module that uses it.

    As an attribute of a module it is not registered: its weights are not among the module's parameters or state, so
    that they are neither trained, averaged, saved, nor sharded by ZeRO. It follows the data to its device.
    """

    def __init__(self, network: Network) -> None:
        self.network = network.eval().requires_grad_(False)

    def on(self, device: torch.device) -> Network:
        """The network, on a device."""
        there = all(tensor.device == device for tensor in (*self.network.parameters(), *self.network.buffers()))
        return self.network if there else self.network.to(device)

    def __deepcopy__(self, memo: dict[int, Any]) -> "BorrowedNetwork[Network]":
        return self
