#!/usr/bin/env bash
# Says how old the newest complete backup is, as monitoring plugins do.
#
#   ./deploy/scripts/monitor_backups.sh
#
# Ends with 0 OK, 1 WARNING (older than WARN_AGE), 2 CRITICAL (older than ALERT_AGE, or there is no
# complete backup), 3 UNKNOWN (the repository or the configuration cannot be read).
#
# Variables:
#   WARN_AGE             hours (default 25)
#   ALERT_AGE            hours (default 30)
#   SHEETANCHOR          the program (found beside this script, on PATH, in /usr/local/bin ...)
#   SHEETANCHOR_CONFIG   its configuration

set -uo pipefail
# A monitoring agent's PATH may hold next to nothing.
PATH="${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)

unknown() {
  printf 'UNKNOWN: %s\n' "$1"
  exit 3
}

find_program() {
  local candidate
  for candidate in "${SHEETANCHOR:-}" "$here/../../.venv/bin/sheetanchor" "$(command -v sheetanchor || true)" \
    /usr/local/bin/sheetanchor /opt/sheetanchor/bin/sheetanchor /opt/sheetanchor/.venv/bin/sheetanchor; do
    if [[ -n "$candidate" && -x "$candidate" ]]; then
      printf '%s\n' "$candidate"
      return 0
    fi
    [[ -z "${SHEETANCHOR:-}" ]] || break
  done
  return 1
}

find_configuration() {
  local candidate
  [[ -z "${SHEETANCHOR_CONFIG:-}" && ! -e sheetanchor.yml && ! -e /etc/sheetanchor/sheetanchor.yml ]] || return 0
  for candidate in "$here/../sheetanchor.yml" "$here/../../sheetanchor.yml"; do
    if [[ -e "$candidate" ]]; then
      export SHEETANCHOR_CONFIG=$candidate
      return 0
    fi
  done
}

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 0
fi
warn=${WARN_AGE:-25}
alert=${ALERT_AGE:-30}
[[ "$warn" =~ ^[0-9]{1,6}$ && "$alert" =~ ^[0-9]{1,6}$ ]] ||
  unknown "WARN_AGE ($warn) and ALERT_AGE ($alert) have to be numbers of hours"
program=$(find_program) || unknown "the program sheetanchor is not to be found; set SHEETANCHOR to its full path"
find_configuration

"$program" status --format nagios --warn "${warn}h" --alert "${alert}h"
status=$?
[[ $status -le 3 ]] || exit 3
exit "$status"
