"""Hide folders (a suite's targets) and the network from an adapter, and notice when it looks for them.

Two walls, the second without help from the system:

- `confine` wraps a command so that it starts in Linux namespaces of its own, where each hidden folder is an empty
  file system that it cannot unmount, and where, if asked, there is no network;
- `watch` installs an audit hook in a worker that refuses and remembers each attempt of Python code to open or
  list a hidden path, or to connect.

Only the standard library is imported: this module runs before anything else in a child.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_NEWNS, _NEWUSER, _NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_RDONLY, _MS_REC, _MS_PRIVATE = 1, 0x4000, 1 << 18

touched: list[str] = []
"""What foreign code tried to reach and was refused, in this process."""


def watch(hidden: Sequence[str], network: bool) -> None:
    """Refuse, and remember in `touched`, reading under a hidden folder and, unless `network`, connecting."""
    if not hidden and network:
        return
    roots = tuple(os.path.realpath(h) for h in hidden)
    prefixes = tuple(r.rstrip(os.sep) + os.sep for r in roots)
    files = ("open", "os.listdir", "os.scandir", "os.chdir", "shutil.copyfile", "os.link", "os.symlink")
    sockets = ("socket.connect", "socket.getaddrinfo", "socket.sendto")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in files and roots and arguments and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path in roots or path.startswith(prefixes):
                touched.append(path)
                raise PermissionError(f"{path} is hidden from adapters")
        elif not network and event in sockets and not _local(arguments):
            touched.append("the network")
            raise PermissionError("the network is closed for this adapter")

    sys.addaudithook(hook)


def _local(arguments: tuple[Any, ...]) -> bool:
    """Whether a socket event is about a Unix socket, which stays on this machine."""
    import socket

    return (
        bool(arguments)
        and isinstance(arguments[0], socket.socket)
        and arguments[0].family == getattr(socket, "AF_UNIX", None)
    )


def confine(command: Sequence[str], hidden: Sequence[Path], network: bool, root: Path) -> list[str]:
    """The command that starts `command` where `hidden` folders are empty and, unless `network`, nothing is reached.

    Args:
        command: program and arguments.
        hidden: folders to hide; those that do not exist are skipped.
        network: whether the child may use the network.
        root: folder that holds the package ``refbench``.
    """
    if (not hidden and network) or not can_confine():
        return list(command)
    task = {"hidden": [str(h.resolve()) for h in hidden if h.exists()], "network": network, "command": list(command)}
    start = f"import sys; sys.path.insert(0, {str(root)!r}); from refbench.adapters.sandbox import enter; enter()"
    return [sys.executable, "-c", start, json.dumps(task)]


@functools.cache
def can_confine() -> bool:
    """Whether this system lets an ordinary process make the namespaces (Linux, not forbidden by policy)."""
    if not sys.platform.startswith("linux"):
        return False
    root = Path(__file__).resolve().parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from refbench.adapters import sandbox; "
        "sandbox._isolate([sys.path[0] + '/refbench/adapters'], False)"
    )
    try:
        return (
            subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def _isolate(hidden: Sequence[str], network: bool) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def call(what: str, result: int) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    def new_user(flags: int) -> None:
        uid, gid = os.getuid(), os.getgid()
        call("unshare", libc.unshare(_NEWUSER | _NEWNS | flags))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")

    new_user(0 if network else _NEWNET)
    call("mount /", libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    for path in hidden:
        if Path(path).is_dir():
            call(f"mount {path}", libc.mount(b"none", os.fsencode(path), b"tmpfs", _MS_RDONLY, None))
        else:
            call(f"mount {path}", libc.mount(b"/dev/null", os.fsencode(path), None, 4096, None))
    new_user(0)  # mounts inherited from the first user namespace are locked in the second: they cannot be undone


def enter() -> None:
    """Make the namespaces described by the last argument and become the command."""
    task = json.loads(sys.argv[-1])
    _isolate(task["hidden"], task["network"])
    os.execvpe(task["command"][0], task["command"], os.environ)
