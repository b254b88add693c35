# syntax=docker/dockerfile:1
# A small image: the wheel is built in one stage and installed into a clean one. Runs as an ordinary user; the only
# folder that it writes to is /var/lib/cdc-sync, so the root file system can be read-only.
#
#   docker run --read-only --mount type=volume,dst=/var/lib/cdc-sync -v ./config.yaml:/etc/cdc-sync/config.yaml:ro cdc-sync

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY cdc_sync cdc_sync
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-compile --constraint /tmp/constraints.txt /wheels/*.whl \
    && rm -rf /wheels /tmp/constraints.txt \
    && useradd --system --no-create-home --home-dir /var/lib/cdc-sync cdc-sync \
    && install -d -o cdc-sync -g cdc-sync -m 0700 /var/lib/cdc-sync
USER cdc-sync
VOLUME /var/lib/cdc-sync
# SIGTERM reaches the daemon itself: it is process 1, and handles it.
ENTRYPOINT ["cdc-sync"]
CMD ["run"]
