# Virtual environments from hash locks: read by forgew and check, POSIX sh.

# make_environment PROGRAM ROOT NAME LOCK: make ROOT/.forge/NAME hold what ROOT/requirements/LOCK says, and, unless
# forge itself is in the lock, ROOT on its path. It is made aside and renamed: a call that is interrupted leaves what
# was there before, and callers at the same time wait for the first. PROGRAM is who speaks. Ends the script with 36
# where it cannot be done.
make_environment() {
    # To press TAB is not to ask for an environment.
    if [ -n "${_FORGE_COMPLETE:-}" ]; then exit 0; fi
    program=$1
    lock=$2/requirements/$4
    find_python "$program"
    check_venv "$program"

    mkdir -p "$2/.forge" || fail "$program" "Cannot write to $2/.forge, where the environment would be"
    folder=$(cd "$2/.forge" && pwd -P)
    goal=$folder/$3
    new=$goal.new
    (: >"$goal.lock") 2>/dev/null || fail "$program" "Cannot write to $folder, where the environment would be"
    exec 9>"$goal.lock"
    # The kernel's lock stands as long as descriptor 9 is open, here or in a child that outlives a kill.
    "$python" -I -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print(sys.argv[1] + ": Waiting for another call that is making the same environment", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)' "$program"
    if [ -x "$goal/bin/python" ] && cmp -s "$lock" "$goal/$4"; then
        exec 9>&-
        return
    fi

    trap 'rm -rf "$new"' EXIT
    trap 'exit 8' INT TERM HUP
    say "$program" "Making .forge/$3 from requirements/$4, once: $(grep -c == "$lock") packages"
    rm -rf "$new" "$goal.old"
    "$python" -I -m venv "$new" || fail "$program" "Python at $python could not make an environment, see above"
    install_lock "$new" "$lock" || fail "$program" "pip could not install requirements/$4, see above" \
        'pip takes packages from where it is configured to, and each must match its digest in the lock. Name an index' \
        'that can be reached by PIP_INDEX_URL (or `pip config set global.index-url`), or a folder with the wheels by' \
        'PIP_FIND_LINKS and PIP_NO_INDEX=1; a proxy by HTTPS_PROXY, its certificates by PIP_CERT'
    if ! grep -q '^forge-build==' "$lock"; then
        for site in "$new"/lib/python3*/site-packages; do
            # Relative to itself, so that the checkout can be moved.
            printf '../../../../..\n' >"$site/forge.pth"
        done
    fi
    rename_programs "$new" "$goal" || fail "$program" "Could not finish $new, see above"
    cp "$lock" "$new/$4"
    if [ -e "$goal" ]; then mv "$goal" "$goal.old"; fi
    mv "$new" "$goal"
    rm -rf "$goal.old"
    trap - EXIT INT TERM HUP
    exec 9>&-
}

# install_lock FOLDER LOCK: install what LOCK names into the environment at FOLDER; wheels only, each by its digest.
# Those that lie beside the lock need no index: forge's own, in a workspace that `forge init` made.
install_lock() (
    # These move the installation elsewhere, or forbid it.
    unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_REQUIRE_VIRTUALENV PIP_CONSTRAINT PIP_REQUIREMENT PIP_DRY_RUN
    PIP_RETRIES=${PIP_RETRIES-2} exec "$1/bin/python" -I -m pip install -qq --disable-pip-version-check --no-input \
        --no-user --no-deps --only-binary :all: --find-links "${2%/*}" --require-hashes -r "$2"
)

# find_python PROGRAM: set $python to the program of a Python that is new enough, with its version in its name where it
# has one, so that an environment made with it breaks rather than changes when the system's python3 does.
find_python() {
    python='' found=''
    for candidate in ${FORGE_PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        answer=$("$candidate" -I -c '
import os, sys
print(int(sys.version_info >= (3, 11)), sys.version.split()[0], os.path.realpath(sys.executable))' 2>/dev/null) || continue
        case $answer in
            1\ *) python=${answer#* } python=${python#* } ; return ;;
            0\ *) answer=${answer#* } found="$found ${answer%% *} at ${answer#* }," ;;
        esac
    done
    fail "$1" "No Python 3.11 or newer: looked for [${FORGE_PYTHON:-python3, python3.11 to python3.14}], found${found:- none}" \
        'On Debian 12, Ubuntu 24.04 and newer: apt install python3 python3-venv; elsewhere install Python 3.11 or newer,' \
        'and name its program by FORGE_PYTHON where it is not on the PATH'
}

# check_venv PROGRAM: see that $python can make environments. Debian takes ensurepip out of Python.
check_venv() {
    "$python" -I -c 'import ensurepip, venv' 2>/dev/null || fail "$1" \
        "Python at $python cannot make environments: its module \`venv\` or \`ensurepip\` is missing" \
        'On Debian and Ubuntu: apt install python3-venv; or name another Python by FORGE_PYTHON'
}

# rename_programs OLD NEW: programs of an environment name its Python by its full path.
rename_programs() {
    "$python" -I - "$1" "$2" <<'PYTHON'
import os, pathlib, sys

old, new = (os.fsencode(each) for each in sys.argv[1:])
for path in [*pathlib.Path(sys.argv[1], "bin").iterdir(), pathlib.Path(sys.argv[1], "pyvenv.cfg")]:
    if not path.is_symlink() and old in (content := path.read_bytes()) and b"\0" not in content:
        path.write_bytes(content.replace(old, new))
PYTHON
}

# say PROGRAM TEXT
say() { printf '%s: %s\n' "$1" "$2" >&2; }

# fail PROGRAM TEXT [HINT...]: say what is wrong and what to do, end with the exit code of a machine that is not fit.
fail() {
    say "$1" "$2"
    shift 2
    prefix='  hint: '
    for line; do
        printf '%s%s\n' "$prefix" "$line" >&2
        prefix='        '
    done
    exit 36
}
