"""How long a job waits for MLflow. None of it is waited while work is being done."""

from __future__ import annotations

from dataclasses import dataclass

from nnst.config import setting


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Seconds that a job waits for an MLflow that is away or slow."""

    # A server that is started anew is back after a minute or so.
    start: float = setting(10.0, "seconds to wait for a run before work begins without one")
    finish: float = setting(90.0, "seconds to wait at the end for records to be taken")
    register: float = setting(180.0, "seconds that a trained model waits to be registered")
    system: bool = setting(False, "record use of CPU, memory, disk, network and GPU; wants psutil")

    def __post_init__(self) -> None:
        if min(self.start, self.finish, self.register) < 0:
            raise ValueError("start, finish and register must be 0 or more seconds")
