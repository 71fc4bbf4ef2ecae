"""A lab of four sleeping processes in two zones."""

import os
import signal
import subprocess

from system.platform.blueprint import Blueprint, Node
from system.platform.process import procs
from system.platform.provider import Killed, NodeStatus

NODES = tuple(Node(f"{kind}-{zone}", kind, "service", zone, zone=zone) for zone in (1, 2) for kind in ("cat", "dog"))


class SleeperLab:
    """Four sleepers in two zones.

    Restarts dead ones that may heal at each status call, as a supervisor does.
    """

    def __init__(self):
        self.healing = {node.name: True for node in NODES}
        self.sleepers = {node.name: self.sleeper() for node in NODES}
        self.nodes, self.order = NODES, []

    @staticmethod
    def sleeper():
        return subprocess.Popen(["sleep", "300"])

    def alive(self, name):
        return self.sleepers[name].poll() is None

    async def blueprint(self):
        return Blueprint("toy", self.nodes)

    async def status(self):
        for name, healing in self.healing.items():
            if healing and not self.alive(name):
                self.sleepers[name] = self.sleeper()
        return [self.row(name, child.pid) for name, child in self.sleepers.items()]

    def row(self, name, pid):
        state = "healthy" if self.alive(name) else "dead"
        ticks = procs.start_ticks(pid) if state == "healthy" else 0
        return NodeStatus(name, name[:3], "service", state, pid, ticks, "127.0.0.1:1", 0.0, 0, 0, state, self.healing[name],
                          int(name[-1]))

    async def kill(self, name):
        self.order.append(f"kill {name}")
        os.kill(self.sleepers[name].pid, signal.SIGKILL)
        self.sleepers[name].wait()
        return Killed(name, self.sleepers[name].pid, 0)

    async def auto_heal(self, name, on):
        self.order.append(f"heal {name} {on}")
        self.healing[name] = on
