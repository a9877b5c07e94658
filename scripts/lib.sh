# shellcheck shell=bash disable=SC2034 # the names here are for the scripts that source it
# Sourced by the other scripts: the cache, timed steps, things made beside their place and renamed.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/curfew
# shellcheck source-path=SCRIPTDIR source=versions.env
source "$repo/scripts/versions.env"

# Where each obtained thing is, once scripts/setup has run.
runsc_dir=$cache/runsc-$RUNSC_VERSION
containerd_dir=$cache/containerd-$CONTAINERD_VERSION
nextest_dir=$cache/cargo-nextest-$CARGO_NEXTEST_VERSION
deny_dir=$cache/cargo-deny-$CARGO_DENY_VERSION
kubernetes_dir=$cache/kubernetes-$KUBERNETES_VERSION
etcd_dir=$cache/etcd-$ETCD_VERSION
cni_plugins_dir=$cache/cni-plugins-$CNI_PLUGINS_VERSION

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

# now_ms: wall-clock milliseconds, for differences only.
now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# took START_MS: the time since then, as "12.3 s".
took() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

# step NAME CMD…: runs CMD with its output shown, and says what it is and how long it took. A failure
# ends the script, also one halfway through a CMD that is a function: so never in a condition.
step() {
  local outer=$step_name outer_start=$step_start outer_log=$step_log
  step_name=$1 step_start=$(now_ms) step_log=
  shift
  say "==> $step_name"
  "$@"
  say "    $step_name: $(took "$step_start")"
  step_name=$outer step_start=$outer_start step_log=$outer_log
}

# quiet NAME CMD…: as step, but the output goes to a log of which only a failure shows the end.
quiet() {
  step "$1" logged "$cache/log/$(tr -c 'A-Za-z0-9.\n' '-' <<<"$1").log" "${@:2}"
}

logged() {
  step_log=$1
  mkdir -p "$cache/log"
  "${@:2}" >"$1" 2>&1 </dev/null
}

step_name='' step_start=0 step_log='' half_dirs=()

# Says which step a script died in, and removes what it had half made.
on_exit() {
  local status=$?
  if ((status != 0)) && [[ -n $step_name ]]; then
    if [[ -n $step_log ]]; then
      tail -n 25 "$step_log" >&2
      say "    the whole log: $step_log"
    fi
    say "    $step_name: failed (status $status) after $(took "$step_start")"
  fi
  ((${#half_dirs[@]} == 0)) || rm -rf "${half_dirs[@]}"
}
trap on_exit EXIT

# half_dir: a fresh directory in the cache, as $half; removed at exit unless renamed before.
half_dir() {
  half=$(mktemp -d "$cache/.half-XXXXXX")
  half_dirs+=("$half")
  chmod 0755 "$half"
}

# make_dir DIR CMD…: makes DIR by calling CMD with a fresh directory as its last argument, and
# renames that to DIR: a directory under its own name is complete. Nothing to do if it is there.
make_dir() {
  local dir=$1 half
  shift
  [[ ! -d $dir ]] || return 0
  half_dir
  "$@" "$half"
  mv -T "$half" "$dir"
}

# image NAME: the newest archive of that guest image in the cache, or nothing.
image() {
  local found
  # shellcheck disable=SC2012 # our own names: no newline, no blank
  found=$(ls -1dt "$cache/image-$1-"*"-r$IMAGE_RECIPE/image.tar" 2>/dev/null | head -n 1 || true)
  printf '%s\n' "$found"
}

# target_dir: where cargo builds to.
target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$repo/target}"; }
