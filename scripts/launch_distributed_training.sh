#!/usr/bin/env bash
# Starts one learner per GPU on this host through torchrun; on several hosts, run it on each of them.
#
#   scripts/launch_distributed_training.sh -c quickstart -g 2
#   scripts/launch_distributed_training.sh -c run.yaml -n 2 -g 8 -r 0 -m host0      # on host0
#   scripts/launch_distributed_training.sh -c run.yaml -n 2 -g 8 -r 1 -m host0      # on the other
set -euo pipefail

config="" nodes=1 gpus=4 node_rank=0 master_addr=localhost master_port=12355
is_debug=false is_dry_run=false
package="$(dirname "$0")/../pi0/ript"
program="$package/scripts/train_ript_pi0.py"

usage() {
  cat <<'TEXT'
usage: launch_distributed_training.sh -c FILE_OR_NAME [options] [-- FLAG ...]
  -c, --config FILE        YAML configuration, or the name of one that comes with the package
  -n, --nodes N            hosts (1)
  -g, --gpus N             learners on each host (4)
  -r, --node-rank N        which host this is, from 0 (0)
  -m, --master-addr HOST   host 0 (localhost)
  -p, --master-port PORT   a free port of host 0 (12355)
      --debug              speak of every message between GPUs
      --dry-run            print the command and do nothing
  -h, --help               print this
What follows -- goes to the trainer, e.g. -- --algo.lr 1e-5 or -- --resume outputs/run
TEXT
}

fail() {
  echo "error: $1" >&2
  exit 2
}

require_number() { # name, value, least
  [[ "$2" =~ ^[0-9]+$ ]] && (("$2" >= "$3")) || fail "$1 must be a number >= $3, got '$2'"
}

while (($#)); do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    --debug) is_debug=true && shift && continue ;;
    --dry-run) is_dry_run=true && shift && continue ;;
    --) shift && break ;;
  esac
  (($# >= 2)) || fail "$1 needs a value, or is unknown; see --help"
  case "$1" in
    -c | --config) config="$2" ;;
    -n | --nodes) nodes="$2" ;;
    -g | --gpus) gpus="$2" ;;
    -r | --node-rank) node_rank="$2" ;;
    -m | --master-addr) master_addr="$2" ;;
    -p | --master-port) master_port="$2" ;;
    *) fail "unknown option '$1'; see --help" ;;
  esac
  shift 2
done

require_number --nodes "$nodes" 1
require_number --gpus "$gpus" 1
require_number --node-rank "$node_rank" 0
require_number --master-port "$master_port" 1
((node_rank < nodes)) || fail "--node-rank must be below --nodes $nodes, got $node_rank"
[[ -n "$config" ]] || fail "--config is missing; give a YAML file or a name, e.g. quickstart"
if [[ -f "$config" ]]; then
  settings=(--config_path "$config")
elif [[ "$config" =~ ^[A-Za-z0-9_]+$ && -f "$package/config/$config.yaml" ]]; then
  settings=("$config")
else
  names=("$package"/config/*.yaml)
  names=("${names[@]##*/}")
  fail "--config '$config' does not exist; give a YAML file or one of: ${names[*]%.yaml}"
fi

# What is set already wins.
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
if $is_debug; then
  export NCCL_DEBUG="${NCCL_DEBUG:-INFO}"
  export CUDA_LAUNCH_BLOCKING="${CUDA_LAUNCH_BLOCKING:-1}"
  export TORCH_DISTRIBUTED_DEBUG="${TORCH_DISTRIBUTED_DEBUG:-DETAIL}"
fi

command=(torchrun
  --nnodes "$nodes" --nproc-per-node "$gpus" --node-rank "$node_rank"
  --master-addr "$master_addr" --master-port "$master_port"
  "$program" "${settings[@]}" "$@")
if $is_dry_run; then
  printf '%q ' "${command[@]}"
  echo
else
  exec "${command[@]}"
fi
