# A small image: the command is built in one stage, and a clean one takes only what it needs. Runs as an ordinary user;
# the only folder that it writes to is /var/lib/cdc-sync, so the root file system can be read-only.
#
#   docker run --name cdc-sync --restart unless-stopped --stop-timeout 40 \
#       --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#       --mount type=volume,src=cdc-sync,dst=/var/lib/cdc-sync \
#       --mount type=bind,src=/etc/cdc-sync,dst=/etc/cdc-sync,readonly cdc-sync
#
# The volume has a name because it must outlive the container: without it a new container adopts the present rows, and
# never sends what changed in between. `docker kill --signal HUP cdc-sync` reads the configuration again.

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE packaging/image.txt ./
COPY cdc_sync cdc_sync
COPY systemd systemd
# Compiled here, because it cannot be later: a read-only file system keeps no bytecode.
RUN python3 -m venv --without-pip /opt/cdc-sync \
    && python3 -m pip --python /opt/cdc-sync/bin/python3 install --no-cache-dir --compile \
        --no-deps --require-hashes --requirement image.txt \
    && python3 -m pip --python /opt/cdc-sync/bin/python3 install --no-cache-dir --compile --no-deps .

FROM python:3.13-slim
COPY --from=build /opt/cdc-sync /opt/cdc-sync
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/cdc-sync --shell /usr/sbin/nologin cdc-sync \
    && install -d -o cdc-sync -g cdc-sync -m 0700 /var/lib/cdc-sync
ENV PATH=/opt/cdc-sync/bin:$PATH
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
VOLUME /var/lib/cdc-sync
# Alive, not ready: a database or a HelloWork that is down is no reason to start it again. `/readyz` shows that.
HEALTHCHECK --interval=1m --timeout=15s --start-period=1m CMD ["cdc-sync", "status", "--healthy"]
# In exec form signals reach the command itself; as process 1 it starts the daemon as its child, and hands them on.
ENTRYPOINT ["cdc-sync"]
CMD ["run"]
