#!/usr/bin/env bash
# Prints the Secrets of a new installation, with random values. `create` refuses to replace those that a cluster has:
#   mlflow/secrets.sh | kubectl --context NAME create -f -
set -euo pipefail

random() { openssl rand -hex "$1"; }

database=$(random 24)
client=$(random 24)
artifacts_id=$(random 10) artifacts_key=$(random 20)
store_id=$(random 10) store_key=$(random 20)
owner_id=$(random 10) owner_key=$(random 20)

cat <<EOF
# What the tracking server alone knows.
apiVersion: v1
kind: Secret
metadata: { name: mlflow-server, namespace: forget }
stringData:
  PGPASSWORD: "$database"
  MLFLOW_AUTH_ADMIN_PASSWORD: "$(random 24)"
  MLFLOW_FLASK_SERVER_SECRET_KEY: "$(random 32)"
  AWS_ACCESS_KEY_ID: "$artifacts_id"
  AWS_SECRET_ACCESS_KEY: "$artifacts_key"
---
# What sweeps know: their user of the tracking server, and the key of the store.
apiVersion: v1
kind: Secret
metadata: { name: forget-client, namespace: forget }
stringData:
  MLFLOW_TRACKING_USERNAME: "forget"
  MLFLOW_TRACKING_PASSWORD: "$client"
  AWS_ACCESS_KEY_ID: "$store_id"
  AWS_SECRET_ACCESS_KEY: "$store_key"
---
# Of the component postgres.
apiVersion: v1
kind: Secret
metadata: { name: postgres, namespace: forget }
stringData:
  password: "$database"
---
# Of the component seaweedfs: its owner's key, and what each key may do.
apiVersion: v1
kind: Secret
metadata: { name: seaweedfs, namespace: forget }
stringData:
  AWS_ACCESS_KEY_ID: "$owner_id"
  AWS_SECRET_ACCESS_KEY: "$owner_key"
  s3.json: |
    {
      "identities": [
        {
          "name": "owner",
          "credentials": [{"accessKey": "$owner_id", "secretKey": "$owner_key"}],
          "actions": ["Admin"]
        },
        {
          "name": "mlflow",
          "credentials": [{"accessKey": "$artifacts_id", "secretKey": "$artifacts_key"}],
          "actions": ["Read:mlflow", "Write:mlflow", "List:mlflow", "Tagging:mlflow"]
        },
        {
          "name": "forget",
          "credentials": [{"accessKey": "$store_id", "secretKey": "$store_key"}],
          "actions": ["Read:forget", "Write:forget", "List:forget", "Tagging:forget"]
        }
      ]
    }
EOF
