"""How fast a training is: tokens per second, share of the device's peak (MFU), memory.

FLOPs of a token, as PaLM counts them (arXiv 2204.02311, appendix B): 2 N forward, 2 N backward for activations, 2 N_t
for the weights that are trained, and 12 L w s for attention (L layers of width w, s tokens in a row). What activation
checkpointing computes again does not count.
"""

from __future__ import annotations

import resource
import time
from typing import Any

PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "A10": 125.0, "4090": 165.0, "B200": 2250.0}
"""Dense bfloat16 TFLOP/s by the name that the device gives itself (vendors' data sheets)."""


def peak_tflops(setting: float) -> float:
    """TFLOP/s of one device: as set, or as known of this GPU; 0: unknown (a CPU), and MFU is n/a."""
    import torch

    if setting or not torch.cuda.is_available():
        return setting
    name = torch.cuda.get_device_name().upper()
    return next((peak for known, peak in PEAKS.items() if known in name), 0.0)


def flops_per_token(network: Any, row_tokens: float) -> float:
    """FLOPs that training on one token takes; row_tokens: mean length of a row."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in network.parameters()]
    total, trained = sum(n for n, _ in sizes), sum(n for n, wanted in sizes if wanted)
    config = network.config.get_text_config()
    return 4 * total + 2 * trained + 12 * config.num_hidden_layers * config.hidden_size * row_tokens


class Meter:
    """Counts tokens and rows of all ranks between two readings."""

    def __init__(self, network: Any, *, devices: int, peak: float) -> None:
        self.network, self.devices, self.peak = network, devices, peak
        self.reset()

    def reset(self) -> None:
        self.tokens = self.rows = 0
        self._since = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Leave this time out: it went into a save."""
        self._since += seconds

    def read(self) -> dict[str, float | None]:
        """tokens_per_s (useful ones, padding left out), mfu (None: no peak is known), memory_gib; and begin anew."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        rate = self.tokens / seconds
        mfu = None
        if self.peak and self.rows:
            mfu = rate * flops_per_token(self.network, self.tokens / self.rows) / (self.peak * 1e12 * self.devices)
        self.reset()
        return {"tokens_per_s": round(rate, 1), "mfu": mfu and round(mfu, 4), "memory_gib": round(memory_gib(), 3)}


def memory_gib() -> float:
    """Highest use so far: of the GPU where there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
