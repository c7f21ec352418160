# The gateway in a container; deploy/compose.yaml runs it, docs/install.md tells more.
#
#   docker build -t gateway .
#
# Tunnels are the host kernel's where it has ESP, xfrm interfaces and nft queue; otherwise processes
# in the container carry their packets (docs/dataplanes.md). `gateway check` tells.

FROM debian:12-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/gateway
COPY requirements.lock /src/
RUN /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r /src/requirements.lock
COPY pyproject.toml README.md LICENSE /src/
COPY gateway /src/gateway
# The package brings no dependency of its own: all of them are locked above.
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps /src

FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 libnftables1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --shell /usr/sbin/nologin gateway-api \
    && install -d -m 0711 /var/lib/gateway \
    && install -d -m 0755 /run/gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1
# The core is root with the capabilities of the compose file; its API process is gateway-api.
# SIGTERM hands the sessions over to the next container, SIGINT ends them.
VOLUME ["/var/lib/gateway"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["run", "--config", "/etc/gateway/gateway.toml"]
