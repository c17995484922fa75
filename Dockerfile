# All three programs in one small image: `terminator`, `worker`, `countersign`.
FROM rust:1-bookworm AS build
# aws-lc is C and assembly.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    cargo build --release --locked --bins \
    && install -D -s -t /out target/release/terminator target/release/worker target/release/countersign

FROM debian:bookworm-slim
# Certificates for amqps and rediss, curl for health checks.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 countersign \
    && useradd --no-create-home --shell /usr/sbin/nologin --uid 10001 --gid 10001 countersign
COPY --from=build /out/ /usr/local/bin/
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/countersign/
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0"
# As a number, so that Kubernetes sees that it is not root.
USER 10001:10001
EXPOSE 8080 9090 9091
CMD ["terminator"]
