"""HAProxy: the public load balancer and the mesh in front of each service.

It answers `GET /null` itself: that latency shows what the machine adds. Only GETs are retried, and only
if no byte of a response arrived; a POST or DELETE is never sent twice. Instances are added and removed
over its runtime socket.
"""

from __future__ import annotations

import json

from system.kernel.settings import MESH_PORTS
from system.platform import health
from system.platform.install import packages
from system.platform.servers import sentinel
from system.platform.servers.base import Context, Launch, base_env

# A busy server is not dead: three checks of 3 s have to fail, or its port refuse connections. Beyond 256
# requests in flight per server, requests wait here, where waiting costs nothing: 800 reads/s once had the
# only gateway ejected repeatedly.
PLACES = 256
MAX_IN_FLIGHT_QUEUED = 32  # if autoscaling targets the queueing time: with more, requests queue inside instances, unmeasured
CHECKS = f"check inter 1s fastinter 250ms downinter 250ms fall 3 rise 1 maxconn {PLACES}"
SERVER = f"{CHECKS} pool-purge-delay 5s"  # for a server added at run time, which inherits no defaults
LAST_RESORT = "last-resort"

METRICS_PORT = 8404
# The gateway's pages for its scraper and its load balancer are not public.
NO_SUCH_PAGE = '{"title":"Not Found Error","detail":"No such route.","type":"about:blank","status":404}'
HIDDEN = (f"    http-request return status 404 content-type application/json string '{NO_SUCH_PAGE}' "
          "if { path,url_dec -m reg ^/*(metrics|health)/*$ }\n")
# A request is forwarded only when its body has arrived (up to the buffer's 64 KiB, the API's limit), within
# the request timeout: a slow client occupies no gateway.
BUFFER_REQUEST = "    option http-buffer-request\n"
# Known only to the public load balancer, whatever a client claims: the client's address (for limits), and the
# time of arrival (for load shedding).
STAMP_HEADERS = ("    http-request set-header x-forwarded-for %[src]\n"
          "    http-request set-header x-request-start %[date(0,us)]\n")


NEAR, FAR = 256, 1  # weights; with leastconn an idle remote instance would rank the same as an idle local one
CACHE_HERE = "cache-here"
"""A backend without traffic: its servers are the sentinels, up if they name a cache primary in this region."""


class HAProxy:
    """HAProxy of the distribution."""

    package = packages.HAPROXY
    start_timeout_s = 15.0

    def launch(self, ctx: Context) -> Launch:
        conf = ctx.config / "haproxy.cfg"
        return Launch(
            argv=(ctx.programs.require("haproxy"), "-db", "-q", "-f", str(conf)),
            env=base_env(ctx),
            files={conf: render(ctx)},
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.http(ctx.address, "/null")

    def version(self) -> str:
        line = packages.version_line([packages.find("haproxy") or "haproxy", "-v"])
        words = line.split()
        return words[words.index("version") + 1] if "version" in words else ""


def runtime_socket(ctx: Context) -> str:
    """Return the path of the runtime API's Unix socket."""
    return str(ctx.paths.data_dir / f"{ctx.node.name}.sock")


def render(ctx: Context) -> str:
    """Return the node's haproxy.cfg."""
    active = _active(ctx) if ctx.blueprint.in_regions else ""
    parts = [_head(ctx), _metrics(ctx), _frontend("gateway", ctx.address, null=True, active=active)]
    parts += [_frontend(name, f"{ctx.host}:{port}") for name, port in MESH_PORTS.items()]
    parts += [_backend(ctx, name) for name in ("gateway", *MESH_PORTS)]
    parts += [_cache_here(ctx)] if ctx.blueprint.in_regions else []
    return "\n".join(parts)


def _head(ctx: Context) -> str:
    return f"""global
    maxconn 4096
    nbthread 1
    tune.bufsize 65536
    hard-stop-after 2s
    stats socket {runtime_socket(ctx)} mode 600 level admin

defaults
    mode http
    timeout connect 1s
    timeout client 65s
    timeout server 35s
    timeout queue 2s
    timeout check 3s
    timeout http-request 10s
    timeout http-keep-alive 65s
    option http-keep-alive
    option redispatch
    http-reuse safe
    retries 2
    retry-on conn-failure empty-response
    default-server {CHECKS}
"""


def _metrics(ctx: Context) -> str:
    service = "http-request use-service prometheus-exporter if { path /metrics }"
    return f"frontend metrics\n    bind {ctx.host}:{METRICS_PORT}\n    {service}\n    no log\n"


def errors() -> str:
    """Return the lines that give HAProxy's own error responses the API's error format."""
    texts = {  # what the client can do
        400: ("Bad Request", "The request is no HTTP, or its head is longer than 63 KiB; shorten it."),
        408: ("Request Timeout", "The request did not arrive within 10 s; send it again."),
        502: ("Bad Gateway", "A gateway broke off its answer; a write may have happened."),
        503: ("Service Unavailable", "No gateway is free; retry in a second."),
        504: ("Gateway Timeout", "A gateway did not answer in time; a write may have happened."),
    }
    bodies = {status: json.dumps({"title": title, "detail": detail, "type": "about:blank", "status": status})
              for status, (title, detail) in texts.items()}
    return "".join(f"    http-error status {status} content-type application/json string '{body}'\n"
                   for status, body in bodies.items())


def _frontend(name: str, address: str, null: bool = False, active: str = "") -> str:
    null_page = "    http-request return status 200 content-type text/plain string ok if { path /null }\n"
    own = null_page + active + BUFFER_REQUEST + errors() + HIDDEN + STAMP_HEADERS if null else ""
    return f"frontend {name}\n    bind {address}\n{own}    default_backend {name}\n"


def _active(ctx: Context) -> str:
    """Return the rules for /active: 200 if most sentinels name a primary in this region.

    The region's own Redis is not asked: cut off, it would claim to be primary forever.
    """
    majority = len(ctx.blueprint.of_kind("sentinel")) // 2 + 1
    return ("    http-request return status 200 content-type text/plain string active "
            f"if {{ path /active }} {{ nbsrv({CACHE_HERE}) ge {majority} }}\n"
            "    http-request return status 503 content-type text/plain string standby if { path /active }\n")


def _cache_here(ctx: Context) -> str:
    # `min-recv 0`: the first bytes of a reply decide; else HAProxy waits out its 3 s for more of a reply that
    # names another.
    rows = [f"    server {node.name} {ctx.plan.of(node.kind, node.instance, node.region)} check inter 500ms fall 2 rise 1"
            for node in ctx.blueprint.of_kind("sentinel")]
    own = next(ctx.plan.host(node.kind, node.instance, node.region) for node in ctx.blueprint.of_kind("redis")
               if node.region == ctx.node.region)
    return f"""backend {CACHE_HERE}
    mode tcp
    option tcp-check
    tcp-check connect
    tcp-check send SENTINEL\\ GET-MASTER-ADDR-BY-NAME\\ {sentinel.GROUP}\\r\\n
    tcp-check expect min-recv 0 string {own}\\r\\n
{chr(10).join(rows)}
"""


def _backend(ctx: Context, name: str) -> str:
    # A service's only instance is never ejected: while none passes its checks, requests go to the addresses
    # of the blueprint's instances. A refused connection is retried for up to 2 s, about as long as an
    # automatic restart takes.
    instances = ctx.blueprint.of_kind(name)
    nodes = [(node.name, ctx.plan.of(name, node.instance, node.region)) for node in instances]
    # In regions a request stays in its own while an instance is up there: each hop to another costs a round
    # trip.
    weights = [f" weight {NEAR if node.region == ctx.node.region else FAR}" if ctx.blueprint.in_regions else ""
               for node in instances]
    rows = [f"    server {node} {address}{weight}" for (node, address), weight in zip(nodes, weights, strict=True)]
    rows += [f"    server {LAST_RESORT}-{n} {address} backup no-check" for n, (_, address) in enumerate(nodes, 1)]
    error_files = errors() if name == "gateway" else ""
    return f"""backend {name}
{error_files}    balance {"roundrobin" if ctx.blueprint.in_regions else "leastconn"}
    option httpchk GET /health
    option allbackups
    http-request disable-l7-retry if !METH_GET
{chr(10).join(rows)}
"""
