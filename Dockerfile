# All three programs in one small image: `terminator`, `worker`, `countersign`.
FROM rust:1-bookworm AS build
# aws-lc is C and assembly.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bins \
    && install -D -t /out target/release/terminator target/release/worker target/release/countersign

FROM debian:bookworm-slim
# Certificates for amqps and rediss, curl for health checks.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --uid 10001 countersign
COPY --from=build /out/ /usr/local/bin/
USER countersign
EXPOSE 8080 9090 9091
CMD ["terminator"]
