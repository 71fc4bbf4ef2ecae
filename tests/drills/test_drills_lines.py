"""Only the WAN emulator, with the empty namespaces of a lab: delay, loss, cuts, and its restart."""

import asyncio
import json
import socket
import subprocess
import sys
import time

import pytest

from chaos.faults import wan_faults
from system.kernel import wan
from system.platform.addresses import Plan
from system.platform.paths import CODE, Paths
from system.platform.regions import network
from system.platform.servers import wan as wan_server
from tests.helpers.requirements import needs_regions

pytestmark = [
    pytest.mark.real,
    needs_regions,
]
RANGE = 241
EAST, WEST = 1, 2
SERVER = f"10.{RANGE + 1}.20.2:9092"
PACKETS = 250  # as many as a socket buffers until they are read

SERVE = """
import socket, sys, threading
host, port = sys.argv[1].split(":")
tcp, udp = socket.create_server((host, int(port))), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((host, int(port)))
udp.settimeout(0.2)
print("up", flush=True)
def accept():
    while True:
        tcp.accept()[0].close()
threading.Thread(target=accept, daemon=True).start()
while sys.stdin.readline():
    received = 0
    try:
        while udp.recv(100):
            received += 1
    except TimeoutError:
        print(received, flush=True)
"""
SEND = """
import socket, sys, time
host, port = sys.argv[1].split(":")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    udp.sendto(b"polly", (host, int(port)))
    time.sleep(0.0002)
"""


class Rig:
    """A WAN emulator and one server in the west."""

    def __init__(self, root):
        self.paths = Paths(root, RANGE)
        self.paths.data_dir.mkdir(parents=True)
        self.config = root / "carrier.json"
        self.config.write_text(json.dumps({"root": str(root), "range": RANGE, "socket": str(wan_server.control(self.paths)),
                                           "delay_s": 0.010, "state": str(self.paths.lines), "hosts": {}}))
        self.process = self.server = None

    def start(self):
        wan_server.control(self.paths).unlink(missing_ok=True)
        self.process = subprocess.Popen([sys.executable, "-m", "system.platform.regions.wan_emulator", str(self.config)],
                                        cwd=CODE)
        ends_s = time.monotonic() + 5
        while not wan_server.control(self.paths).exists() and self.process.poll() is None and time.monotonic() < ends_s:
            time.sleep(0.02)

    async def set(self, source, target, **line):
        await wan_server.ask(self.paths, {"op": "set", "pairs": [[source, target], [target, source]], "line": line})

    def serve(self):
        self.server = subprocess.Popen([*network.inside(self.paths, WEST), sys.executable, "-c", SERVE, SERVER],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout.readline() == "up\n"

    def received(self):
        """Send a burst of packets from the east; return how many arrive in the west."""
        subprocess.run([*network.inside(self.paths, EAST), sys.executable, "-S", "-c", SEND, SERVER, str(PACKETS)], check=True)
        self.server.stdin.write("count\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    async def connect_s(self, region=EAST):
        return await wan_faults.connect_s(self.paths, region, SERVER)

    def end(self):
        for process in (self.server, self.process):
            if process is not None:
                process.kill()
                process.wait()
        network.remove(self.paths, Plan(RANGE))


@pytest.fixture
def rig(tmp_path, monkeypatch):
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    monkeypatch.setattr(wan_faults, "TRY_S", 0.25)
    tested = Rig(tmp_path)
    yield tested
    tested.end()


async def test_lines_delay_lose_and_cut_and_cuts_survive_a_restart_of_the_wan_emulator(rig):
    """The basis of every region drill, measured from inside: round trips, loss, no route around a cut."""
    rig.start()
    rig.serve()
    default_s, outside_s = await asyncio.gather(rig.connect_s(), rig.connect_s(wan.OUTSIDE))
    await rig.set(EAST, WEST, delay_s=0.05)
    slow_s = await rig.connect_s()
    await wan_server.ask(rig.paths, {"op": "calm", "pairs": [[EAST, WEST], [WEST, EAST]]})
    await rig.set(EAST, WEST, loss=0.25)
    arrived = await asyncio.to_thread(rig.received)
    await rig.set(EAST, WEST, loss=0.0, cut=True)
    cut = await asyncio.gather(rig.connect_s(), rig.connect_s(3), rig.connect_s(wan.OUTSIDE))
    rig.process.kill()
    rig.process.wait()
    rig.start()
    after_restart = await asyncio.gather(rig.connect_s(), rig.connect_s(3), rig.connect_s(wan.OUTSIDE))
    await rig.set(EAST, WEST, cut=False)

    assert outside_s < 0.020 <= default_s < 0.100 <= slow_s
    assert 0.6 * PACKETS < arrived < 0.9 * PACKETS
    for connects_s in (cut, after_restart):
        assert connects_s[0] is None and connects_s[1] is not None and connects_s[2] is not None
    assert await rig.connect_s() < 0.100


def test_a_connection_over_a_cut_line_breaks_in_seconds(rig):
    """In the regions, whose peers would wait for each other; this machine's own network is unchanged."""
    own = retries([])
    rig.start()

    assert [retries(network.inside(rig.paths, region)) for region in (1, 2, 3)] == [network.TCP_RETRIES] * 3
    assert retries([]) == own


def retries(prefix):
    command = [*prefix, "cat", "/proc/sys/net/ipv4/tcp_retries2"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_namespaces_and_devices_are_removed_with_the_lab(rig):
    """Nothing of a lab remains on the machine."""
    rig.start()
    names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    rig.end()
    after = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout

    assert names.count(rig.paths.lab_id) == 3 and rig.paths.lab_id not in after
    assert f"wan{RANGE}" not in {name for _, name in socket.if_nameindex()}
