# Two images from one file: `services` (all four services, the recorder and the command `offhook`) and `simulator`
# (carrier-sim and the example agents). `make images` builds both.
#
#   BASE     a Debian 12; Python 3.11 is installed from its packages. Nothing else of the system is needed.
#   secrets  optional, for machines behind a proxy: `ca.pem`, authorities to trust; `build.env`, a shell file with settings
#            of pip and uv (PIP_INDEX_URL, UV_DEFAULT_INDEX). They are mounted for single commands and stay in no layer.
ARG BASE=docker.io/library/debian:12-slim

FROM ${BASE} AS python
# Security updates of the release are wanted, so versions are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log

# What both images have, before anything of our own: who runs, where may be written, where to listen.
FROM python AS runtime
RUN groupadd --gid 10001 offhook \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/offhook --no-create-home --shell /usr/sbin/nologin offhook \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/offhook /var/lib/offhook/recordings
# Audio kernels are compiled at the bridge's first start, for the processor it finds, and kept in the state directory.
ENV PATH=/opt/offhook/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/lib/offhook/kernels \
    OFFHOOK_LISTEN_HOST=0.0.0.0 \
    OFFHOOK_LISTEN_PORT=8080 \
    OFFHOOK_STATE_DIR=/var/lib/offhook \
    OFFHOOK_RECORDINGS_DIR=/var/lib/offhook/recordings
WORKDIR /var/lib/offhook
USER 10001:10001

# The installer. It and everything it needs stay behind in the build stages.
FROM python AS tools
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/bootstrap.lock requirements/
RUN --mount=type=secret,id=ca.pem --mount=type=secret,id=build.env \
    if [ -s /run/secrets/build.env ]; then . /run/secrets/build.env; fi \
 && if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi \
 && python3 -m venv /opt/tools \
 && /opt/tools/bin/python -m pip install -q --no-cache-dir --disable-pip-version-check --require-hashes \
      -r requirements/bootstrap.lock
ENV UV_LINK_MODE=copy UV_HTTP_TIMEOUT=180 UV_CACHE_DIR=/var/cache/uv

FROM tools AS packages-services
COPY requirements/services.lock requirements/
RUN --mount=type=secret,id=ca.pem --mount=type=secret,id=build.env --mount=type=cache,target=/var/cache/uv \
    if [ -s /run/secrets/build.env ]; then . /run/secrets/build.env; fi \
 && if [ -s /run/secrets/ca.pem ]; then export SSL_CERT_FILE=/run/secrets/ca.pem; fi \
 && python3 -m venv --without-pip /opt/offhook \
 && /opt/tools/bin/uv pip sync -q --python /opt/offhook/bin/python --require-hashes --compile-bytecode \
      requirements/services.lock

# Our own packages are a layer of a few megabytes: it alone changes from version to version.
FROM packages-services AS build-services
COPY libs/common libs/common
COPY services services
RUN set -e; for package in libs/common services/*; do \
      /opt/tools/bin/uv build -q --wheel --no-build-isolation --python /opt/tools/bin/python -o /wheels "$package"; \
    done; \
    /opt/tools/bin/uv pip install -q --python /opt/offhook/bin/python --target /own/packages --no-deps --no-index \
      --compile-bytecode /wheels/*.whl; \
    mv /own/packages/bin /own/bin

FROM runtime AS services
COPY --from=packages-services /opt/offhook /opt/offhook
COPY --from=build-services /own/packages /opt/offhook/lib/python3.11/site-packages
COPY --from=build-services /own/bin /opt/offhook/bin
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="offhook" \
      org.opencontainers.image.description="The telephony edge for voice agents: gateway, media bridge, call tracker, number sync" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/debian:12-slim"
EXPOSE 8080 8081
# The process itself is the first one of the container, so that SIGTERM reaches it: webhook_gateway, media_bridge,
# call_tracker, number_sync, `call_tracker record`, `offhook.command prepare`.
ENTRYPOINT ["/opt/offhook/bin/python", "-m"]
CMD ["webhook_gateway"]

FROM tools AS packages-simulator
COPY requirements/simulator.lock requirements/
RUN --mount=type=secret,id=ca.pem --mount=type=secret,id=build.env --mount=type=cache,target=/var/cache/uv \
    if [ -s /run/secrets/build.env ]; then . /run/secrets/build.env; fi \
 && if [ -s /run/secrets/ca.pem ]; then export SSL_CERT_FILE=/run/secrets/ca.pem; fi \
 && python3 -m venv --without-pip /opt/offhook \
 && /opt/tools/bin/uv pip sync -q --python /opt/offhook/bin/python --require-hashes --compile-bytecode \
      requirements/simulator.lock

FROM packages-simulator AS build-simulator
COPY libs libs
RUN set -e; for package in libs/*; do \
      /opt/tools/bin/uv build -q --wheel --no-build-isolation --python /opt/tools/bin/python -o /wheels "$package"; \
    done; \
    /opt/tools/bin/uv pip install -q --python /opt/offhook/bin/python --target /own/packages --no-deps --no-index \
      --compile-bytecode /wheels/*.whl; \
    mv /own/packages/bin /own/bin

FROM runtime AS simulator
COPY --from=packages-simulator /opt/offhook /opt/offhook
COPY --from=build-simulator /own/packages /opt/offhook/lib/python3.11/site-packages
COPY --from=build-simulator /own/bin /opt/offhook/bin
COPY examples /opt/offhook/examples
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="offhook-simulator" \
      org.opencontainers.image.description="A simulated Twilio and Vonage, and example agents, to try Offhook without a phone" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/debian:12-slim"
EXPOSE 4443 8765
# `-m carrier_sim.cli serve …`, or an agent: /opt/offhook/examples/echo_agent.py
ENTRYPOINT ["/opt/offhook/bin/python"]
CMD ["-m", "carrier_sim.cli", "--help"]
