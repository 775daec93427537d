# Debian's PostgreSQL 15, in place of docker.io/library/postgres: it can be had without a registry of images. As there, the user
# postgres is 999, and the entry point makes the database that the POSTGRES_... variables name.
ARG BASE
FROM $BASE
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
    && apt-get update --quiet --quiet \
    && DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends postgresql-15 \
    && rm --recursive --force /var/lib/postgresql/15 /var/lib/apt/lists /var/cache/apt
COPY postgres.sh /usr/local/bin/docker-entrypoint.sh
RUN chmod 755 /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
