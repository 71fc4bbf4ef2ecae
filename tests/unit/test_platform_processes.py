"""Identity, CPU and memory of processes; control groups v1 and v2; health probes and their last answers."""

import asyncio
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform import health, paths
from system.platform.addresses import Plan
from system.platform.blueprint import Node, Running
from system.platform.install import preflight
from system.platform.process import cgroups, children, log_tail, procs

SPIN = "import time\nend = time.process_time() + {s}\nwhile time.process_time() < end: pass\n{then}"


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_cpu_of_a_thread_that_exited_is_counted():
    """The process clock includes exited threads; a sum over living threads would not."""
    before = procs.cpu_ns(os.getpid())
    thread = threading.Thread(target=burn, args=(0.2,))
    thread.start()
    thread.join()

    assert 0.2e9 <= procs.cpu_ns(os.getpid()) - before < 0.6e9


def test_cpu_of_a_child_that_exited_is_counted_to_the_tick():
    """Without control groups, the kernel's sum over reaped children is the only source."""
    script = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', sys.argv[1]])\nprint(1, flush=True)\ninput()"
    spin = SPIN.format(s=0.3, then="")
    parent = subprocess.Popen(
        [sys.executable, "-c", script, spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    parent.stdout.readline()
    total_s = procs.tree_cpu_ns(parent.pid) / 1e9
    parent.communicate("\n")

    assert 0.29 <= total_s < 1.0


def test_a_pid_is_an_identity_only_with_its_start_time():
    """Another process may get the pid: with another start time it is not ours."""
    pid = os.getpid()

    assert procs.is_alive(pid, procs.start_ticks(pid))
    assert not procs.is_alive(pid, procs.start_ticks(pid) + 1)
    assert procs.start_ticks(2**22 + 1) == 0


def test_kill_spares_another_process_with_the_same_pid():
    """A recorded pid with another start time belongs to another process."""
    other = subprocess.Popen(["sleep", "30"])
    try:
        procs.kill_all([(other.pid, procs.start_ticks(other.pid) - 5)])
        spared = other.poll() is None
        procs.kill_all([(other.pid, procs.start_ticks(other.pid))])
        ended = other.wait(timeout=5)
    finally:
        other.kill()

    assert spared
    assert ended == -9


def test_shared_pages_count_once():
    """The same pid twice counts private memory twice, files and shared memory once."""
    one, both = procs.rss_bytes([os.getpid()]), procs.rss_bytes([os.getpid(), os.getpid()])

    assert one < both < 2 * one


def fake_v1(mount):
    for name in ("cpu", "cpuacct", "freezer", "memory", "unified"):
        (mount / name).mkdir(parents=True)
        (mount / name / "cgroup.procs").touch()


def test_with_v1_a_node_gets_a_group_in_every_tree(tmp_path):
    """Accounting first, then the other controllers, then the tree that iptables reads."""
    fake_v1(tmp_path)
    groups = cgroups.open_groups("lab", tmp_path)

    joins = groups.make("redis-1")

    assert groups.kind == "v1"
    assert [str(path.relative_to(tmp_path)) for path in joins] == [
        f"{name}/tweetlab/lab/redis-1/cgroup.procs" for name in ("cpuacct", "cpu", "freezer", "memory", "unified")
    ]


def test_a_quota_is_written_in_cores(tmp_path):
    """0.2 core is 4 ms in every 20 ms; None lifts it."""
    fake_v1(tmp_path)
    groups = cgroups.open_groups("lab", tmp_path)
    groups.make("redis-1")
    cpu = tmp_path / "cpu/tweetlab/lab/redis-1"
    (cpu / "cpu.cfs_quota_us").touch()

    groups.set_quota("redis-1", 0.2)
    limited = (cpu / "cpu.cfs_quota_us").read_text(), (cpu / "cpu.cfs_period_us").read_text()
    groups.set_quota("redis-1", None)

    assert limited == ("4000", "20000")
    assert (cpu / "cpu.cfs_quota_us").read_text() == "-1"


def test_with_v2_there_is_one_tree(tmp_path):
    """CPU time comes from cpu.stat, converted from microseconds to ns."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    groups = cgroups.open_groups("lab", tmp_path)
    joins = groups.make("redis-1", quota_cores=1.5)
    node = tmp_path / "tweetlab/lab/redis-1"
    (node / "cpu.stat").write_text("usage_usec 1234\nuser_usec 1000\n")

    assert groups.kind == "v2"
    assert joins == [node / "cgroup.procs"]
    assert groups.cpu_ns("redis-1") == 1_234_000


def test_without_control_groups_the_kind_is_none(tmp_path):
    """No accounting is not an error: CPU time then comes from process clocks."""
    groups = cgroups.open_groups("lab", tmp_path)

    assert (groups.kind, groups.make("redis-1"), groups.cpu_ns("redis-1")) == ("none", [], None)


def test_a_port_in_use_is_reported_with_address_node_and_process():
    """The process is this test; a free port is no error."""
    node = Node("redis-1", "redis", "store")
    preflight.check_ports((node,), Plan(219))
    with socket.create_server(("127.219.30.1", 6379)):
        with pytest.raises(CouldNotRun) as refused:
            preflight.check_ports((node,), Plan(219))

    assert f"127.219.30.1:6379 (redis-1) is in use by process {os.getpid()} (" in refused.value.detail


def test_the_end_of_a_log_includes_the_first_error_line(tmp_path):
    """A stack trace would hide it: the first line with an error comes before the last lines."""
    log = tmp_path / "parrot.log"
    log.write_text("starting\nERROR: no perch\n" + "\n".join(f"  at feather {i}" for i in range(40)) + "\n")

    lines = log_tail.log_end_with_reason(log).splitlines()

    assert lines[0] == "ERROR: no perch"
    assert lines[-1] == "  at feather 39"
    assert len(lines) == 17


async def serve(answer):
    """Serve these bytes to every connection after its first packet."""

    async def respond(reader, writer):
        await reader.read(1024)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    return server, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def brokers(*numbers):
    """Return a Kafka Metadata v1 response with these broker ids; even ones have a rack."""
    rows = b"".join(
        struct.pack(">ih", n, 9) + b"127.0.0.1" + struct.pack(">ih", 9092, -1 if n % 2 else 6) + b"zone-2" * (1 - n % 2)
        for n in numbers
    )
    body = bytes(4) + struct.pack(">i", len(numbers)) + rows + bytes(8)
    return struct.pack(">i", len(body)) + body


async def test_a_kafka_broker_is_healthy_when_it_lists_itself():
    """Others may come first, with or without a rack."""
    server, address = await serve(brokers(2, 1, 3))
    async with server:
        assert await health.kafka(address, 3) == "3 brokers"


@pytest.mark.parametrize(
    ("probe", "answer", "quoted"),
    [
        (health.redis, b"-LOADING Redis is loading\r\n", "-LOADING Redis is loading"),
        (lambda at: health.http(at, "/health"), b"HTTP/1.1 503 Busy\r\n\r\nno store", "GET /health: HTTP/1.1 503 Busy no store"),
        (lambda at: health.http(at, "/health"), b"", "GET /health: it closed the connection"),
        (health.cassandra, bytes([0x84, 0, 0, 0, 0, 0, 0, 0, 0]), "opcode 0 instead of SUPPORTED"),
        (lambda at: health.kafka(at, 2), (12).to_bytes(4, "big") + bytes(12), "broker 2 is not registered yet; 0 others are"),
        (lambda at: health.kafka(at, 2), brokers(1, 3), "broker 2 is not registered yet; 2 others are"),
        (
            lambda at: health.postgres(at, "polly", "parrots"),
            b"E" + (4 + 36).to_bytes(4, "big") + b"SFATAL\0C57P03\0Mit is starting up\0\0".ljust(36, b"\0"),
            "it is starting up",
        ),
    ],
)
async def test_the_error_quotes_an_unhealthy_server(probe, answer, quoted):
    """The error of a failed start contains the last answer: it must be the server's own text."""
    server, address = await serve(answer)
    async with server:
        with pytest.raises(health.Unhealthy) as unhealthy:
            await probe(address)

    assert str(unhealthy.value) == quoted


async def test_every_probe_of_a_frozen_server_ends_in_time():
    """It accepts connections in the kernel and says nothing; `status` probes all nodes and must not wait for it."""
    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    probes = (health.redis(address), health.http(address, "/"), health.cassandra(address), health.kafka(address, 1),
              health.postgres(address, "polly", "parrots"))
    began = time.monotonic()
    answers = await asyncio.gather(*probes, return_exceptions=True)
    server.close()

    assert [str(answer) for answer in answers] == [f"no answer on {address} within 2 s"] * len(probes)
    assert time.monotonic() - began < health.PROBE_TIMEOUT_S + 1.0


async def test_a_refused_connection_is_reported_with_the_address():
    """Which address refused."""
    with pytest.raises(health.Unhealthy, match=r"connection refused on 127.0.0.1:1"):
        await health.redis("127.0.0.1:1")


async def test_waiting_ends_as_soon_as_the_process_is_dead():
    """A dead server is not probed for the rest of the deadline."""

    async def refuse():
        raise health.Unhealthy("still no perch")

    began = time.monotonic()
    healthy, answer = await health.wait(refuse, timeout_s=30, alive=lambda: False)

    assert (healthy, answer) == (False, "still no perch")
    assert time.monotonic() - began < 1


def test_the_launcher_joins_the_group_before_it_execs_the_server(tmp_path):
    """The pid in the group's file is the server's pid: no socket was open before."""
    procs_file = tmp_path / "cgroup.procs"
    argv = children._wrapped(("/bin/sh", "-c", "echo $$"), Running(), False, [procs_file], [])

    done = subprocess.run(argv, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == procs_file.read_text().strip()
    assert Path("/proc").exists()


@pytest.mark.parametrize("value", ["much", "-1", "1.5", "²"])
def test_an_invalid_limit_on_free_disk_is_reported(value, monkeypatch, tmp_path):
    """With the variable, its value, and the valid values."""
    monkeypatch.setenv("TWEETLAB_MIN_FREE_MIB", value)

    with pytest.raises(WrongInput, match=f"TWEETLAB_MIN_FREE_MIB is '{value}'.*whole number of MiB"):
        preflight.check_disk(paths.Paths(tmp_path, 199))
