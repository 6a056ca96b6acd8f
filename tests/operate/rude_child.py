"""Rude clients of a control socket, in a process of their own, until they are killed: rude_child.py SOCKET NUMBER_OF_CLIENTS."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path


def rude(path: Path, number: int, over: threading.Event) -> None:
    """One of the kinds of rude clients, over and over."""
    while not over.is_set():
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.2)
            client.connect(str(path))
            match number % 5:
                case 0:
                    client.sendall(os.urandom(5_000) + b"\n")
                    client.recv(1_000)
                case 1:
                    client.sendall(b'{"v":1,"id":1,"do":"sta')
                    over.wait(0.2)
                case 2:
                    for _ in range(160):
                        client.sendall(b"x" * 65_536)
                case 3:
                    for _ in range(1_000):
                        client.sendall(b'{"v":1,"id":1,"do":"stacks"}\n')
                case 4:
                    for _ in range(50):
                        client.sendall(b'{"v":1,"id":1,"do":"status"}\n')
                        client.recv(65_536)


if __name__ == "__main__":
    never = threading.Event()
    for number in range(int(sys.argv[2])):
        threading.Thread(target=rude, args=(Path(sys.argv[1]), number, never), daemon=True).start()
    print("rude", flush=True)
    sys.stdin.readline()
