"""How long verbs end when they are stopped: SIGTERM as Ctrl-C, and the command that goes on is told."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def going_on(*also: str) -> Iterator[None]:
    """Within it SIGTERM interrupts as SIGINT does, and whoever interrupts is told the command that goes on.

    Args:
        also: options that the command needs to go on, added where they are not given.
    """
    from refbench.cli import show

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except KeyboardInterrupt:
        given = sys.argv[1:]
        show.note(f"To go on: {shlex.join(['refbench', *given, *(one for one in also if one not in given)])}")
        raise
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
