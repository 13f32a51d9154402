# muster in containers. Two images are made here:
#
#   docker build -t muster .                        every verb, nothing else: no shell, no libraries
#   docker build -t muster-agent --target agent .   the same binary with a shell, for the agent
#
# It needs BuildKit, which says what is built for what (TARGETOS, TARGETARCH), and is the
# default since Docker 23. For two kinds of machine at once, without emulation:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=1.2.3 .

# The compiler runs on the machine that builds, whatever it builds for.
FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS build
WORKDIR /src
# The compiler of the image, and no other; no C library, so that the binary needs none.
ENV GOTOOLCHAIN=local CGO_ENABLED=0

# A layer of their own for the modules: they are fetched again when go.mod changes, not
# with each change of the sources.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG TARGETOS
ARG TARGETARCH
# Without it the binary says the version of the sources.
ARG VERSION=
# The mount keeps what was compiled last time, and is no part of the image: a change of the
# sources compiles what it changes.
RUN --mount=type=cache,target=/root/.cache/go-build \
    GOOS="$TARGETOS" GOARCH="$TARGETARCH" go build -trimpath -buildvcs=false \
      -ldflags "-s -w ${VERSION:+-X main.version=$VERSION}" -o /out/muster ./cmd/muster && \
    mkdir /out/state

# The agent runs what operators dispatch by /bin/sh, so here is one, with the usual tools.
FROM alpine:3.22 AS agent
ARG VERSION=
LABEL org.opencontainers.image.title="muster agent" \
      org.opencontainers.image.description="A host of muster: stays connected, runs what is dispatched to it, reports" \
      org.opencontainers.image.source="https://github.com/musterhq/muster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /out/muster /muster
# Its journal: what it has run already, and reports that are not yet in Redis.
COPY --from=build --chown=65532:65532 /out/state /var/lib/muster
VOLUME /var/lib/muster
ENV MUSTER_STATE_DIR=/var/lib/muster MUSTER_METRICS_BIND=127.0.0.1:9150
EXPOSE 6655/udp
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/muster", "health"]
ENTRYPOINT ["/muster"]
CMD ["agent"]

# Listener, worker, dashboard, and the verbs that ask and dispatch. It is the last stage,
# and so the one that is built when none is named.
FROM scratch AS muster
ARG VERSION=
LABEL org.opencontainers.image.title="muster" \
      org.opencontainers.image.description="Keeps the roll of a fleet and sets it to work" \
      org.opencontainers.image.source="https://github.com/musterhq/muster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
# For rediss://: who vouches for the server.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/muster /muster
COPY LICENSE /LICENSE
# The health check asks this address, from inside the container. Where another one is
# wanted, set the variable and not the flag: the check sees only the variable.
ENV MUSTER_METRICS_BIND=127.0.0.1:9150
EXPOSE 11451/tcp 8080/tcp
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/muster", "health"]
ENTRYPOINT ["/muster"]
CMD ["help"]
