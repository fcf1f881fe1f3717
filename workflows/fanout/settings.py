"""How shards are spread over a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from nnst.config import setting


@dataclass(frozen=True, slots=True)
class FanoutSettings:
    """How shards are spread. None of it changes a row."""

    cpus: float = setting(1.0, "CPUs that one shard's work takes")
    gpus: float | None = setting(
        None, "GPUs that it takes, 0.25 for four at once; none takes one where there is one"
    )
    decoders: int = setting(0, "threads that decode ahead; 0 is one, with a GPU one for each CPU")
    apart: float = setting(
        0.0,
        "CPUs of a task of its own that reads and decodes for a scan; 0 does it where it scores",
    )
    wait: float = setting(30.0, "seconds that a cluster has to come by a node that fits a shard")
    in_flight: int = setting(2, "shards sent ahead for each that runs")
    max_bad: float = setting(0.05, "share of bad pictures above which the exit code is 3")
    memory: float = setting(0.0, "GiB of memory that one shard's work takes; 0 reserves none")
    take_over: bool = setting(False, "whether to work on although another driver is at it")
    stall: float = setting(600.0, "seconds without a new picture after which a worker is given up")
    decode: float = setting(30.0, "seconds that decoding may take where a worker died before")
    twin: float = setting(120.0, "seconds after which a shard slower than most is done twice")

    def __post_init__(self) -> None:
        if self.cpus < 0 or (self.gpus or 0) < 0:
            raise ValueError(f"cpus and gpus must be 0 or more, got {self.cpus}, {self.gpus}")
        if min(self.wait, self.decoders, self.apart) < 0:
            raise ValueError("wait, decoders and apart must be 0 or more")
        if self.memory < 0 or min(self.stall, self.decode, self.twin) <= 0:
            raise ValueError("memory must be 0 or more, stall, decode and twin above 0")
        if self.in_flight < 1:
            raise ValueError(f"in_flight must be 1 or more, got {self.in_flight}")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"max_bad must be in [0, 1], got {self.max_bad}")
