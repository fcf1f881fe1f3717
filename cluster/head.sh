#!/usr/bin/env bash
# The head of a Ray cluster, in the foreground; ctrl-C or SIGTERM ends it.
#
#   NNST_HOST            this machine's address in the cluster's own network. Without it everything
#                        listens on loopback, and no other machine can join
#   NNST_PORT            6379, where workers join
#   NNST_DASHBOARD_PORT  8265, where jobs are submitted: on loopback, reached by ssh -L
#   RAY_AUTH_TOKEN_PATH  ~/.ray/auth_token, made here where there is none; workers need a copy of it
#
# What follows goes to `ray start`: cluster/head.sh --num-cpus=0 keeps shards off the head.
set -euo pipefail

export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
export RAY_USAGE_STATS_ENABLED=0
export RAY_memory_usage_threshold="${RAY_memory_usage_threshold:-0.9}"

if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  (
    umask 077
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"
  )
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"

host="${NNST_HOST:-127.0.0.1}"
if [ "$host" = 127.0.0.1 ]; then
  # Else Ray listens on every interface. It is the switch that keeps it at home on macOS, too.
  export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
fi

exec ray start --head --block --disable-usage-stats \
  --node-ip-address="$host" --port="${NNST_PORT:-6379}" \
  --dashboard-host=127.0.0.1 --dashboard-port="${NNST_DASHBOARD_PORT:-8265}" \
  "$@"
