# A small image: the wheel is built in one stage and installed into a clean one. Runs as an ordinary user; the only
# folder that it writes to is /var/lib/cdc-sync, so the root file system can be read-only.
#
#   docker run --name cdc-sync --restart unless-stopped --init --stop-timeout 40 \
#       --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#       --mount type=volume,src=cdc-sync,dst=/var/lib/cdc-sync \
#       --mount type=bind,src=/etc/cdc-sync,dst=/etc/cdc-sync,readonly cdc-sync
#
# The volume has a name because it must outlive the container: without it a new container takes the present rows for
# known, and what happened in between is never told.

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY cdc_sync cdc_sync
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
# Compiled here, because it cannot be later: a read-only file system keeps no bytecode.
RUN pip install --no-cache-dir --compile --constraint /tmp/constraints.txt /wheels/*.whl \
    && rm -rf /wheels /tmp/constraints.txt \
    && useradd --uid 10001 --no-create-home --home-dir /var/lib/cdc-sync --shell /usr/sbin/nologin cdc-sync \
    && install -d -o cdc-sync -g cdc-sync -m 0700 /var/lib/cdc-sync
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
VOLUME /var/lib/cdc-sync
# In exec form SIGTERM reaches the daemon itself. It handles the signal as process 1 too, but not before Python has
# loaded it; an init (--init) makes that first second stoppable.
ENTRYPOINT ["cdc-sync"]
CMD ["run"]
