#!/usr/bin/env bash
# Brings the stack back from a backup.
#
#   ./deploy/scripts/restore.sh NAME [--no-confirm] [--skip-postgres] [--skip-redis] [--skip-volumes] ...
#
# NAME is a backup in the repository (backup_20240101_020000, or latest), an archive in BACKUP_DIR
# (the same name, with or without .tar.gz or .tar.gz.enc), a path to an archive, or an s3:// address.
# An archive is checked whole and taken into the repository first.
#
# Options:
#   --no-confirm         do not ask
#   --skip-postgres, --skip-redis, --skip-volumes, --skip-configs
#   --dry-run            show the plan and stop
#   --trust-archive      take an archive of the old scripts, which has no checksums
#   --to-time T, --to-xid X, --to-lsn L, --to-name N, and any other option of `sheetanchor restore`
#
# Variables:
#   BACKUP_DIR           where archives are (default /backups)
#   ENCRYPTION_KEY, ENCRYPTION_KEY_FILE
#                        opens a .tar.gz.enc
#   SHEETANCHOR          the program (found beside this script, on PATH, in /usr/local/bin ...)
#   SHEETANCHOR_CONFIG   its configuration

set -euo pipefail
umask 077
# A cron job's PATH is /usr/bin:/bin.
PATH="${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)

refuse() {
  printf 'error: %s\n' "$1" >&2
  [[ -z "${2:-}" ]] || printf 'hint: %s\n' "$2" >&2
  exit 2
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

# Prints the archive that a name without a directory stands for in BACKUP_DIR, nothing without one.
archive_in_backup_dir() {
  local suffix
  for suffix in '' .tar.gz .tar.gz.enc; do
    if [[ -e "$backup_dir/$1$suffix" ]]; then
      printf '%s\n' "$backup_dir/$1$suffix"
      return 0
    fi
  done
}

# Prints the archive to restore from, nothing when the backup is to come from the repository.
find_archive() {
  case "$1" in
    s3://*) printf '%s\n' "$1" ;;
    latest) ;;
    */*)
      if [[ -e "$1" || -e "$1.tar.gz" || -e "$1.tar.gz.enc" ]]; then
        printf '%s\n' "$1"
      else
        refuse "$1: there is no such archive" "give a backup's name, a path to an archive, or an s3:// address"
      fi
      ;;
    *.tar.gz | *.tar.gz.enc)
      if [[ -e "$1" ]]; then
        printf '%s\n' "./$1"
      elif [[ -e "$backup_dir/$1" ]]; then
        printf '%s\n' "$backup_dir/$1"
      else
        refuse "$1: there is no such archive here or in $backup_dir"
      fi
      ;;
    *)
      # The repository's own backup is proven and needs no import.
      "$program" show "$1" >/dev/null 2>&1 || archive_in_backup_dir "$1"
      ;;
  esac
}

name=
skip=()
options=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    -h | --help)
      sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --skip-postgres) skip+=(postgres) ;;
    --skip-redis) skip+=(redis) ;;
    --skip-volumes) skip+=(volume) ;;
    --skip-configs) skip+=(configs) ;;
    --to-time | --to-xid | --to-lsn | --to-name | --timeline | --into | --include | --target | --only | --skip)
      [[ $# -ge 2 ]] || refuse "$1 needs a value"
      options+=("$1" "$2")
      shift
      ;;
    -*) options+=("$1") ;;
    *)
      [[ -z "$name" ]] || refuse "both \"$name\" and \"$1\" are given" "give one backup"
      name=$1
      ;;
  esac
  shift
done
[[ -n "$name" ]] || refuse "no backup is named" "restore.sh backup_<date>_<time> [--no-confirm]; --help tells more"
[[ ${#skip[@]} -eq 0 ]] || options+=(--skip-type "$(IFS=, && printf '%s' "${skip[*]}")")

backup_dir=${BACKUP_DIR:-/backups}
program=$(find_program) ||
  refuse "the program sheetanchor is not to be found" "set SHEETANCHOR to its full path"
find_configuration

archive=$(find_archive "${name%/}")
exec "$program" restore "${archive:-$name}" "${options[@]}"
