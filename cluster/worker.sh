#!/usr/bin/env bash
# A worker node of a Ray cluster, in the foreground: cluster/worker.sh HEAD:6379
#
#   NNST_HOST            this machine's address in the cluster's own network; Ray finds it by itself
#   RAY_AUTH_TOKEN_PATH  ~/.ray/auth_token: a copy of the head's
#
# What follows the address goes to `ray start`: --num-gpus=1 --num-cpus=8
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "worker.sh: no head given; write cluster/worker.sh HEAD:6379" >&2
  exit 2
fi
address="$1"
shift

export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
export RAY_USAGE_STATS_ENABLED=0
export RAY_memory_usage_threshold="${RAY_memory_usage_threshold:-0.9}"

if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  echo "worker.sh: no token in $RAY_AUTH_TOKEN_PATH; copy the head's there (scp -p)" >&2
  exit 2
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"

if [ -n "${NNST_HOST:-}" ]; then
  set -- --node-ip-address="$NNST_HOST" "$@"
fi
exec ray start --block --disable-usage-stats --address="$address" "$@"
