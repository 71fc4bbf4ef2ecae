"""The packages a lab needs, as data, and where they are installed. Nothing is fetched here.

| class | source | installed in |
|---|---|---|
| Maven | a Maven repository: one artifact with its runtime dependencies, or one zip | the cache |
| Go | the Go module proxy, compiled on this machine | the cache |
| Debian | the distribution's packages | the distribution's paths |

The cache is `$XDG_CACHE_HOME/tweetlab` (default ~/.cache/tweetlab), shared by all checkouts of a user.
A directory in it appears by one rename, with `SHA256SUMS` inside: it is complete or absent.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from system.kernel.errors import CouldNotRun

SUMS = "SHA256SUMS"
JAVA_MAJOR = 17  # Cassandra 5.0 runs on 11 and 17, Kafka 4.1 and Elasticsearch 8.19 on 17 and later
MIN_POSTGRES_MAJOR = 14
OUTSIDE_PATH = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/local/go/bin")


@dataclass(frozen=True)
class Maven:
    """A package from Maven.

    `coordinates`: group:artifact:version; `zip`: fetch and unpack one zip, else collect jars.
    """

    name: str
    version: str
    coordinates: tuple[str, ...]
    zip: bool = False


@dataclass(frozen=True)
class Go:
    """A Go program: `go install` compiles `module`@`pin`; `version` names the cache directory.

    `tool`: its go.mod has replace directives, which `go install` refuses: it is built as a tool of a module
    of ours.
    """

    name: str
    version: str
    module: str
    pin: str
    tool: bool = False


@dataclass(frozen=True)
class Debian:
    """A distribution package.

    `binary`: a program or a path pattern that must exist; `package`: its Debian and Ubuntu name.
    """

    name: str
    binary: str
    package: str


Package = Maven | Go | Debian

CASSANDRA = Maven("cassandra", "5.0.5", ("org.apache.cassandra:cassandra-all:5.0.5",))
# Without an SLF4J binding a broker logs nothing; the binding has the version of the log4j in its
# dependencies.
KAFKA = Maven(
    "kafka", "4.1.1", ("org.apache.kafka:kafka_2.13:4.1.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3")
)
ELASTICSEARCH = Maven(
    "elasticsearch", "8.19.21", ("org.elasticsearch.distribution.integ-test-zip:elasticsearch:8.19.21",), zip=True
)
MINIO = Go("minio", "20260212", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c")
REDIS = Debian("redis", "redis-server", "redis-server")
SENTINEL = Debian("redis-sentinel", "redis-sentinel", "redis-sentinel")
POSTGRES = Debian("postgres", "postgres", "postgresql")
HAPROXY = Debian("haproxy", "haproxy", "haproxy")
NGINX = Debian("nginx", "nginx", "nginx-light")
NGINX_PURGE = Debian("nginx-purge", "/usr/lib/nginx/modules/ngx_http_cache_purge_module.so", "libnginx-mod-http-cache-purge")
NGINX_JS = Debian("nginx-js", "/usr/lib/nginx/modules/ngx_http_js_module.so", "libnginx-mod-http-js")

EXIFTOOL = Debian("exiftool", "exiftool", "libimage-exiftool-perl")  # strips pictures; run by the media service

PROMETHEUS = Debian("prometheus", "prometheus", "prometheus")
ALERTMANAGER = Debian("alertmanager", "prometheus-alertmanager", "prometheus-alertmanager")
JAEGER = Go("jaeger", "1.65.0", "github.com/jaegertracing/jaeger/cmd/all-in-one", "v1.65.0", tool=True)
RSYSLOG = Debian("rsyslog", "rsyslogd", "rsyslog")
RSYSLOG_ELASTICSEARCH = Debian("rsyslog-elasticsearch", "/usr/lib/*/rsyslog/omelasticsearch.so", "rsyslog-elasticsearch")

PACKAGES: tuple[Package, ...] = (
    REDIS, SENTINEL, POSTGRES, HAPROXY, NGINX, NGINX_PURGE, NGINX_JS, EXIFTOOL, CASSANDRA, KAFKA, ELASTICSEARCH, MINIO,
)  # fmt: skip
OBSERVABILITY: tuple[Package, ...] = (PROMETHEUS, ALERTMANAGER, RSYSLOG, RSYSLOG_ELASTICSEARCH, JAEGER)
"""Needed only with --observe; fetched at its first use."""

ETCD = Debian("etcd", "etcd", "etcd-server")
PATRONI = Debian("patroni", "/usr/bin/patroni", "patroni")
PATRONI_ETCD = Debian("python3-etcd", "/usr/lib/python3/dist-packages/etcd/__init__.py", "python3-etcd")
PATRONI_POSTGRES = Debian("python3-psycopg2", "/usr/lib/python3/dist-packages/psycopg2/__init__.py", "python3-psycopg2")
PDNS = Debian("pdns", "pdns_server", "pdns-server")
PDNS_BIND = Debian("pdns-bind", "/usr/lib/*/pdns/libbindbackend.so", "pdns-backend-bind")

_ZONES: tuple[Package, ...] = (ETCD, PATRONI, PATRONI_ETCD, PATRONI_POSTGRES, PDNS, PDNS_BIND)
BY_BLUEPRINT: dict[str, tuple[Package, ...]] = {"cluster": _ZONES, "two_regions": _ZONES}
"""Blueprint -> what it needs besides PACKAGES; fetched when it is first started."""

CHROMIUM = Debian("chromium", "chromium", "chromium")
BROWSERS = (CHROMIUM.binary, "chromium-browser", "google-chrome")  # any of these
IPROUTE = Debian("iproute2", "ip", "iproute2")

TESTS: tuple[Package, ...] = (*OBSERVABILITY, *_ZONES, CHROMIUM, IPROUTE)
"""What the tests use besides PACKAGES: everything for any blueprint and --observe, and a browser to test our pages."""


def cache() -> Path:
    """Return the cache directory of this user. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "tweetlab"


def home(package: Maven | Go) -> Path:
    """Return the directory of a fetched package, complete or absent."""
    return cache() / "servers" / f"{package.name}-{package.version}"


def missing(package: Package) -> str:
    """Return one sentence that says what of `package` is missing and how to fix it; "" if nothing is."""
    if isinstance(package, Debian):
        if package.name == "postgres":
            return _missing_postgres()
        if package is CHROMIUM and browser():
            return ""
        installed = glob.glob(package.binary) if package.binary.startswith("/") else find(package.binary)
        return "" if installed else f"`{package.binary}` is not installed; install the package {package.package}."
    if (home(package) / SUMS).is_file():
        return ""
    return f"{package.name} {package.version} is not in {cache()}; run `make servers`."


def is_offered(package: Debian) -> bool:
    """Return whether the distribution offers `package`, by the current package lists; False without apt."""
    apt = find("apt-cache")
    return apt is not None and bool(re.search(r"Candidate: (?!\(none\))", _output([apt, "policy", package.package])))


def cannot_be_installed(package: Package) -> bool:
    """Return whether it cannot be installed: a distribution package without root, or one it lacks."""
    return isinstance(package, Debian) and (os.geteuid() != 0 or not is_offered(package))


def _missing_postgres() -> str:
    if postgres_bin() is not None:
        return ""
    return f"PostgreSQL >= {MIN_POSTGRES_MAJOR} is not installed; install the package postgresql."


def find(binary: str) -> str | None:
    """Return the path of a program, searching OUTSIDE_PATH too; None if it is absent."""
    return shutil.which(binary, path=os.pathsep.join((os.environ.get("PATH", ""), *OUTSIDE_PATH)))


def browser() -> str | None:
    """Return the path of a Chromium: TWEETLAB_CHROMIUM, else the first of BROWSERS; None if there is none."""
    return os.environ.get("TWEETLAB_CHROMIUM") or next(filter(None, map(find, BROWSERS)), None)


def require(binary: str) -> str:
    """Return the path of a program. Raises CouldNotRun, with the fix, if it is absent."""
    path = find(binary)
    if path is None:
        raise CouldNotRun(f"The program `{binary}` was not found; `tweetlab doctor` names what installs it.")
    return path


def postgres_bin() -> Path | None:
    """Return the directory of the newest PostgreSQL >= MIN_POSTGRES_MAJOR; None without one."""
    folders = [(int(p.parent.name), p) for p in Path("/usr/lib/postgresql").glob("[0-9]*/bin") if p.parent.name.isdigit()]
    for major, folder in sorted(folders, reverse=True):
        if major >= MIN_POSTGRES_MAJOR and (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    server = find("postgres")
    if server and find("initdb"):
        major = _first_number(version_line([server, "--version"]))
        return Path(server).parent if major >= MIN_POSTGRES_MAJOR else None
    return None


@functools.cache
def java() -> str | None:
    """Return the path of a Java of version JAVA_MAJOR; None without one.

    TWEETLAB_JAVA_HOME is tried first.
    """
    homes = [os.environ.get(name, "") for name in ("TWEETLAB_JAVA_HOME", "JAVA_HOME")]
    homes += sorted(str(path) for path in Path("/usr/lib/jvm").glob(f"*{JAVA_MAJOR}*"))
    tried = [os.path.join(home_, "bin", "java") for home_ in homes if home_]
    for path in [*tried, find("java") or ""]:
        if path and os.access(path, os.X_OK) and java_major(path) == JAVA_MAJOR:
            return path
    return None


@functools.cache
def java_version() -> str:
    """Return the version line of the Java of `java`; "" without one."""
    program = java()
    return version_line([program, "-version"]) if program else ""


def require_java() -> str:
    """Return the path of Java.

    Raises CouldNotRun, with the fix, if there is no Java of version JAVA_MAJOR.
    """
    program = java()
    if program is None:
        other = version_line([find("java") or "java", "-version"]) or "no java on the path"
        raise CouldNotRun(
            f"Java {JAVA_MAJOR} was not found ({other}); install openjdk-{JAVA_MAJOR}-jre-headless or set TWEETLAB_JAVA_HOME."
        )
    return program


def java_major(path: str) -> int:
    """Return the major version of a java program; 0 if it does not run."""
    match = re.search(r'version "(\d+)', version_line([path, "-version"]))
    return int(match.group(1)) if match else 0


def version_line(command: list[str]) -> str:
    """Return the first line of a version command's output; "" if it does not run."""
    return _output(command).split("\n")[0]


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip()


def _first_number(text: str) -> int:
    match = re.search(r"(\d+)", text)
    return int(match.group(1)) if match else 0
