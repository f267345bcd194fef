"""One training shared by several processes, one per device: torch's DistributedDataParallel, with nothing lost by it.

Each process takes its part of every batch. Gradients are averaged by DDP; batch normalisation takes its statistics over
the whole batch (``SharedNorm``), so that several processes learn what one would learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Which of the processes this one is."""

    rank: int = 0
    count: int = 1


def run(work: Callable[..., None], arguments: Sequence[Any], devices: Sequence[str], rendezvous: Path) -> None:
    """``work(part, device, *arguments)`` in one process per device, which find each other by a file.

    Raises ``torch.multiprocessing.ProcessRaisedException`` where one of them failed.
    """
    rendezvous.unlink(missing_ok=True)
    meeting = str(rendezvous.resolve()), max(1, torch.get_num_threads() // len(devices))
    processes.spawn(  # type: ignore[attr-defined, no-untyped-call]
        _process, (work, tuple(arguments), tuple(devices), meeting), nprocs=len(devices)
    )
    rendezvous.unlink(missing_ok=True)


def _process(
    rank: int, work: Callable[..., None], arguments: Sequence[Any], devices: Sequence[str], meeting: tuple[str, int]
) -> None:
    rendezvous, threads = meeting
    torch.set_num_threads(threads)
    part = Part(rank=rank, count=len(devices))
    with joined(part, devices[rank], rendezvous):
        work(part, devices[rank], *arguments)


@contextmanager
def joined(part: Part, device: str, rendezvous: str) -> Iterator[None]:
    """Within it this process is one of ``part.count``."""
    kind = "nccl" if device.startswith("cuda") else "gloo"
    if kind == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(kind, init_method=f"file://{rendezvous}", rank=part.rank, world_size=part.count)
    try:
        yield
    finally:
        dist.destroy_process_group()


def shared(lesson: nn.Module, device: str) -> nn.Module:
    """The lesson as all processes learn it together."""
    _share_norms(lesson)
    places = [torch.device(device)] if device.startswith("cuda") else None
    return nn.parallel.DistributedDataParallel(lesson, device_ids=places, broadcast_buffers=False)


class SharedNorm(_BatchNorm):
    """Batch normalisation over what all processes hold, for 2-D and 3-D maps, on any device.

    Torch's own ``SyncBatchNorm`` does so on CUDA only.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - the name is torch's
        pass

    def forward(self, maps: Tensor) -> Tensor:
        usual, spread = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if not self.training:
            return functional.batch_norm(maps, usual, spread, self.weight, self.bias, eps=self.eps)
        over = (0, *range(2, maps.ndim))
        exact = maps.float()
        count = _over_all(exact.new_tensor(exact.numel() / exact.shape[1]))
        mean = _over_all(exact.sum(over)) / count
        wide = (1, -1, *[1] * (maps.ndim - 2))
        centred = exact - mean.view(wide)
        variance = _over_all((centred**2).sum(over)) / count
        with torch.no_grad():
            usual.lerp_(mean, self.momentum or 0.0)
            spread.lerp_(variance * count / (count - 1), self.momentum or 0.0)
            self.get_buffer("num_batches_tracked").add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normed: Tensor = (centred * scale.view(wide) + self.bias.view(wide)).to(maps.dtype)
        return normed


def _over_all(part: Tensor) -> Tensor:
    """The sum over all processes; gradients go back to each."""
    total: Tensor = all_reduce(part)  # type: ignore[no-untyped-call]
    return total


def _share_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            norm = SharedNorm(child.num_features, child.eps, child.momentum).to(child.weight.device)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            _share_norms(child)
