"""PowerDNS: authoritative for the lab's own name, `api.tweetlab.test`, which leads to the balancers that answer.

Each server asks every balancer for `/null` once a second; one that refuses fails at once, one that hangs after CHECK_S. An answer
holds all addresses that passed, for a second. Where none passed it holds all of them: a check that failed on a busy machine must
not close the door. The servers of a cluster hold the same zone and know nothing of each other; a client asks the next where one
is silent. Nothing else is answered: no recursion, no transfer.

Checks begin with the first question, and until one has passed PowerDNS counts every address as failing. So a start asks until
then. To tell, a second name has a last resort that nobody listens at: the DNS server's own address.

In a lab of regions the doors of the active one come first, those that answer `/active`: behind them the cache is near. Where none
does, as for some seconds after a region was lost, all that are well are named.
"""

from __future__ import annotations

import asyncio

from system.kernel import dns
from system.kernel.errors import CouldNotRun
from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

CHECKED = f"checked.{dns.ZONE}"
CHECK_S = 1  # between two checks, and for one; PowerDNS 4.7 knows whole seconds


class PowerDNS:
    """The authoritative server of the distribution with its backend for zone files."""

    package = packages.PDNS
    modules = (packages.PDNS_BIND,)
    start_timeout_s = 20.0

    def launch(self, ctx: Context) -> Launch:
        files = {ctx.config / "pdns.conf": conf(ctx), ctx.config / "named.conf": named(ctx), ctx.config / "zone": zone(ctx)}
        return Launch(
            argv=(packages.need("pdns_server"), f"--config-dir={ctx.config}", "--daemon=no", "--guardian=no"),
            env=base_env(ctx),
            files=files,
            folders=(ctx.data,),
            drops_root=True,
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        try:
            found = await asyncio.to_thread(dns.ask, ctx.address, CHECKED, health.PROBE_TIMEOUT_S / 2)
        except CouldNotRun as problem:
            raise health.Unhealthy(problem.detail) from None
        if not found or ctx.host in found:
            raise health.Unhealthy("no balancer has passed its check")
        return f"{dns.API}: {', '.join(found)}"

    def version(self) -> str:
        words = packages.version_line([packages.find("pdns_server") or "pdns_server", "--version"]).split()
        return words[words.index("Server") + 1] if "Server" in words[:-1] else ""


def _led(url: str, well: str, listed: str, own: str, how: str) -> str:
    """Return the script that names the doors that answer `url`; where none does its answer holds `own`, and `well` is named.

    Both are asked each time, so that the checks of both have started when one is needed.
    """
    return (f"\";local active=ifurlup('{url}', {{{{{listed}}}, {{'{own}'}}}}, {how}) local well={well} "
            f"for _, door in pairs(active) do if door == '{own}' then return well end end return active\"")


def conf(ctx: Context) -> str:
    """Return pdns.conf. Nothing is cached: an answer is as old as the last check."""
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
    """Return what the backend reads: the one zone."""
    return f'zone "{dns.ZONE}" {{ type native; file "{ctx.config}/zone"; }};\n'


def zone(ctx: Context) -> str:
    """Return the zone. Both names run the same checks."""
    doors = ctx.addresses("haproxy")
    listed = ", ".join(f"'{door.rpartition(':')[0]}'" for door in doors)
    port = doors[0].rpartition(":")[2]
    how = f"{{selector='all', backupSelector='all', timeout={CHECK_S}}}"
    url = f"http://{dns.API}:{port}/null"
    well = f"ifurlup('{url}', {{{listed}}}, {how})"
    led = f'"{well}"'
    if ctx.blueprint.in_regions:
        led = _led(url.replace("/null", "/active"), well, listed, ctx.host, how)
    servers = [(f"ns{number}", ctx.plan.host(node.kind, node.instance, node.region))
               for number, node in enumerate(ctx.blueprint.of_kind("pdns"), 1)]
    rows = [f"@ IN NS {name}" for name, _ in servers] + [f"{name} IN A {host}" for name, host in servers]
    rows += [f"api IN LUA A {led}",
             f'checked IN LUA A "ifurlup(\'{url}\', {{{{{listed}}}, {{\'{ctx.host}\'}}}}, {how})"']
    ttl_s = int(dns.TTL_S)
    return f"$ORIGIN {dns.ZONE}.\n$TTL {ttl_s}\n@ IN SOA ns1 hostmaster 1 3600 600 86400 {ttl_s}\n" + "\n".join(rows) + "\n"
