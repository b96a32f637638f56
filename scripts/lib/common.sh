# Shared by the scripts in this folder; sourced with the repository's root as working folder.
# Sets: ROOT, CACHE, LOGS, SERVER_ENV, HA_ENV, HA_DEV_ENV.
# Functions: say, die, begin, await, find_uv, ensure_uv.
# shellcheck shell=bash

source scripts/lib/debian.sh

ROOT=$(pwd)
CACHE=${XDG_CACHE_HOME:-${HOME}/.cache}/clap-sound
LOGS=${ROOT}/.cache/setup
SERVER_ENV=${ROOT}/.venv/server
HA_ENV=${ROOT}/.venv/home-assistant
HA_DEV_ENV=${ROOT}/.venv/home-assistant-dev

# uv reads pip's list of wheel folders only under its own name.
if [[ -n ${PIP_FIND_LINKS:-} && -z ${UV_FIND_LINKS:-} ]]; then
  export UV_FIND_LINKS=${PIP_FIND_LINKS// /,}
fi

# Without compiled modules, which some base images forbid, each start takes seconds longer.
unset PYTHONDONTWRITEBYTECODE

SPINNER='|/-\'

# Colours are for people, not for log files.
paint() { # paint STYLE TEXT
  if [[ -t 2 ]]; then printf '\033[%sm%s\033[0m' "$1" "$2"; else printf '%s' "$2"; fi
}

say() { printf '%s %s\n' "$(paint 1 '==>')" "$*" >&2; }

die() {
  printf '%s %s\n' "$(paint '1;31' error:)" "$*" >&2
  exit 1
}

# begin NAME COMMAND...: starts a command in the background; its output goes to a log file.
declare -A JOBS=()
begin() {
  local name=$1
  shift
  mkdir -p "${LOGS}"
  # In a process group of its own, so that it can be ended with all that it starts.
  set -m
  "$@" >"${LOGS}/${name}.log" 2>&1 </dev/null &
  set +m
  JOBS[${name}]=$!
}

# await NAME TEXT: waits for it on one line that tells how long it takes, or says where its log is.
await() {
  local name=$1 text=$2 job=${JOBS[$1]} began=${SECONDS} status=0 tick=0 failed
  local line
  line="$(paint 1 '==>') ${text}:"
  printf '%s ' "${line}" >&2
  if [[ -t 2 ]]; then
    while kill -0 "${job}" 2>/dev/null; do
      printf '\r%s %s %d s\033[K' "${line}" "${SPINNER:tick++ % 4:1}" "$((SECONDS - began))" >&2
      sleep 0.2
    done
    printf '\r%s \033[K' "${line}" >&2
  fi
  wait "${job}" || status=$?
  unset "JOBS[${name}]"
  printf '%d s\n' "$((SECONDS - began))" >&2
  [[ ${status} == 0 ]] && return
  failed=$(sed -n 's/^ *error: *//p' "${LOGS}/${name}.log" | tail -n 1)
  die "this failed${failed:+ (${failed})}; its log is ${LOGS}/${name}.log"
}

# Nothing goes on by itself when this ends.
end_jobs() {
  local job
  for job in "${JOBS[@]}"; do
    kill -- "-${job}" 2>/dev/null || true
  done
}
trap end_jobs EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Sets UV if there is one.
find_uv() {
  local candidate
  for candidate in "$(command -v uv || true)" "${CACHE}/uv/bin/uv"; do
    if [[ -n ${candidate} ]] && "${candidate}" --version >/dev/null 2>&1; then
      UV=${candidate}
      return
    fi
  done
  return 1
}

# Finds uv, or installs it into the user's cache folder. Sets UV.
ensure_uv() {
  find_uv && return
  command -v python3 >/dev/null || die "python3 is missing. On Debian or Ubuntu: sudo apt install python3"
  begin uv install_uv
  await uv "installing the package manager uv into ${CACHE}/uv"
  find_uv || die "uv does not run on this machine"
}

install_uv() {
  local pip_wheel=${CACHE}/pip
  mkdir -p "${CACHE}"
  if ! python3 -m pip --version >/dev/null 2>&1; then
    # A bare Debian has no pip; its wheel of pip runs without being installed.
    unpack_debian_packages "" "${pip_wheel}" python3-pip-whl ||
      die "Python has no pip. On Debian or Ubuntu: sudo apt update && sudo apt install python3-pip"
    PYTHONPATH=$(echo "${pip_wheel}"/usr/share/python-wheels/pip-*.whl)
    export PYTHONPATH
  fi
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade \
    --target "${CACHE}/uv" uv || die "pip could not install uv; is there a network?"
}
