"""The lab: client of the supervisor, which starts, queries and stops real servers on this machine.

They are processes (the provider `native`, the default) or containers (`docker`), with the same operations.

    lab = native.Lab(root, range)
    await lab.up(blueprint.load("small"), {"TWEETLAB_JWT_SECRET": ...}, prepare=make_schema, progress=print)
    await lab.status(); await lab.kill("redis-1"); await lab.down()

Every call opens the supervisor's Unix socket, sends one request, and closes it: a Lab object holds nothing
open and may be created at any time. Calls on a lab that is down raise CouldNotRun, except `status` ([]) and
`down`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from system.kernel import errors
from system.kernel.errors import CouldNotRun
from system.kernel.policies import Policies
from system.platform import blueprint as blueprints
from system.platform import health, paths, runtimes, targets
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint
from system.platform.containers import api, images, spec
from system.platform.containers import runtime as containers
from system.platform.install import preflight
from system.platform.process import cgroups, log_tail, orphan_cleanup
from system.platform.provider import Killed, NodeStatus, Prepare, Progress
from system.platform.regions import network
from system.platform.servers import SERVERS, postgres, services

CALL_TIMEOUT_S = 20.0
SUPERVISOR_TIMEOUT_S = 15.0
DATABASE = "tweetlab"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Lab:
    """The lab of checkout `root` in address range `range`."""

    def __init__(self, root: Path, range: int = 1) -> None:
        Plan(range)  # refuses a range without addresses
        self.paths = paths.Paths(Path(root), range)

    @property
    def provider(self) -> str:
        """The provider of the lab that runs or has data here; "native" if there is neither."""
        return runtimes.of(self.paths) or runtimes.NATIVE

    @property
    def plan(self) -> Plan:
        """The addresses of the lab's nodes; containers have those of their network."""
        return Plan(self.paths.range, bridge=self.provider == runtimes.DOCKER)

    async def up(
        self,
        blueprint: Blueprint,
        services_env: Mapping[str, str] | None = None,
        *,
        prepare: Prepare | None = None,
        progress: Progress | None = None,
        stores_only: bool = False,
        provider: str | None = None,
    ) -> None:
        """Start the nodes of `blueprint` that do not run yet: stores and mesh in parallel, `prepare`,
        services, observers.

        `services_env` goes to every service. `prepare` gets `stores()` once all stores are healthy and the
        database exists. All or nothing: on any error, Ctrl-C included, the nodes that this call started are
        stopped again. Raises CouldNotRun with the last answer and the end of the log of the server that
        failed. `provider`: None for that of the running lab or of its data, else native.
        """
        report = progress or (lambda node, text: None)
        chosen = runtimes.choose(self.paths, provider)
        if chosen == runtimes.DOCKER:
            blueprint = await asyncio.to_thread(_in_containers, blueprint)
        else:
            preflight.check_programs(blueprint.stores_only() if stores_only else blueprint)
        preflight.check_socket_path(self.paths)
        preflight.check_disk(self.paths)
        if not await self.is_up():
            preflight.check_layout(self.paths, blueprint)
            if blueprint.in_regions:
                network.check(self.plan)
            preflight.check_memory(blueprint.stores_only() if stores_only else blueprint)
        had_data = self.paths.data_dir.exists()
        try:
            await self._spawn_supervisor(chosen, report)
            preflight.keep_layout(self.paths, blueprint)
            async with self._connect() as connection:
                request = {"op": "start", "blueprint": blueprint.to_json(), "env": dict(services_env or {})}
                first = ["network", "store", *([] if stores_only else ["mesh"])]
                await _send(connection, {**request, "roles": first}, report)
                if blueprint.of_kind("postgres"):
                    await self._make_database(blueprint, report)
                if prepare is not None:
                    report("stores", "creating schema, topics, index and bucket")
                    await prepare(self.stores(blueprint))
                if not stores_only:
                    await _send(connection, {**request, "roles": ["service"]}, report)
                    await _send(connection, {**request, "roles": ["observer"]}, report)  # last, so that a start fires no alert
                await _send(connection, {"op": "commit"}, report)
        except BaseException:
            await asyncio.shield(self._after_failure(had_data))
            raise

    async def down(self, *, purge: bool = False) -> None:
        """Stop everything, kill orphans of earlier starts, and with `purge` remove data and logs.

        Safe to repeat.
        """
        if await self.is_up():
            with contextlib.suppress(CouldNotRun):
                await self._call({"op": "down", "kill": purge}, timeout_s=60.0)
            await self._until_down()
        await asyncio.to_thread(orphan_cleanup.clean_up, self.paths, cgroups.open_groups(self.paths.lab_id))
        await asyncio.to_thread(lambda: runtimes.clean_up(self.paths, purge=purge))
        if purge:
            self.paths.remove()
        for data_dir in paths.abandoned():
            shutil.rmtree(data_dir, ignore_errors=True)

    async def is_up(self) -> bool:
        """Return whether the lab's supervisor answers."""
        try:
            await self._call({"op": "ping"}, timeout_s=5.0)
        except CouldNotRun:
            return False
        return True

    async def blueprint(self) -> Blueprint:
        """Return the blueprint that is up."""
        return blueprints.from_json((await self._call({"op": "ping"}))["blueprint"])

    async def status(self) -> list[NodeStatus]:
        """Probe every node and return its status; empty if the lab is down."""
        if not await self.is_up():
            return []
        return [NodeStatus(**row) for row in await self._call({"op": "status"})]

    def logs(self, node: str, lines: int = 40) -> str:
        """Return the last lines of a node's log, or of `supervisor`'s.

        Raises WrongInput for a node without one.
        """
        path = self.paths.log(node)
        if not path.exists():
            known = ", ".join(sorted(log.stem for log in path.parent.glob("*.log"))) or "none"
            raise errors.WrongInput(f"The node {node!r} has no log; nodes with one: {known}.")
        return log_tail.log_end(path, lines)

    def address(self, kind: str, instance: int = 1) -> str:
        """Return where a node `<kind>-<instance>` listens, host:port.

        If the lab is down, its address without regions.
        """
        return targets.address(self.paths, f"{kind}-{instance}") or self.plan.of(kind, instance)

    def log_path(self, node: str) -> Path:
        """Return the path of a node's log."""
        return self.paths.log(node)

    async def stop_services(self) -> None:
        """Stop every service and worker; return when none of their processes exists. They stay down until
        `restart_services`."""
        await self._call({"op": "stop_services"}, timeout_s=60.0)

    async def restart_services(self, env: Mapping[str, str], progress: Progress | None = None) -> None:
        """Restart our services with `env` merged into theirs; return when all are healthy."""
        await self._call({"op": "restart_services", "env": dict(env)}, progress, timeout_s=120.0)

    async def rolling_restart(self, service: str, env: Mapping[str, str]) -> list[str]:
        """Restart each instance of a service with `env` merged in, one by one, without a failed request;
        return their names.

        Raises CouldNotRun if one does not start: the others keep serving, and the call may be repeated.
        """
        return list((await self._call({"op": "renew", "service": service, "env": dict(env)}, timeout_s=300.0))["renewed"])

    async def kill(self, node: str) -> Killed:
        """SIGKILL a node's processes and return which process it was."""
        return Killed(**await self._call({"op": "kill", "node": node}))

    async def pause(self, node: str) -> None:
        """Freeze every process of a node; return when the kernel reports all of them as frozen. Safe to repeat.

        The node stays frozen until `resume`, or until it is killed. Raises CouldNotRun if it has no process.
        """
        await self._call({"op": "pause", "node": node})

    async def resume(self, node: str) -> None:
        """Let a paused node continue. Safe to repeat, and on a node that is not paused."""
        await self._call({"op": "resume", "node": node})

    async def stop_node(self, node: str) -> None:
        """Stop one node by its own signal; it stays down until `start_node`."""
        await self._call({"op": "stop_node", "node": node}, timeout_s=60.0)

    async def start_node(self, node: str) -> None:
        """Start one stopped node and wait until it is healthy."""
        await self._call({"op": "start_node", "node": node}, timeout_s=120.0)

    async def auto_heal(self, node: str, on: bool) -> None:
        """Switch automatic restart of a node on or off; switching it on restarts a dead node immediately."""
        await self._call({"op": "auto_heal", "node": node, "on": on})

    async def set_quota(self, node: str, cores: float | None) -> None:
        """Limit a node to `cores` of CPU; None lifts the limit. Does nothing without control groups."""
        await self._call({"op": "set_quota", "node": node, "cores": cores})

    async def scale(self, service: str, instances: int) -> dict[str, Any]:
        """Scale a service to `instances`; return when added ones take requests and removed ones have stopped.

        Raises WrongInput for a service that cannot be scaled, and outside its bounds.
        """
        return dict(await self._call({"op": "scale", "service": service, "instances": instances}, timeout_s=180.0))

    async def set_scaling(self, wanted: Policies, quota_cores: float | None = None) -> None:
        """Set the autoscaler's knobs, and limit each service instance to `quota_cores`; None lifts the limit.

        If that switches scaling on or off, every service first goes to its minimum number of instances.
        """
        await self._call({"op": "set_scaling", "policies": wanted.to_json(), "quota": quota_cores}, timeout_s=300.0)

    async def scaling(self) -> dict[str, Any]:
        """Return {"instances": service -> healthy instances, "on", "quota", "decisions": the latest}."""
        return dict(await self._call({"op": "scaling"}))

    async def cpu_ns(self) -> dict[str, int]:
        """Return the CPU time, in ns, of each node since it came up, exited threads and children included."""
        return dict(await self._call({"op": "cpu_ns"}))

    async def rss_bytes(self) -> dict[str, int]:
        """Return the resident memory of each node, in bytes."""
        return dict(await self._call({"op": "rss_bytes"}))

    def stores(self, blueprint: Blueprint | None = None) -> dict[str, Any]:
        """Return the addresses of the stores, as TWEETLAB_STORES carries them (default: those of `small`)."""
        return services.stores(blueprint or blueprints.load("small"), self.plan)

    def versions(self) -> dict[str, str]:
        """Return the version of every server, by kind: of a container the tag of its image; "" if it is not known."""
        if self.provider == runtimes.DOCKER:
            return {kind: row["image"] for kind, row in sorted(self.images().items())}
        kinds = [kind for kind, server in SERVERS.items() if server.package is not None]
        return {kind: SERVERS[kind].version() for kind in kinds}

    def accounting(self) -> str:
        """Return "v1", "v2" or "none": the control groups that count CPU time and enforce quotas here."""
        if self.provider == runtimes.DOCKER:
            return str(containers.read_engine(self.paths)["control_groups"])
        return cgroups.open_groups(self.paths.lab_id).kind

    def images(self) -> dict[str, dict[str, str]]:
        """Return the image of each kind of node, {"image": tag, "digest": digest}; {} for a native lab."""
        return dict(containers.read_engine(self.paths)["images"]) if self.provider == runtimes.DOCKER else {}

    async def _make_database(self, blueprint: Blueprint, progress: Progress) -> None:
        statement = f"CREATE DATABASE {DATABASE}"
        members = {self.plan.of("postgres", node.instance, node.region): node.name for node in blueprint.of_kind("postgres")}
        try:
            primary = await health.postgres_primary(list(members), postgres.ROLE, "postgres")
            await health.postgres_execute(primary, postgres.ROLE, "postgres", statement)
            progress(members[primary], f"database {DATABASE} created")
        except health.Unhealthy as problem:
            if "already exists" not in str(problem):
                raise CouldNotRun(f"PostgreSQL refused `{statement}`: {problem}") from None

    async def _spawn_supervisor(self, provider: str, progress: Progress) -> None:
        if await self.is_up():
            return
        self.paths.make()
        runtimes.keep(self.paths, provider)
        log = self.paths.log("supervisor")
        env = {**os.environ, "PYTHONPATH": str(paths.CODE)}
        command = [sys.executable, "-m", "system.platform.process.control", str(self.paths.root), str(self.paths.range), provider]
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: ASYNC220 - it outlives this event loop
                command, cwd=paths.CODE, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        progress("supervisor", f"started as process {process.pid}; control groups: {self.accounting()}; nodes: {provider}")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SUPERVISOR_TIMEOUT_S
        while not await self.is_up():
            if process.poll() is not None or loop.time() > deadline:
                raise CouldNotRun(f"The supervisor did not start. End of {log}:\n{log_tail.log_end(log)}")
            await asyncio.sleep(0.02)

    async def _after_failure(self, had_data: bool) -> None:
        """Wait until the supervisor has rolled back what was not committed.

        Stop it too if it has no other nodes.
        """
        deadline = asyncio.get_running_loop().time() + SUPERVISOR_TIMEOUT_S
        with contextlib.suppress(CouldNotRun):  # it has exited already
            while (counts := await self._call({"op": "settled"}))["pending"]:
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(0.05)
            if counts["nodes"] == 0:
                await self.down()
        if not had_data and not await self.is_up():
            with contextlib.suppress(CouldNotRun):  # the engine went away: there is nothing to remove
                await asyncio.to_thread(lambda: runtimes.clean_up(self.paths, purge=True))
            self.paths.remove_data()

    async def _until_down(self) -> None:
        deadline = asyncio.get_running_loop().time() + 30.0
        while self.paths.socket.exists() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        try:
            connection = await asyncio.open_unix_connection(self.paths.socket, limit=4 * 2**20)
        except OSError:
            raise CouldNotRun(f"No lab is up in range {self.plan.range}; start it with `tweetlab up`.") from None
        try:
            yield connection
        finally:
            connection[1].close()

    async def _call(self, request: dict[str, Any], progress: Progress | None = None, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        try:
            async with asyncio.timeout(timeout_s), self._connect() as connection:
                return await _send(connection, request, progress or (lambda node, text: None))
        except TimeoutError:
            raise CouldNotRun(f"The supervisor did not answer {request['op']!r} within {timeout_s:.0f} s.") from None


def _in_containers(blueprint: Blueprint) -> Blueprint:
    """Return the blueprint as containers run it.

    Raises CouldNotRun without an engine, WrongInput for a blueprint with nodes that have no image.
    """
    lacking = sorted({node.kind for node in spec.inside(blueprint).nodes} - images.kinds())
    if lacking:
        raise errors.WrongInput(f"The blueprint {blueprint.name!r} does not run in containers: no image for "
                                f"{', '.join(lacking)}. Use `small`, or the provider native.")
    api.connect().close()
    return spec.inside(blueprint)


async def _send(connection: Connection, request: dict[str, Any], progress: Progress) -> Any:
    reader, writer = connection
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        while line := await reader.readline():
            answer = json.loads(line)
            if "progress" in answer:
                progress(*answer["progress"])
            elif "error" in answer:
                kind = getattr(errors, answer["error"]["class"], CouldNotRun)
                raise kind(answer["error"]["detail"])
            else:
                return answer["result"]
    except ConnectionError:
        pass  # reported below, like an end of the stream
    raise CouldNotRun(f"The supervisor closed the connection during {request['op']!r}; "
                      "see its log with `tweetlab logs supervisor`.")
