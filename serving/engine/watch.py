"""Whether a process that does not reply still works: a slow forward pass is waited for, a hung one is not."""

from dataclasses import dataclass

from serving.hardware import Effort


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an engine may be silent, in seconds.

    tick: between two looks at it.
    idle: without a reply, computing nothing and reading nothing. A stopped process and a call that waits for ever look
        like this, and nothing that ends does for so long: a forward pass computes, and one whose weights were swapped
        out reads. A disk that has to start spinning takes less.
    working: computing or reading, without a pass that ends. 64 tokens of a prompt take 5 s with 7 B parameters on two
        cores, and ten times as long with 70 B; swapping makes that a few minutes. A model being loaded has no limit.
    """

    tick: float = 1.0
    idle: float = 10.0
    working: float = 300.0


MOVED_SECONDS = 0.05  # of processor time, over all of `idle`: a process that only replies to pings uses a tenth of it


class Watch:
    """The silence of one process. It is told what there is to see, and reads no clock."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._silent = self._idle = 0.0
        self._seen = Effort(0.0, 0)

    def look(self, seconds: float, replied: bool, effort: Effort, loading: bool = False) -> str | None:
        """What the process has done for too long, or None; to be called every tick.

        seconds: since the last look. More than two ticks count as two: if this side was stopped too, as a suspended
        machine is, nobody has been silent. replied: all that was due has come. effort: of the process since its start.
        """
        seconds = min(seconds, 2 * self._patience.tick)
        self._silent += seconds
        self._idle += seconds
        if replied:
            self._silent = 0.0
        if replied or effort.read_bytes > self._seen.read_bytes or effort.seconds - self._seen.seconds > MOVED_SECONDS:
            self._idle, self._seen = 0.0, effort
        if self._idle >= self._patience.idle:
            return f"has neither replied nor computed for {self._patience.idle:g} s"
        if self._silent >= self._patience.working and not loading:
            return f"has computed for {self._patience.working:g} s without a reply"
        return None


def pause_before_start(failures: int) -> float:
    """Seconds to wait before the engine is started again: how often in a row has it ended without a single answer?

    The first time it need not be the model's fault. One that cannot live is not tried more than once a minute.
    """
    return 0.0 if failures <= 1 else min(60.0, 2.0 ** (failures - 2))
