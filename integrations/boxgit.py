"""Git inside a box, as shell scripts. All of it is contained, so planted hooks may run, but not make it fail.

`.ledger` beside the checkout is a git folder of our own, made anew each time but for its index: a broken or hostile
`.git` in the checkout cannot spoil what leaves. Kept are its index, for the stat data, and `attributes`: files that
were committed before an attribute would have converted their line endings are taken as they are, or they look changed.
"""

from __future__ import annotations

_FORGET = "chmod -R u+rwX checkout .ledger .clone.* 2>/dev/null || :; rm -rf checkout .ledger .clone.*"

# An index without stat data makes git compare every file; names come out quoted as attributes want them.
_AS_THEY_ARE = r"""
as_they_are() {
  rm -rf .ledger/attributes
  git -C "$1" ls-files | grep -q 'gitattributes"\{0,1\}$' || return 0
  (
    cd "$1"
    export GIT_INDEX_FILE="$PWD/.git/fresh"
    git read-tree HEAD
    git update-index -q --refresh > /dev/null 2>&1 || :
    git diff-files --name-only > .git/fresh-names
    sed 's/^"\(.*\)"$/\1/; s/[][*?]/\\\\&/g; s/^/"\//; s/$/" -text/' .git/fresh-names > ../.ledger/attributes
    rm -f .git/fresh .git/fresh-names
  )
}
"""

# Git waits for ever for a pipe in the place of an ignore or attributes file. It does not look into the pruned ones.
_NO_PIPES = r"""
find checkout \( -name .git -o -name node_modules -o -name .venv -o -name .tox \) -prune -o \
  -type p -name '.git*' -exec rm -f {} + 2>/dev/null || :
"""

OPEN = f"""
set -eu
{_AS_THEY_ARE}
mirror=$1 commit=$2
if [ ! -e checkout/.git ]; then
  {_FORGET}
  new=.clone.$$
  git clone -q --no-hardlinks --no-recurse-submodules --no-checkout -- "$mirror" "$new"
  git -C "$new" checkout -q --detach "$commit"
  mkdir .ledger
  cp -p "$new/.git/index" .ledger/index
  as_they_are "$new"
  mv "$new" checkout
fi
if [ -L scratch ] || [ ! -d scratch ]; then rm -rf scratch; mkdir scratch; fi
command -v bash || command -v sh
"""
"""In the workspace: mirror, commit. Clones when there is no checkout; prints the shell to use."""

FORGET = _FORGET

RESET = f"""
set -eu
{_AS_THEY_ARE}
mirror=$1 commit=$2
{_NO_PIPES}
cd checkout
[ -d .git ] || exit 1
# Git opens what it finds: a pipe, or a link to one, would never end.
[ -z "$(find .git -path .git/hooks -prune -o ! -type f ! -type d -print | head -n 1)" ] || exit 1
rm -f .git/*.lock
git cat-file -e "$commit^{{commit}}" 2>/dev/null || git fetch -q --no-tags "$mirror" "$commit"
git -c core.hooksPath=/dev/null -c core.fsmonitor=false checkout -q -f --detach "$commit"
git -c core.hooksPath=/dev/null -c core.fsmonitor=false reset -q --hard "$commit"
git -c core.fsmonitor=false clean -ffdq
if [ -L ../.ledger ] || [ ! -d ../.ledger ]; then rm -rf ../.ledger; mkdir ../.ledger; fi
rm -rf ../.ledger/index
cp -p .git/index ../.ledger/index
cd ..
as_they_are checkout
"""
"""In the workspace: mirror, commit."""

_LEDGER = (
    """
set -eu
mirror=$1 base=$2
ledger=$PWD/.ledger
[ -d checkout ] || { echo "the checkout is gone" >&2; exit 3; }
if [ -L "$ledger" ] || [ ! -d "$ledger" ]; then rm -rf "$ledger"; mkdir "$ledger"; fi
find "$ledger" -mindepth 1 -maxdepth 1 ! -name index ! -name attributes -exec rm -rf {} +
mkdir -p "$ledger/objects/info" "$ledger/info" "$ledger/refs"
if [ -L "$ledger/index" ] || [ ! -f "$ledger/index" ]; then rm -rf "$ledger/index"; fi
if [ -f "$ledger/attributes" ]; then cp "$ledger/attributes" "$ledger/info/attributes"; fi
echo 'ref: refs/heads/none' > "$ledger/HEAD"
printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n' > "$ledger/config"
echo "$mirror/objects" > "$ledger/objects/info/alternates"
"""
    + _NO_PIPES
    + """
export GIT_DIR="$ledger" GIT_WORK_TREE="$PWD/checkout" GIT_INDEX_FILE="$ledger/index"
cd checkout
git read-tree --reset "$base" 2>/dev/null || { rm -rf "$ledger/index"; git read-tree "$base"; }
"""
)

EXPORT = (
    _LEDGER
    + """
git -c core.safecrlf=false add -A
tree=$(git write-tree)
echo "$tree"
printf '%s\\n^%s\\n' "$tree" "$base" | git pack-objects -q --revs --thin --stdout
"""
)
"""In the workspace: mirror, base. Prints the tree's id, a newline, and the pack."""

CHANGED = (
    _LEDGER
    + """
git update-index -q --refresh > /dev/null 2>&1 || :
git diff-files -z --name-only --no-ext-diff --ignore-submodules=dirty
git ls-files -z --others --exclude-standard
"""
)
"""In the workspace: mirror, base. Prints names, each ended by a NUL."""

READ = '[ -f "$1" ] || exit 44; exec head -c "$2" -- "$1"'
WRITE = """
[ ! -d "$1" ] || exit 45
[ ! -e "$1" ] || [ -f "$1" ] || exit 46
case "$1" in */*) mkdir -p -- "${1%/*}";; esac && exec cat > "$1"
"""
