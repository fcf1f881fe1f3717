#!/usr/bin/env bash
# An MLflow server beside the head, in the foreground.
#
#   NNST_HOST                 127.0.0.1; the address to listen on, which has to be named to be open
#   NNST_MLFLOW_PORT          5000
#   NNST_MLFLOW_NAMES         names by which browsers and jobs reach it: mlflow.example:5000,...
#   MLFLOW_BACKEND_STORE_URI  mlruns/mlflow.db here; postgresql://... for a team (pip install
#                             'psycopg[binary]'). MLflow reads it from the environment, so that its
#                             password is in no list of processes
#   MLFLOW_ARTIFACTS_DESTINATION  mlruns/artifacts here; s3://bucket/artifacts for a team
set -euo pipefail

host="${NNST_HOST:-127.0.0.1}"
port="${NNST_MLFLOW_PORT:-5000}"
if [ -z "${MLFLOW_BACKEND_STORE_URI:-}" ]; then
  mkdir -p mlruns
  export MLFLOW_BACKEND_STORE_URI="sqlite:///$PWD/mlruns/mlflow.db"
fi
artifacts="${MLFLOW_ARTIFACTS_DESTINATION:-$PWD/mlruns/artifacts}"

# Without explicit names MLflow takes all like 10.*, which lets a web page in by DNS rebinding.
names="localhost:$port,127.0.0.1:$port"
if [ "$host" != 127.0.0.1 ]; then
  names="$names,$host:$port"
fi
if [ -n "${NNST_MLFLOW_NAMES:-}" ]; then
  names="$names,$NNST_MLFLOW_NAMES"
fi

export MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false

exec mlflow server --host "$host" --port "$port" --workers 1 \
  --artifacts-destination "$artifacts" --allowed-hosts "$names"
