"""PostgreSQL: users, follows, their outbox, leases. Durable: fsync and synchronous commit stay on.

Any user of this machine may connect, from loopback only (trust): the lab holds no secret data.
"""

from __future__ import annotations

import signal

from system.kernel.errors import CouldNotRun
from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, Step, base_env

ROLE = "tweetlab"


class Postgres:
    """PostgreSQL >= 14 of the distribution. It refuses to run as root, so it drops to another user."""

    package = packages.POSTGRES
    start_timeout_s = 30.0

    def launch(self, ctx: Context) -> Launch:
        programs = ctx.programs.postgres()
        if programs is None:
            raise CouldNotRun(packages.missing(packages.POSTGRES))
        conf, hba = ctx.config / "postgresql.conf", ctx.config / "pg_hba.conf"
        return Launch(
            argv=(str(programs / "postgres"), "-D", str(ctx.data), "-c", f"config_file={conf}"),
            env=base_env(ctx),
            files={conf: render(ctx, str(hba)), hba: "".join(f"{row}\n" for row in host_rules(ctx))},
            before=(self._create_cluster(ctx, str(programs / "initdb")),),
            # It treats any process with the pid in this file as a running server, even a zombie or an
            # unrelated one.
            stale=(ctx.data / "postmaster.pid",),
            drops_root=True,
            stop_signal=signal.SIGINT,  # "fast": ends sessions and writes a checkpoint
        )

    @staticmethod
    def _create_cluster(ctx: Context, initdb: str) -> Step:
        # Into another directory, then renamed: a half-made cluster is created again.
        # --no-sync: the new cluster holds nothing yet; what is written later is synced.
        part = f"{ctx.data}.part"
        script = 'rm -rf "$1" && "$2" -D "$1" -U "$3" -A trust -E UTF8 --locale=C --no-sync && mv "$1" "$4"'
        return Step(
            argv=("/bin/sh", "-c", script, "sh", part, initdb, ROLE, str(ctx.data)),
            unless=ctx.data,
            env=base_env(ctx),
        )

    async def probe(self, ctx: Context) -> str:
        return await health.postgres(ctx.address, ROLE, "postgres")

    def version(self) -> str:
        programs = packages.postgres_bin()
        line = packages.version_line([str(programs / "postgres"), "--version"]) if programs else ""
        return line.split()[2] if len(line.split()) > 2 else ""


def parameters(ctx: Context) -> dict[str, str]:
    """Return the settings of the node's server, except the paths of its files."""
    host, port = ctx.address.split(":")
    return {
        "listen_addresses": f"'{host}'",
        "port": port,
        "unix_socket_directories": "''",
        "max_connections": "250",
        "shared_buffers": "64MB",
        "dynamic_shared_memory_type": "posix",
        "huge_pages": "off",
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_level": "replica",
        "max_wal_size": "512MB",
        "max_worker_processes": "4",
        "max_parallel_workers": "2",
        "jit": "off",
        "log_min_messages": "warning",
        "timezone": "'UTC'",
        "lc_messages": "'C'",
    }


def host_rules(ctx: Context) -> list[str]:
    """Return the lines of pg_hba.conf: every client inside the lab is trusted (docs/decisions/0011)."""
    return [f"host {what} all {network} trust" for network in ctx.networks for what in ("all", "replication")]


def render(ctx: Context, hba: str) -> str:
    """Return the node's postgresql.conf."""
    settings = {"hba_file": f"'{hba}'", **parameters(ctx)}
    return "".join(f"{name} = {value}\n" for name, value in settings.items())
