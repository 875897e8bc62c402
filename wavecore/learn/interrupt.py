"""Interrupts wait until a step is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType


@contextmanager
def whole() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the block has ended, then let them act as they would have.

    Weights and the optimizer's moments are changed in place; an interrupt between the two would leave a state that no
    undisturbed run ever has. Only the main thread receives signals; elsewhere nothing needs holding back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    # The stack puts every handler back, even if a signal strikes while it does so.
    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            # None: set from outside Python, and so nothing that could be put back.
            if handler is not None:
                stack.callback(signal.signal, number, handler)
                signal.signal(number, hold)
        yield
    for late in held:
        signal.raise_signal(late)
