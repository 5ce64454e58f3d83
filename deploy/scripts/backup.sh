#!/usr/bin/env bash
# Backs up the whole stack into the repository and writes the backup as portable files.
#
#   ./deploy/scripts/backup.sh
#
# Variables:
#   BACKUP_DIR           where archive and report go (default /backups)
#   SKIP_POSTGRES, SKIP_REDIS, SKIP_VOLUMES, SKIP_CONFIGS
#                        "true" leaves these out
#   ENCRYPT_BACKUP       "true": the archive is AES-256 encrypted, and nothing plain stays behind
#   ENCRYPTION_KEY, ENCRYPTION_KEY_FILE
#                        the key, or a file whose first line is the key
#   ARCHIVE              forms of the archive: folder, tar, enc, with commas between them, or "none"
#                        (default: folder,tar; with ENCRYPT_BACKUP=true: enc)
#   S3_BACKUP_PATH       s3://bucket/prefix: the archive and its report are uploaded too; the usual
#                        AWS variables count, AWS_ENDPOINT_URL included
#   ARCHIVE_KEEP_DAYS    archives written by this script are removed from BACKUP_DIR when they are
#                        older, after a backup of everything (default 30, 0 keeps all); the
#                        repository is not touched
#   SHEETANCHOR          the program (found beside this script, on PATH, in /usr/local/bin ...)
#   SHEETANCHOR_CONFIG   its configuration
#
# Ends with 0 when all was done, 3 when a part of the stack could not be saved (what was saved is
# kept), 2 for wrong settings, 1 for any other failure.

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

is_true() {
  local value=${!1:-}
  case "${value,,}" in
    true | yes | on | 1) return 0 ;;
    '' | false | no | off | 0) return 1 ;;
    *) refuse "$1 is \"$value\"" "write true or false" ;;
  esac
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

# Prints the forms of archive to write, nothing for "none".
chosen_forms() {
  local forms form default=folder,tar
  if is_true ENCRYPT_BACKUP; then
    [[ -n "${ENCRYPTION_KEY:-}${ENCRYPTION_KEY_FILE:-}" ]] ||
      refuse "ENCRYPT_BACKUP is true, but there is no key" "set ENCRYPTION_KEY or ENCRYPTION_KEY_FILE"
    default=enc
  fi
  forms=${ARCHIVE:-$default}
  forms=${forms// /}
  [[ "$forms" != none ]] || return 0
  for form in ${forms//,/ }; do
    case "$form" in
      folder | tar | enc) ;;
      *) refuse "ARCHIVE names \"$form\"" "there are folder, tar, enc, with commas between them, or none" ;;
    esac
  done
  if is_true ENCRYPT_BACKUP && [[ ",$forms," != *,enc,* ]]; then
    refuse "ENCRYPT_BACKUP is true, but ARCHIVE is \"$forms\"" "add enc to ARCHIVE, or leave ARCHIVE out"
  fi
  printf '%s\n' "$forms"
}

skipped_types() {
  local types=()
  ! is_true SKIP_POSTGRES || types+=(postgres)
  ! is_true SKIP_REDIS || types+=(redis)
  ! is_true SKIP_VOLUMES || types+=(volume)
  ! is_true SKIP_CONFIGS || types+=(configs)
  [[ ${#types[@]} -lt 4 ]] || refuse "everything is to be skipped" "set one of the SKIP_ variables to false"
  local IFS=,
  printf '%s\n' "${types[*]}"
}

# Removes archives of ours older than the days given; knows them by their checksums or manifest.
remove_old_archives() {
  local days=$1 limit path name stamp
  [[ "$days" != 0 ]] || return 0
  limit=$(date -u -d "$days days ago" +%Y%m%d_%H%M%S)
  for path in "$backup_dir"/backup_*.sha256 "$backup_dir"/backup_*/manifest.json; do
    [[ -f "$path" ]] || continue
    name=${path#"$backup_dir"/}
    name=${name%.sha256}
    name=${name%/manifest.json}
    stamp=${name#backup_}
    [[ "$stamp" =~ ^[0-9]{8}_[0-9]{6}$ && "$stamp" < "$limit" ]] || continue
    printf 'removing %s: older than %s days\n' "$backup_dir/$name" "$days"
    rm -rf -- "${backup_dir:?}/${name:?}"
    rm -f -- "$backup_dir/$name".tar.gz{,.enc,.enc.hmac} "$backup_dir/backup_report_$stamp.txt" \
      "$backup_dir/$name.sha256"
  done
}

case "${1:-}" in
  '') ;;
  -h | --help)
    sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) refuse "unknown argument \"$1\"" "this script is steered by variables; --help lists them" ;;
esac

forms=$(chosen_forms)
skip=$(skipped_types)
keep_days=${ARCHIVE_KEEP_DAYS:-30}
[[ "$keep_days" =~ ^[0-9]{1,5}$ ]] || refuse "ARCHIVE_KEEP_DAYS is \"$keep_days\"" "write a number of days"
[[ -z "${S3_BACKUP_PATH:-}" || "$S3_BACKUP_PATH" == s3://?* ]] ||
  refuse "S3_BACKUP_PATH is \"$S3_BACKUP_PATH\"" "write s3://bucket/prefix"
[[ -z "${S3_BACKUP_PATH:-}" || -n "$forms" ]] ||
  refuse "S3_BACKUP_PATH is set, but ARCHIVE is none" "there is nothing to upload without an archive"
backup_dir=${BACKUP_DIR:-/backups}
[[ "$backup_dir" == /* ]] || backup_dir=$PWD/$backup_dir
program=$(find_program) ||
  refuse "the program sheetanchor is not to be found" "set SHEETANCHOR to its full path"
find_configuration

answer=$(mktemp)
trap 'rm -f -- "$answer"' EXIT

status=0
"$program" backup ${skip:+--skip-type "$skip"} | tee "$answer" || status=${PIPESTATUS[0]}
[[ $status -eq 0 || $status -eq 3 ]] || exit "$status"
name=$(grep -oE 'backup_[0-9]{8}_[0-9]{6}' "$answer" | tail -n 1) || {
  printf 'error: the backup did not say its name\n' >&2
  exit 1
}

if [[ -n "$forms" ]]; then
  "$program" export "$name" --directory "$backup_dir" --form "$forms" \
    ${S3_BACKUP_PATH:+--upload "$S3_BACKUP_PATH"} || exit $?
fi
# Only a whole backup with an archive of its own may take an older archive's place.
if [[ $status -eq 0 && -n "$forms" && -z "$skip" ]]; then
  remove_old_archives "$keep_days"
fi
exit "$status"
