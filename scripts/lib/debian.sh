# Fetches Debian packages without installing them; sourced after common.sh.
# shellcheck shell=bash

# unpack_debian_packages SUITE DESTINATION PACKAGE...: fetches packages of a suite ("" for the system's own)
# and unpacks them into DESTINATION. Fails where that cannot be done. The system's own package lists and
# sources are not touched: apt works on private ones in the cache folder.
unpack_debian_packages() {
  local suite=$1 destination=$2
  shift 2
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror
  [[ -e ${keyring} ]] || return 1
  mirror=$(debian_mirror) || return 1
  [[ -n ${suite} ]] || suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  local work=${CACHE}/debian
  rm -rf "${work}"
  mkdir -p "${work}/lists/partial" "${work}/archives/partial" "${work}/debs" "${destination}"
  printf 'deb [signed-by=%s] %s %s main\n' "${keyring}" "${mirror}" "${suite}" >"${work}/sources.list"
  local options=(-o "Dir::Etc::SourceList=${work}/sources.list" -o "Dir::Etc::SourceParts=-" -o "Dir::State::Lists=${work}/lists"
    -o "Dir::Cache=${work}" -o "Dir::Cache::Archives=${work}/archives" -o "APT::Sandbox::User=" -o "Acquire::Languages=none")
  say "reading the package list of Debian ${suite} (once)"
  apt-get "${options[@]}" -qq update || return 1
  say "fetching $# packages"
  (cd "${work}/debs" && apt-get "${options[@]}" -qq download "$@") || return 1
  local deb
  for deb in "${work}"/debs/*.deb; do
    dpkg-deb -x "${deb}" "${destination}" || return 1
  done
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
