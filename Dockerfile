# One image per target. Ours: services, edge, minio. Stand-ins of official images, for machines that can
# reach package registries and no registry of images: redis, cassandra, postgres, kafka, elasticsearch, haproxy,
# prometheus, alertmanager, jaeger (docker-compose.standin.yml; contract: system/platform/containers/images.yaml).
#
# No `# syntax=` line: it would pull a frontend. Secrets are optional: `pip` (a pip.conf) and `ca` (certificates
# of a network that inspects TLS); they leave nothing in the image.

ARG PYTHON_BASE=python:3.12-slim-bookworm
ARG DEBIAN_BASE=debian:bookworm-slim
ARG GO_BASE=golang:1.25-bookworm
ARG MINIO_PROGRAM=minio-build

# --- ours: the services ------------------------------------------------------------------------------------------
FROM ${PYTHON_BASE} AS services-build
COPY requirements-services.txt constraints.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /venv \
    && /venv/bin/pip install --quiet --disable-pip-version-check -r /build/requirements-services.txt -c /build/constraints.txt \
    && /venv/bin/pip uninstall --quiet --yes pip setuptools \
    && find /venv -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
    && find /venv -name '*.so' -exec sh -c 'command -v strip >/dev/null && strip --strip-unneeded "$@" || true' sh {} +
COPY system /app/system
# The services run as a user that cannot write byte code, and eleven of them would compile it at each start.
RUN /venv/bin/python -m compileall -q -j 0 /app

FROM ${PYTHON_BASE} AS services
# It strips uploaded pictures; without what it needs for archives and other file types.
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends libimage-exiftool-perl \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 1000 tweetlab && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tweetlab \
    && install -d -o 1000 -g 1000 /data /effects && install -d /lab
COPY --from=services-build /venv /venv
COPY --from=services-build /app /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONPATH=/app
WORKDIR /app
USER 1000:1000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/venv/bin/python", "-m"]

# --- ours: the media edge, because the official nginx lacks the module that purges the cache ------------------------
FROM ${DEBIAN_BASE} AS edge
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        nginx-light libnginx-mod-http-js libnginx-mod-http-cache-purge curl \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 101 --non-unique edge && useradd --uid 101 --non-unique --gid 101 --no-create-home --shell /usr/sbin/nologin edge \
    && install -d -o 101 -g 101 /var/cache/nginx
USER 101:101
STOPSIGNAL SIGQUIT
CMD ["/usr/sbin/nginx", "-g", "daemon off;"]

# --- ours: MinIO, compiled from the pinned source (AGPL v3; it left Docker Hub) -------------------------------------
FROM ${GO_BASE} AS minio-build
ARG MINIO_PIN=v0.0.0-20260212201848-7aac2a2c5b7c
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/go/pkg/mod \
    CGO_ENABLED=0 GOBIN=/ go install -trimpath -ldflags "-s -w" github.com/minio/minio@${MINIO_PIN}

# A machine without a Go image takes the program of the native lab instead: MINIO_PROGRAM=minio-cache.
FROM ${MINIO_PROGRAM} AS minio-program

FROM ${DEBIAN_BASE} AS minio
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends curl ca-certificates \
    && rm -rf /var/lib/apt/lists/* && install -d -o 1000 -g 1000 /data
COPY --from=minio-program /minio /usr/bin/minio
USER 1000:1000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/minio"]

# --- stand-ins: same user, paths and tools as the official image -----------------------------------------------------
# `servers` is the cache of `make servers`: the native lab's own jars.
FROM ${DEBIAN_BASE} AS redis
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends redis-server redis-sentinel \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/bin/redis-server /usr/bin/redis-sentinel /usr/bin/redis-cli /usr/local/bin/ \
    && install -d -o 999 -g 999 /data
VOLUME /data
WORKDIR /data
STOPSIGNAL SIGTERM
CMD ["redis-server"]

FROM ${DEBIAN_BASE} AS haproxy
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends haproxy \
    && rm -rf /var/lib/apt/lists/* && ln -s /usr/sbin/haproxy /usr/local/sbin/haproxy
USER 99:99
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]

FROM ${DEBIAN_BASE} AS postgres
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql-common \
    && echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/* \
    && groupmod --gid 999 --non-unique postgres && usermod --uid 999 --non-unique --gid 999 postgres \
    && ln -s /usr/lib/postgresql/*/bin /usr/lib/postgresql/bin \
    && install -d -o 999 -g 999 -m 1777 /var/lib/postgresql/data
ENV PATH=$PATH:/usr/lib/postgresql/bin PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
CMD ["postgres"]

# The package of Java needs the directory of manual pages, which lean bases lack.
FROM ${DEBIAN_BASE} AS java
RUN mkdir -p /usr/share/man/man1 && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* && mkdir -p /opt/java && ln -s /usr/lib/jvm/java-17-openjdk-* /opt/java/openjdk

FROM java AS cassandra
COPY --from=servers cassandra-5.0.5/lib /opt/cassandra/lib
RUN install -d -o 999 -g 999 -m 1777 /var/lib/cassandra
VOLUME /var/lib/cassandra
STOPSIGNAL SIGTERM
CMD ["false"]

FROM java AS kafka
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends netcat-openbsd \
    && rm -rf /var/lib/apt/lists/*
COPY --from=servers kafka-4.1.1/lib /opt/kafka/libs
RUN install -d -o 1000 -g 1000 /var/lib/kafka/data
VOLUME /var/lib/kafka/data
USER 1000:1000
STOPSIGNAL SIGTERM
CMD ["false"]

FROM java AS elasticsearch
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/*
COPY --from=servers elasticsearch-8.19.21 /usr/share/elasticsearch
RUN ln -s /opt/java/openjdk /usr/share/elasticsearch/jdk && install -d -o 1000 -g 0 -m 775 /usr/share/elasticsearch/data
USER 1000:0
STOPSIGNAL SIGTERM
CMD ["false"]

# The observers' originals hold busybox and no bash.
FROM ${DEBIAN_BASE} AS busybox
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends busybox-static \
    && rm -rf /var/lib/apt/lists/* && ln -s /bin/busybox /usr/bin/wget

FROM busybox AS prometheus
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* && ln -s /usr/bin/prometheus /bin/prometheus 2>/dev/null; \
    install -d -o 65534 -g 65534 /prometheus && rm /bin/bash
USER 65534:65534
VOLUME /prometheus
STOPSIGNAL SIGTERM
CMD ["/bin/prometheus"]

FROM busybox AS alertmanager
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends prometheus-alertmanager \
    && rm -rf /var/lib/apt/lists/* && ln -s /usr/bin/prometheus-alertmanager /bin/alertmanager \
    && install -d -o 65534 -g 65534 /alertmanager && rm /bin/bash
USER 65534:65534
VOLUME /alertmanager
STOPSIGNAL SIGTERM
CMD ["/bin/alertmanager"]

FROM busybox AS jaeger
COPY --from=servers jaeger-1.65.0/jaeger /go/bin/all-in-one-linux
RUN rm /bin/bash
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["/go/bin/all-in-one-linux"]
