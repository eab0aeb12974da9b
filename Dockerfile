# An image with one file: the blocking program, static.
#
#   docker build -t mcp-local-provider .
#   docker run -p 127.0.0.1:8788:8788 -v mcp-local-provider:/data mcp-local-provider
#
# Keys are made at the first start: shown with `docker run -it`, else in /data/.local/share/mcp-local-provider/first-keys.txt, beside the
# audit file. A configuration is /data/config.yaml when the container is started with `--config /data/config.yaml --listen 0.0.0.0:8788`.
# /data is the one place that the program can write to, temporary files of agents included.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY . .
RUN deploy/static.sh > /path && cp "$(cat /path)" /mcp-local-provider-blocking && mkdir /data

FROM scratch
COPY --from=build /mcp-local-provider-blocking /mcp-local-provider-blocking
COPY --from=build --chown=65534:65534 /data /data
ENV HOME=/data TMPDIR=/data
USER 65534:65534
VOLUME /data
EXPOSE 8788
ENTRYPOINT ["/mcp-local-provider-blocking"]
CMD ["--listen", "0.0.0.0:8788"]
