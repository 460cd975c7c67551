# shellcheck shell=bash
# Sourced by a script that is a list of stages: one line a stage, in order, until one fails.
#
#   stage NAME COMMAND [ARGUMENT...]
#
# A stage passes with exit code 0, is skipped with 75 (it must have said why), and fails with any other: then the
# script ends with 1. Stages get no standard input. However the script ends, its last line is the count.

# A list may source another list: the count is one.
if declare -F stage >/dev/null; then return; fi

stages_passed=0
stages_failed=()
stages_skipped=()

stage() {
  local name=$1 began=$SECONDS code=0 outcome
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  # Bash ignores `set -e` on the left of `||`, in functions too: one that is run as a stage chains its commands itself.
  "$@" </dev/null || code=$?
  case $code in
    0) outcome=passed stages_passed=$((stages_passed + 1)) ;;
    75) outcome=skipped stages_skipped+=("$name") ;;
    *) outcome="FAILED, exit code $code" stages_failed+=("$name") ;;
  esac
  printf '== %s: %s, %d s\n' "$name" "$outcome" $((SECONDS - began))
  [ "$code" = 0 ] || [ "$code" = 75 ] || exit 1
}

# Prints what was counted, at the end of the script.
stages_close() {
  echo
  if [ ${#stages_skipped[@]} -gt 0 ]; then echo "skipped: ${stages_skipped[*]}"; fi
  if [ ${#stages_failed[@]} -gt 0 ]; then echo "failed: ${stages_failed[*]}; the stages after it did not run"; fi
  echo "$stages_passed passed, ${#stages_failed[@]} failed, ${#stages_skipped[@]} skipped"
}
trap stages_close EXIT
