# The gateway in a container:
#
#   docker build -t gateway .
#   docker run --rm --network host --cap-drop ALL \
#       --cap-add NET_ADMIN --cap-add NET_RAW --cap-add NET_BIND_SERVICE \
#       --cap-add SETUID --cap-add SETGID --cap-add CHOWN --cap-add SETPCAP --cap-add DAC_OVERRIDE \
#       -v /etc/gateway:/etc/gateway:ro gateway
#
# The tunnels are the host kernel's: it needs ESP, xfrm interfaces and nft queue (`gateway check`).

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
    && useradd --system --no-create-home --shell /usr/sbin/nologin gateway-api
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1
# The core runs as root with the capabilities above; `user = "gateway-api"` in [api] is for its API process.
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["run", "--config", "/etc/gateway/gateway.toml"]
