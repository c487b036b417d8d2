# One image, one binary; the role is the command.
FROM rust:1.95-bookworm AS build
WORKDIR /galley
COPY . .
RUN cargo build --release --locked --bin galley

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 galley
COPY --from=build /galley/target/release/galley /usr/local/bin/galley
USER galley
# API and metrics.
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["galley"]
CMD ["--help"]
