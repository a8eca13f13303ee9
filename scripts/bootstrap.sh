# Sourced by the commands beside it. Sees to it that the pinned Bun and the dependencies of the lock file are there, on a
# machine that has npm or any version of Bun, and sets OGEL_ROOT and OGEL_BUN. Needs a POSIX shell and nothing else.
#
# What it says goes to standard error: standard output is the command's own.

OGEL_ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1
ogel_modules=$OGEL_ROOT/node_modules
# Inside node_modules, because that is ignored, thrown away and made again as a whole.
ogel_work=$ogel_modules/.bootstrap
ogel_pinned=$(sed -n 's/^ *"bun": "\([0-9.]*\)",*$/\1/p' "$OGEL_ROOT/package.json" | head -n 1)

ogel_fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

# ogel_step WHAT COMMAND…: says WHAT if it takes longer than a second, and shows the command's output if it fails.
ogel_step() {
  ogel_what=$1
  shift
  (
    sleep 1 >/dev/null 2>&1
    printf '%s …\n' "$ogel_what" >&2
  ) &
  ogel_announcer=$!
  if "$@" >"$ogel_work/log.$$" 2>&1; then ogel_status=0; else ogel_status=$?; fi
  kill "$ogel_announcer" 2>/dev/null
  wait "$ogel_announcer" 2>/dev/null
  if [ "$ogel_status" -ne 0 ]; then tail -n 15 "$ogel_work/log.$$" >&2; fi
  rm -f "$ogel_work/log.$$"
  return "$ogel_status"
}

# Whether a program is the pinned Bun, and runs here.
ogel_is_pinned() {
  [ -x "$1" ] && [ "$("$1" --version 2>/dev/null)" = "$ogel_pinned" ]
}

# Prints the pinned Bun among the places below a node_modules folder. Where install scripts were skipped, bun.exe is a
# stub and the program lies in the package of this machine's architecture.
ogel_find_bun() {
  for ogel_candidate in "$1/bun/bin/bun.exe" "$1"/@oven/bun-*/bin/bun; do
    if ogel_is_pinned "$ogel_candidate"; then
      printf '%s\n' "$ogel_candidate"
      return 0
    fi
  done
  return 1
}

# Package managers keep caches at home, where there may be none, or none to write to.
ogel_prepare_caches() {
  if [ -z "${HOME:-}" ] || [ ! -d "$HOME" ] || [ ! -w "$HOME" ]; then
    mkdir -p "$ogel_work/home"
    HOME=$ogel_work/home
    export HOME
  fi
}

ogel_get_bun() {
  if ogel_found=$(ogel_find_bun "$ogel_modules"); then return 0; fi
  if ogel_found=$(ogel_find_bun "$ogel_work/node_modules"); then return 0; fi
  ogel_path_bun=$(command -v bun || true)
  if [ -n "$ogel_path_bun" ] && ogel_is_pinned "$ogel_path_bun"; then
    ogel_found=$ogel_path_bun
    return 0
  fi
  printf '{"private":true}\n' >"$ogel_work/package.json"
  if command -v npm >/dev/null 2>&1; then
    ogel_step "Getting Bun $ogel_pinned with npm" npm install --prefix "$ogel_work" --no-save \
      --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error "bun@$ogel_pinned" ||
      ogel_fail "Bun $ogel_pinned could not be had from npm; see above. Is the machine offline?"
  elif [ -n "$ogel_path_bun" ]; then
    ogel_step "Getting Bun $ogel_pinned with the Bun that is here" \
      "$ogel_path_bun" add --cwd "$ogel_work" --ignore-scripts --exact "bun@$ogel_pinned" ||
      ogel_fail "Bun $ogel_pinned could not be had from npm; see above. Is the machine offline?"
  else
    ogel_fail "Ogel Cloud needs npm or Bun to get started, and finds neither on PATH." \
      "Install Node.js with npm (on Debian: apt-get install npm), and run this again."
  fi
  ogel_found=$(ogel_find_bun "$ogel_work/node_modules") ||
    ogel_fail "Bun $ogel_pinned is installed and does not run on this machine."
}

# Lays the programs where commands look for them, whether or not install scripts ran.
ogel_heal() {
  if ! ogel_is_pinned "$ogel_modules/bun/bin/bun.exe"; then
    for ogel_name in bun bunx; do
      cp -f "$ogel_found" "$ogel_modules/bun/bin/$ogel_name.new" &&
        mv -f "$ogel_modules/bun/bin/$ogel_name.new" "$ogel_modules/bun/bin/$ogel_name.exe" || return 1
    done
  fi
  if "$ogel_modules/deno/deno" --version >/dev/null 2>&1; then return 0; fi
  for ogel_candidate in "$ogel_modules"/@deno/*/deno; do
    if "$ogel_candidate" --version >/dev/null 2>&1; then
      cp -f "$ogel_candidate" "$ogel_modules/deno/deno.new" &&
        mv -f "$ogel_modules/deno/deno.new" "$ogel_modules/deno/deno"
      return
    fi
  done
  # Without Deno the platform runs; what needs it says so.
  return 0
}

# Of several commands that start at once, one installs and the others wait for it.
ogel_lock() {
  ogel_said=
  until mkdir "$ogel_work/lock" 2>/dev/null; do
    ogel_holder=$(cat "$ogel_work/lock/pid" 2>/dev/null || true)
    if [ -n "$ogel_holder" ] && ! kill -0 "$ogel_holder" 2>/dev/null; then
      rm -rf "$ogel_work/lock"
      continue
    fi
    if [ -z "$ogel_said" ]; then
      printf 'Waiting for another command that installs dependencies …\n' >&2
      ogel_said=yes
    fi
    sleep 1 >/dev/null 2>&1
  done
  printf '%s\n' "$$" >"$ogel_work/lock/pid"
  trap 'rm -rf "$ogel_work/lock"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

ogel_unlock() {
  rm -rf "$ogel_work/lock"
  trap - EXIT INT TERM HUP
}

# What the installation depends on, as a short text.
ogel_stamp() {
  cat "$OGEL_ROOT/package.json" "$OGEL_ROOT/bun.lock" | cksum
}

ogel_is_installed() {
  [ "$(cat "$ogel_work/stamp" 2>/dev/null)" = "$(ogel_stamp)" ] && ogel_is_pinned "$OGEL_BUN"
}

OGEL_BUN=$ogel_modules/.bin/bun
if [ -z "${HOME:-}" ] || [ ! -w "$HOME" ]; then
  # Bun would lay its cache of transpiled modules into the current directory.
  BUN_RUNTIME_TRANSPILER_CACHE_PATH=0
  export BUN_RUNTIME_TRANSPILER_CACHE_PATH
fi
if ! ogel_is_installed; then
  mkdir -p "$ogel_work" 2>/dev/null || ogel_fail "$ogel_modules cannot be written: dependencies go there."
  ogel_lock
  if ! ogel_is_installed; then
    ogel_prepare_caches
    ogel_get_bun
    # A copy of its own: the installation may replace the very program that does it.
    if [ "$ogel_found" != "$ogel_work/bun" ]; then
      { cp -f "$ogel_found" "$ogel_work/bun.new" && mv -f "$ogel_work/bun.new" "$ogel_work/bun"; } ||
        ogel_fail "The disk that holds $ogel_work may be full."
      ogel_found=$ogel_work/bun
    fi
    ogel_step "Installing dependencies" "$ogel_found" install --frozen-lockfile --cwd "$OGEL_ROOT" ||
      ogel_step "Installing dependencies without their install scripts" \
        "$ogel_found" install --frozen-lockfile --ignore-scripts --cwd "$OGEL_ROOT" ||
      ogel_fail "The dependencies could not be installed; see above. Is the machine offline, or the disk full?"
    ogel_heal || ogel_fail "Bun could not be laid into $ogel_modules. Is the disk full?"
    ogel_is_pinned "$OGEL_BUN" || ogel_fail "$OGEL_BUN does not run on this machine."
    rm -f "$ogel_work/bun"
    ogel_stamp >"$ogel_work/stamp"
  fi
  ogel_unlock
fi
