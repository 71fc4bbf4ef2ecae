"""rsyslog: ships the log lines of our processes to Elasticsearch, in bulk, each once.

A process of the lab with its own configuration and working directory; the machine's rsyslog is never touched.
Lines are read from the nodes' files (`imfile`), so a process never waits for the shipper, and unshipped lines
remain there. While Elasticsearch does not answer, lines wait in memory, then on disk (at most `QUEUE_MIB`),
then in the files themselves.

A line is stored in the index of its own hour, under its own `id`, with the operation *create*: a line shipped
twice is one document. So the read position in a file is saved only by a graceful stop: after a kill the file
is read and sent again, and lines that were in memory are not lost. A line that is not JSON, as a crash
writes, has level `raw`; file and offset are its id. Indices and their size: `system/observe/log_index.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

from system.platform import health
from system.platform.blueprint import SERVICE_MODULES
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

QUEUE_MIB = 64
NAMESPACE = "tweetlab"
RETRY_S = 2
OURS = (*(f"{kind}-*" for kind in (*SERVICE_MODULES, "exporter", "receiver")), "supervisor")
"""Names of the log files that our own processes write; the stores' logs are not shipped."""


class Rsyslog:
    """rsyslogd of the distribution with its module omelasticsearch."""

    package = packages.RSYSLOG
    start_timeout_s = 10.0

    def launch(self, ctx: Context) -> Launch:
        conf = ctx.config / "rsyslog.conf"
        return Launch(
            argv=(ctx.programs.require("rsyslogd"), "-n", "-f", str(conf), "-i", str(_pid_file(ctx))),
            env=base_env(ctx),
            files={conf: render(ctx)},
            folders=(ctx.data,),
            stale=(_pid_file(ctx),),
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        """Healthy once its pid file exists: rsyslogd writes it after it has opened its inputs."""
        if not _pid_file(ctx).exists():
            raise health.Unhealthy("it has not read its configuration yet")
        return f"reads {ctx.paths.log('*')}"

    def version(self) -> str:
        words = packages.version_line([packages.find("rsyslogd") or "rsyslogd", "-v"]).split()
        return words[1] if len(words) > 1 else ""


def _pid_file(ctx: Context) -> Path:
    return ctx.data / "rsyslogd.pid"


def render(ctx: Context) -> str:
    """Return the node's rsyslog.conf."""
    files = [ctx.paths.log(name) for name in OURS]
    host, port = _elasticsearch(ctx).split(":")
    head = _HEAD.format(work=ctx.data, index=ctx.env.get("TWEETLAB_NAMESPACE", NAMESPACE).lower(), host=host, port=port,
                        mib=QUEUE_MIB, retry_s=RETRY_S)
    return head + "".join(_INPUT.format(file=file) for file in files)


def _elasticsearch(ctx: Context) -> str:
    """Return host:port: of the caller's TWEETLAB_STORES, else of the blueprint's first."""
    urls = json.loads(ctx.env.get("TWEETLAB_STORES", "{}")).get("elasticsearch")
    return str(urls[0]).removeprefix("http://") if urls else ctx.addresses("elasticsearch")[0]


_HEAD = """global(workDirectory="{work}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
module(load="imfile")
module(load="mmjsonparse")
module(load="omelasticsearch")

template(name="index" type="list") {{
  constant(value="{index}-logs-")
  property(name="$!time" position.from="1" position.to="10")
  constant(value="-")
  property(name="$!time" position.from="12" position.to="13")
}}
template(name="id" type="list") {{ property(name="$.id") }}
template(name="document" type="subtree" subtree="$!")
template(name="now" type="string" string="%timegenerated:::date-rfc3339,date-utc%")
template(name="refused" type="string" string="refused by Elasticsearch: %$.omes%\n")

ruleset(name="bulk") {{
  if strlen($.omes!status) > 0 then {{
    # Elasticsearch's result for one line of a bulk. 409: it is stored already.
    if $.omes!status == 200 or $.omes!status == 201 or $.omes!status == 409 then stop
    if $.omes!status >= 400 and $.omes!status < 500 and $.omes!status != 429 then {{
      action(type="omfile" file="/dev/stdout" template="refused")
      stop
    }}
    set $.id = $.omes!_id;
  }}
  action(type="omelasticsearch" server="{host}" serverport="{port}" template="document" searchType=""
         searchIndex="index" dynSearchIndex="on" bulkId="id" dynBulkId="on" writeOperation="create" bulkMode="on" maxBytes="2m"
         retryFailures="on" retryRuleset="bulk" healthCheckTimeout="2000" indexTimeout="10000"
         action.resumeRetryCount="-1" action.resumeInterval="{retry_s}" action.resumeIntervalMax="{retry_s}"
         queue.type="LinkedList" queue.fileName="waiting" queue.maxDiskSpace="{mib}m" queue.size="20000"
         queue.dequeueBatchSize="500" queue.saveOnShutdown="on" queue.timeoutEnqueue="86400000")
}}

ruleset(name="ship") {{
  if $msg == "" then stop
  set $.file = $!metadata!filename;
  set $.id = $.file & ":" & $!metadata!fileoffset;
  unset $!metadata;
  action(type="mmjsonparse" cookie="")
  if $parsesuccess != "OK" or re_match($!time, '^2[0-9]{{3}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:') == 0 then {{
    unset $!msg;
    set $!time = exec_template("now");
    set $!level = "raw";
    set $!message = $msg;
  }}
  if $!instance == "" then set $!instance = re_extract($.file, '([^/]+)[.]log$', 0, 1, "");
  if $!service == "" then set $!service = re_extract($!instance, '^(.+)-[0-9]+$', 0, 1, "");
  if $!id != "" then set $.id = $!id;
  call bulk
}}

# rsyslog's own messages go to this node's log.
if $syslogfacility-text == "syslog" then action(type="omfile" file="/dev/stdout")

"""
_INPUT = """input(type="imfile" file="{file}" tag="lab" ruleset="ship" addMetadata="on" freshStartTail="off"
      persistStateInterval="0" reopenOnTruncate="on")
"""
