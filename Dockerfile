# All three programs in one small image: `terminator`, `worker`, `countersign`. They are one file with three names, linked once.
#
# It is built by BuildKit (Docker 23 and later by themselves, DOCKER_BUILDKIT=1 before that; Podman 4), which keeps what was compiled
# from one build to the next.
# Pin both bases by what you have verified: docker build --build-arg BASE=debian@sha256:… --build-arg RUST=rust@sha256:… .
ARG RUST=rust:1-bookworm
ARG BASE=debian:bookworm-slim
FROM ${RUST} AS build
# aws-lc is C and assembly, for which Rust's image has the compiler.
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    cargo build --profile dist --locked --bin countersign \
    && install -D -s -t /out target/dist/countersign \
    && for program in terminator worker; do ln -s countersign "/out/$program"; done

FROM ${BASE}
# Certificates for amqps and rediss. A health check is `countersign ready http://127.0.0.1:9090`, which needs no curl.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/local/bin/
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/countersign/
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0"
# As a number, so that Kubernetes sees that it is not root. It needs no name.
USER 10001:10001
# Docker and Podman let it listen on any port, 443 too; Kubernetes by a sysctl of the pod (deploy/kubernetes/README.md).
EXPOSE 8080 9090 9091
CMD ["terminator"]
