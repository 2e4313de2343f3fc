"""Lets an optimizer's update through, or not, without the host waiting for the device."""

from collections import deque
from typing import Any

import attrs
import torch
from torch import Tensor

#: Whether an update was let through: known to the host, or only to the device so far.
Applied = bool | Tensor


@attrs.define(kw_only=True, eq=False)
class UpdateGate:
    """Keeps gradients that are not finite away from the weights; the same on all ranks, as the global norm is.

    Engines that shard look at the norm inside their update, on the host, and drop their gradients there. Without
    sharding the decision stays on the device: AdamW's kernel gets it as ``found_inf``, as from a gradient scaler, and
    then leaves weights and state as they are. On a CPU the host reads it at once; on a GPU after the next step was
    launched, so that the device never waits for the host. After ``max_skipped`` skipped updates in a row none is let
    through any more: the weights are then still those before them when the host learns of it.

    Attributes:
        device: where the engine computes.
        max_skipped: so many skipped updates in a row close the gate.
    """

    device: torch.device
    max_skipped: int
    _in_a_row: Tensor | None = None
    _decision: Tensor | None = None
    _unread: deque["bool | LaterRead"] = attrs.field(factory=deque)

    @property
    def reads_later(self) -> bool:
        """Whether the host learns of a decision one step late."""
        return self.device.type == "cuda"

    def start(self, num_in_a_row: int) -> None:
        """Goes on from a checkpoint, before which so many updates in a row were skipped."""
        self._in_a_row = torch.tensor(num_in_a_row, device=self.device)

    def before_update(self, engine: Any, norm: Tensor | None) -> None:
        """Decides about the update that comes next, from the global gradient norm; None at an engine that shards."""
        self._decision = None
        if norm is None:
            return
        if self._in_a_row is None:
            self.start(0)
        assert self._in_a_row is not None
        self._decision = norm.isfinite() & (self._in_a_row < self.max_skipped)
        self._in_a_row = torch.where(self._decision, 0, self._in_a_row + 1)
        engine.optimizer.found_inf = (~self._decision).float()

    def after_update(self, engine: Any) -> Applied:
        """Whether the update that has just ended changed the weights."""
        if self._decision is None:
            applied: Applied = bool(engine.was_step_applied())
        elif self.reads_later:
            applied = self._decision
        else:
            applied = bool(self._decision)
        self._unread.append(applied if isinstance(applied, bool) else LaterRead(applied))
        return applied

    def known(self, wait: bool = False) -> list[bool]:
        """Decisions that were not handed out yet, in order: all but the last one, and that one too when told to wait
        or when the host knows it anyway.
        """
        decisions = []
        while self._unread and (wait or len(self._unread) > 1 or isinstance(self._unread[0], bool)):
            first = self._unread.popleft()
            decisions.append(first if isinstance(first, bool) else first.value())
        return decisions


class LaterRead:
    """A flag on the device, on its way to the host."""

    def __init__(self, flag: Tensor) -> None:
        self.event: torch.cuda.Event | None = None
        if flag.device.type == "cuda":
            self.flag = torch.empty((), dtype=torch.bool, pin_memory=True)
            self.flag.copy_(flag, non_blocking=True)
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.event.record()
        else:
            self.flag = flag

    def value(self) -> bool:
        """The flag. Waits for the device only where it has not come that far."""
        if self.event is not None:
            self.event.synchronize()
        return bool(self.flag)
