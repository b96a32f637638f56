# Shared by the scripts in this folder; sourced with the repository's root as working folder.
# Sets: ROOT, CACHE, SERVER_ENV, HA_ENV. Functions: say, die, ensure_uv.
# shellcheck shell=bash

source scripts/lib/debian.sh

ROOT=$(pwd)
CACHE=${XDG_CACHE_HOME:-${HOME}/.cache}/clap-sound
SERVER_ENV=${ROOT}/.venv/server
HA_ENV=${ROOT}/.venv/home-assistant

# uv reads pip's list of wheel folders only under its own name.
if [[ -n ${PIP_FIND_LINKS:-} && -z ${UV_FIND_LINKS:-} ]]; then
  export UV_FIND_LINKS=${PIP_FIND_LINKS// /,}
fi
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

die() {
  printf '\033[1;31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

# Finds uv, or installs it into the user's cache folder. Sets UV.
ensure_uv() {
  local candidate
  for candidate in "$(command -v uv || true)" "${CACHE}/uv/bin/uv"; do
    if [[ -n ${candidate} ]] && "${candidate}" --version >/dev/null 2>&1; then
      UV=${candidate}
      return
    fi
  done
  local python pip_wheel=${CACHE}/pip
  python=$(command -v python3) || die "python3 is missing. On Debian or Ubuntu: sudo apt install python3"
  say "installing the package manager uv into ${CACHE}/uv"
  mkdir -p "${CACHE}"
  if ! "${python}" -m pip --version >/dev/null 2>&1; then
    # A bare Debian has no pip; its wheel of pip runs without being installed.
    unpack_debian_packages "" "${pip_wheel}" python3-pip-whl ||
      die "Python has no pip. On Debian or Ubuntu: sudo apt update && sudo apt install python3-pip"
    PYTHONPATH=$(echo "${pip_wheel}"/usr/share/python-wheels/pip-*.whl)
    export PYTHONPATH
  fi
  "${python}" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --upgrade \
    --target "${CACHE}/uv" uv || die "pip could not install uv; is there a network?"
  unset PYTHONPATH
  UV=${CACHE}/uv/bin/uv
  "${UV}" --version >/dev/null || die "uv does not run on this machine"
}
