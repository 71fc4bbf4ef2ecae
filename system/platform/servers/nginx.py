"""nginx as the CDN edge: it checks the lab's own signature, then its cache, then reads from storage.

The order matters. Keyed with the signature, a cache would never hit; keyed without it and unchecked, anyone
with a path would get a private picture. So `secure_link` refuses in the rewrite phase, before the cache
lookup, and the cache is keyed on the path alone.

There is no anonymous bucket: nginx reads from storage as a user of its own, which may read finished media and
nothing else. S3 requires every request to be signed, with a new signature each second; nginx itself cannot do
that, its njs module can (a function of 25 lines, below). The alternatives were a shared secret in the
Referer, which is an anonymous bucket with a password, and the media service as a signing origin, which would
put a Python process into every miss.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from system.kernel import cdn_links
from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

MODULES = Path("/usr/lib/nginx/modules")
REGION = "us-east-1"
CACHE_MIB, ZONE_KIB = 256, 1024  # pictures are at most 5 MiB; a zone of 1 MiB indexes about 8,000 of them


@dataclass(frozen=True)
class Edge:
    """One edge.

    `listen`, `storage`, `counter`: host:port; `counter` gets one datagram per cache lookup, "" for none.

    `networks`: CIDR blocks that may purge and read its status. `spares`: further nodes of the same storage,
    used if `storage` does not answer.

    `secret`: of the lab's edges. `cache_bytes`: on disk; the cache manager enforces it, at intervals of up to
    10 s.
    `zone_kib`: of the index; beyond about 8 objects per KiB each new object evicts the oldest immediately.
    """

    listen: str
    storage: str
    folder: Path
    secret: str = field(repr=False)
    counter: str = ""
    cache_bytes: int = CACHE_MIB * 2**20
    zone_kib: int = ZONE_KIB
    spares: tuple[str, ...] = ()
    networks: tuple[str, ...] = ("127.0.0.0/8",)

    @property
    def files(self) -> dict[Path, str]:
        """The configuration: path -> text."""
        return {self.folder / "nginx.conf": conf(self), self.folder / "sign.js": script(self)}

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that runs it in the foreground."""
        return (packages.require("nginx"), *self.arguments)

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("-e", "stderr", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"))


class Nginx:
    """nginx-light of the distribution with its modules for purging and for njs."""

    package = packages.NGINX
    modules = (packages.NGINX_PURGE, packages.NGINX_JS)
    start_timeout_s = 15.0

    def launch(self, ctx: Context) -> Launch:
        # Without the caller's secret all requests are refused, the caller's too: better than a key that can
        # be guessed.
        secret = ctx.env.get("TWEETLAB_EDGE_SECRET") or secrets.token_hex(32)
        counters = ctx.near("media")
        own, *others = ctx.near("minio")
        edge = Edge(ctx.address, own, ctx.data, secret, counters[0] if counters else "",
                   networks=tuple(ctx.networks), spares=tuple(others))
        return Launch(argv=(ctx.programs.require("nginx"), *edge.arguments), env=base_env(ctx), files=edge.files,
                      folders=(ctx.data, *folders(edge)), drops_root=True, stop_timeout_s=3.0)

    async def probe(self, ctx: Context) -> str:
        return await health.http(ctx.address, "/health")

    def version(self) -> str:
        line = packages.version_line([packages.find("nginx") or "nginx", "-v"])
        return line.rpartition("/")[2].split()[0] if "/" in line else ""


def folders(edge: Edge) -> tuple[Path, ...]:
    """Return the folders that nginx writes to."""
    return (edge.folder / "cache", edge.folder / "temp")


def conf(edge: Edge) -> str:
    """Return nginx.conf. Errors of single requests are not logged: each line would contain a signed URL."""
    return f"""daemon off;
worker_processes 1;
pid {edge.folder}/nginx.pid;
error_log stderr crit;
load_module {MODULES}/ngx_http_js_module.so;
load_module {MODULES}/ngx_http_cache_purge_module.so;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_tokens off;
    sendfile on;
    keepalive_timeout 65s;
    client_header_timeout 5s;
    client_max_body_size 1k;
    large_client_header_buffers 4 4k;
    send_timeout 10s;
{_temporary(edge)}
    js_path {edge.folder};
    js_import sign from sign.js;
    js_set $storage_query sign.query;
    log_format lookup '$upstream_cache_status';
    proxy_cache_path {edge.folder}/cache levels=1:2 keys_zone=media:{edge.zone_kib}k max_size={edge.cache_bytes}
        min_free=256m inactive=7d use_temp_path=off manager_files=1000 manager_sleep=50ms manager_threshold=200ms;
    upstream storage {{ {_storage(edge)} keepalive 16; }}
    server {{
        listen {edge.listen} backlog=1024;
        location = /health {{ return 200 ok; }}
        location = /nginx_status {{ {_allow_rules(edge)} stub_status; }}
{_purge(edge)}
{_media(edge)}
        location / {{ return 404; }}
    }}
}}
"""


def _allow_rules(edge: Edge) -> str:
    return " ".join((*(f"allow {network};" for network in edge.networks), "deny all;"))


def _storage(edge: Edge) -> str:
    # A signature is valid at every node: it covers the Host header, which is the same for all nodes.
    if not edge.spares:
        return f"server {edge.storage} max_fails=0;"
    spares = " ".join(f"server {address} backup;" for address in edge.spares)
    return f"server {edge.storage} max_fails=1 fail_timeout=1s; {spares}"


def _temporary(edge: Edge) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(f"    {kind}_temp_path {edge.folder}/temp/{kind};" for kind in kinds)


def _purge(edge: Edge) -> str:
    header = cdn_links.PURGE_HEADER.replace("-", "_")
    return f"""        location ~ "^{cdn_links.PURGE_PREFIX}(?<object>/{cdn_links.OBJECTS})$" {{
            if ($request_method != PURGE) {{ return 405; }}
            if ($http_{header} != "{cdn_links.purge_key(edge.secret)}") {{ return 403; }}
            {_allow_rules(edge)}
            proxy_cache_purge media $object;
        }}"""


def _media(edge: Edge) -> str:
    # Vary and the headers of S3 are ignored: they would split the cache entry of a path, or forbid caching.
    hidden = ("Vary", "Strict-Transport-Security", "X-XSS-Protection", "X-Content-Type-Options", "X-RateLimit-Limit",
              "X-RateLimit-Remaining", "X-Amz-Id-2", "X-Amz-Request-Id", "x-amz-checksum-sha256", "x-amz-checksum-type")
    # A storage node that just came back returns 404 for some seconds for objects written without it: the
    # others are tried too.
    retry = "proxy_next_upstream error timeout http_404;" if edge.spares else ""
    syslog = f"syslog:server={edge.counter},nohostname,tag=cdn"
    access_log = f"access_log {syslog} lookup if=$upstream_cache_status;" if edge.counter else ""
    return f"""        location ~ "^/{cdn_links.OBJECTS}$" {{
            secure_link $arg_s,$arg_e;
            secure_link_md5 "$secure_link_expires$uri {cdn_links.link_key(edge.secret)}";
            if ($secure_link != "1") {{ return 403; }}
            limit_except GET {{ deny all; }}
            {access_log}
            {retry}
            proxy_cache media;
            proxy_cache_key $uri;
            proxy_cache_valid 200 7d;
            proxy_cache_lock on;
            proxy_cache_use_stale error timeout updating;
            proxy_force_ranges on;
            proxy_ignore_headers Vary Set-Cookie Cache-Control Expires X-Accel-Expires;
            {" ".join(f"proxy_hide_header {name};" for name in hidden)}
            add_header X-Cache $upstream_cache_status always;
            add_header Cache-Control "private, max-age=60" always;
            add_header X-Content-Type-Options nosniff always;
            add_header Content-Security-Policy "default-src 'none'; sandbox" always;
            proxy_http_version 1.1;
            proxy_pass_request_headers off;
            proxy_pass_request_body off;
            proxy_set_header Host {edge.storage};
            proxy_set_header Connection "";
            proxy_connect_timeout 1s;
            proxy_read_timeout 5s;
            proxy_pass http://storage$uri?$storage_query;
        }}"""


def script(edge: Edge) -> str:
    """Return the njs module that signs a read from storage (AWS Signature Version 4, in the query string)."""
    names = {"host": edge.storage, "user": cdn_links.STORAGE_USER, "password": cdn_links.storage_password(edge.secret),
             "region": REGION}
    return f"const storage = {json.dumps(names)};\n" + """
import crypto from 'crypto';

function hmac(key, text) {
    return crypto.createHmac('sha256', key).update(text);
}

function query(r) {
    const at = new Date().toISOString().replace(/[:-]/g, '').replace(/[.].*/, 'Z');
    const day = at.slice(0, 8);
    const scope = [day, storage.region, 's3', 'aws4_request'].join('/');
    const params = 'X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=' + encodeURIComponent(storage.user + '/' + scope)
        + '&X-Amz-Date=' + at + '&X-Amz-Expires=60&X-Amz-SignedHeaders=host';
    const request = ['GET', r.uri, params, 'host:' + storage.host, '', 'host', 'UNSIGNED-PAYLOAD'].join('\\n');
    const digest = crypto.createHash('sha256').update(request).digest('hex');
    const parts = [day, storage.region, 's3', 'aws4_request'];
    const key = parts.reduce((key, part) => hmac(key, part).digest(), 'AWS4' + storage.password);
    return params + '&X-Amz-Signature=' + hmac(key, ['AWS4-HMAC-SHA256', at, scope, digest].join('\\n')).digest('hex');
}

export default {query};
"""
