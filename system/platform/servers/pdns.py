"""PowerDNS: authoritative for the lab's own name, `api.tweetlab.test`, which resolves to the healthy load
balancers.

Each server requests `/null` of every load balancer once a second; one that refuses fails immediately, one
that hangs after CHECK_S. A response lists all addresses that passed, with a TTL of a second. If none passed
it lists all of them: a check that failed on a busy machine must not make the lab unreachable. The servers of
a cluster hold the same zone and do not know each other; a client tries the next if one does not answer.
Nothing else is served: no recursion, no transfer.

Checks start with the first query, and until one has passed PowerDNS counts every address as failing. So the
health probe queries until then. To recognize it, a second name falls back to an address without a listener:
the DNS server's own.

In a lab with regions, only the load balancers that answer `/active` are listed, those of the active region,
near the cache. If none does, as for some seconds after the loss of a region, all healthy ones are listed.
"""

from __future__ import annotations

import asyncio

from system.kernel import dns
from system.kernel.errors import CouldNotRun
from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

CHECKED = f"checked.{dns.ZONE}"
CHECK_S = 1  # interval and timeout of checks; PowerDNS 4.7 takes whole seconds


class PowerDNS:
    """The authoritative server of the distribution with its backend for zone files."""

    package = packages.PDNS
    modules = (packages.PDNS_BIND,)
    start_timeout_s = 20.0

    def launch(self, ctx: Context) -> Launch:
        files = {ctx.config / "pdns.conf": conf(ctx), ctx.config / "named.conf": named(ctx), ctx.config / "zone": zone(ctx)}
        return Launch(
            argv=(ctx.programs.require("pdns_server"), f"--config-dir={ctx.config}", "--daemon=no", "--guardian=no"),
            env=base_env(ctx),
            files=files,
            folders=(ctx.data,),
            drops_root=True,
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        try:
            addresses = await asyncio.to_thread(dns.ask, ctx.address, CHECKED, health.PROBE_TIMEOUT_S / 2)
        except CouldNotRun as problem:
            raise health.Unhealthy(problem.detail) from None
        if not addresses or ctx.host in addresses:
            raise health.Unhealthy("no load balancer has passed its check")
        return f"{dns.API}: {', '.join(addresses)}"

    def version(self) -> str:
        words = packages.version_line([packages.find("pdns_server") or "pdns_server", "--version"]).split()
        return words[words.index("Server") + 1] if "Server" in words[:-1] else ""


def _prefer_active(url: str, healthy: str, listed: str, own: str, options: str) -> str:
    """Return the Lua script that lists the load balancers that answer `url`, or `healthy` if none does.

    `own` is the fallback address of the first query: its presence means that none answers. Both queries run
    each time, so that the checks of both have started when one is needed.
    """
    return (f"\";local active=ifurlup('{url}', {{{{{listed}}}, {{'{own}'}}}}, {options}) local healthy={healthy} "
            f"for _, address in pairs(active) do if address == '{own}' then return healthy end end return active\"")


def conf(ctx: Context) -> str:
    """Return pdns.conf. Nothing is cached: a response is as old as the last check."""
    host, _, port = ctx.address.rpartition(":")
    return f"""launch=bind
load-modules=libbindbackend.so
bind-config={ctx.config}/named.conf
local-address={host}
local-port={port}
socket-dir={ctx.data}
enable-lua-records=yes
lua-health-checks-interval={CHECK_S}
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
receiver-threads=1
distributor-threads=1
disable-axfr=yes
disable-syslog=yes
security-poll-suffix=
webserver=no
write-pid=no
version-string=anonymous
"""


def named(ctx: Context) -> str:
    """Return named.conf for the bind backend: the one zone."""
    return f'zone "{dns.ZONE}" {{ type native; file "{ctx.config}/zone"; }};\n'


def zone(ctx: Context) -> str:
    """Return the zone. Both names run the same checks."""
    balancers = ctx.addresses("haproxy")
    listed = ", ".join(f"'{address.rpartition(':')[0]}'" for address in balancers)
    port = balancers[0].rpartition(":")[2]
    options = f"{{selector='all', backupSelector='all', timeout={CHECK_S}}}"
    url = f"http://{dns.API}:{port}/null"
    healthy = f"ifurlup('{url}', {{{listed}}}, {options})"
    script = f'"{healthy}"'
    if ctx.blueprint.in_regions:
        script = _prefer_active(url.replace("/null", "/active"), healthy, listed, ctx.host, options)
    servers = [(f"ns{number}", ctx.plan.host(node.kind, node.instance, node.region))
               for number, node in enumerate(ctx.blueprint.of_kind("pdns"), 1)]
    rows = [f"@ IN NS {name}" for name, _ in servers] + [f"{name} IN A {host}" for name, host in servers]
    rows += [f"api IN LUA A {script}",
             f'checked IN LUA A "ifurlup(\'{url}\', {{{{{listed}}}, {{\'{ctx.host}\'}}}}, {options})"']
    ttl_s = int(dns.TTL_S)
    return f"$ORIGIN {dns.ZONE}.\n$TTL {ttl_s}\n@ IN SOA ns1 hostmaster 1 3600 600 86400 {ttl_s}\n" + "\n".join(rows) + "\n"
