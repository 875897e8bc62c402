"""Work in a process of its own, whose memory is then the work's alone.

    python -m wavecore.bench.child TASK '{"argument": value, …}'

prints one JSON object: what the task returns and `peak_mb` (since `forget_peak` where the task called it), or
`stopped`: why it could not run.

The peak is the kernel's high-water mark of the process's own address space (VmHWM). `ru_maxrss` will not do: on Linux a
process that was started by another begins with the largest size which that other ever had.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from wavecore.errors import WavecoreError

NAME = "wavecore.bench.child"
TASKS = ("features", "train", "infer")


def ask(task: str, **given: Any) -> dict[str, Any]:
    """Run a task in a child process and wait for it.

    Args:
        task: one of TASKS.
        given: its arguments, which JSON can hold.

    Returns:
        what the task returns, with `peak_mb`; or {"stopped": why} where the task refused with an error that is meant
        for users, or memory ran out.

    Raises:
        RuntimeError: the child failed otherwise; the message holds the end of what it wrote.
    """
    # Resident memory is the CPU's: the work stays there also where there is a GPU.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", NAME, task, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode < 0:
        return {"stopped": f"ended by signal {-done.returncode}, as where memory runs out"}
    if done.returncode:
        raise RuntimeError(f"{task} {given} → {done.returncode}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def peak_mb() -> float:
    """The most resident memory that this process ever had, in MiB."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS, in KiB elsewhere.
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


def forget_peak() -> bool:
    """Let the high-water mark begin anew at what is resident now; False where the system has no way to."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def perform(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run a task here; see `ask`."""
    # Imported where wanted: torch would add its hundreds of MiB to work that needs none of it.
    if task == "features":
        from wavecore.bench.stream import stream

        return stream(**given)
    from wavecore.bench.memory import infer, train

    return {"train": train, "infer": infer}[task](**given)


def main(task: str, arguments: str) -> None:
    """Run a task here and print what it found."""
    # Work that takes more memory than there is ends here, not in the process that asked for it.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        with redirect_stdout(sys.stderr):
            found = {**perform(task, json.loads(arguments)), "peak_mb": peak_mb()}
    except WavecoreError as error:
        found = {"stopped": error.problem}
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        found = {"stopped": "out of memory"}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
