"""What set-up commands left in ignored folders of their checkout: taken out of it, and given to later checkouts.

Python programs that run inside boxes, where what they touch is nobody's but the box's.
"""

from __future__ import annotations

COLLECT = r"""
import os, shutil, stat, subprocess, sys
checkout, tree, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(checkout)
git = subprocess.run(
    ["git", "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
if git.returncode:
    sys.exit("git cannot say what is ignored: " + git.stderr.decode(errors="replace").strip())
listed = git.stdout
droppings = {b"__pycache__", b".pytest_cache", b".mypy_cache", b".ruff_cache"}

def size(path):
    if os.path.islink(path) or not os.path.isdir(path):
        return os.lstat(path).st_size
    files = [os.path.join(at, name) for at, _, names in os.walk(path) for name in names]
    return sum(map(size_of_file, files))

def size_of_file(path):
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0

def plain(path):
    kind = os.lstat(path).st_mode
    return stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)

def open_up(path):
    # A folder that its owner may not look into can neither be moved nor measured.
    if os.path.isdir(path) and not os.path.islink(path):
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        if mode & 0o500 != 0o500:
            os.chmod(path, mode | 0o700)

def open_all(path):
    open_up(path)
    for at, folders, _ in os.walk(path):
        for name in folders:
            open_up(os.path.join(at, name))

left, room = [], limit
for name in sorted(listed.split(b"\0")):
    path = name.rstrip(b"/")
    base = os.path.basename(path)
    if not path or base in droppings or base.endswith(b".pyc") or not os.path.lexists(path):
        continue
    if not plain(path):
        continue
    try:
        open_all(path)
    except OSError:
        left.append(path)
        continue
    if base != b"node_modules":
        # It is copied into every checkout.
        room -= size(path)
        if room < 0:
            left.append(path)
            continue
    target = os.path.join(os.fsencode(tree), path)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(path, target)
    except OSError:
        left.append(path)
sys.stdout.buffer.write(b"\n".join(left))
"""
"""Arguments: checkout, where to, and how many bytes at most (`node_modules` not counted). Prints what was left out."""

APPLY = r"""
import errno, os, shutil, stat, sys
checkout, tree, mark = sys.argv[1], sys.argv[2], sys.argv[3]
note = os.path.join(checkout, ".git", "threadwright-installed")

def read():
    try:
        with open(note, errors="surrogateescape", newline="") as file:
            return file.read().split("\0")
    except OSError:
        return [""]

before = read()
if before[0] == mark:
    sys.exit(0)

skipped, full = [], []

def failed(error):
    # One entry less, unless it is all of them that have no place.
    (full if error.errno in (errno.ENOSPC, errno.EDQUOT) else skipped).append(error)

def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        try:
            os.unlink(path)
        except OSError as error:
            failed(error)

for path in before[1:]:
    remove(os.path.join(checkout, path))

def farm(source, target):
    # A folder of links: what is installed stays shared and read-only, and tools can still put their caches beside it.
    os.makedirs(target, exist_ok=True)
    for entry in os.scandir(source):
        at = os.path.join(target, entry.name)
        if os.path.lexists(at):
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), at)
        elif entry.name == ".bin" or entry.name.startswith("@"):
            farm(entry.path, at)
        else:
            os.symlink(entry.path, at)

done = []

def copy(source, target, follow_symlinks=False):
    # Neither sockets nor pipes; what cannot be read is left out.
    try:
        kind = os.lstat(source).st_mode
        if stat.S_ISREG(kind) or stat.S_ISLNK(kind):
            shutil.copy2(source, target, follow_symlinks=False)
    except OSError as error:
        failed(error)

def bring(folder, inside):
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        failed(error)
        return
    for entry in entries:
        try:
            one(entry, inside)
        except OSError as error:
            # What copytree gathers is one, too.
            failed(error)

def one(entry, inside):
    path = os.path.join(inside, entry.name)
    at = os.path.join(checkout, path)
    if entry.is_dir(follow_symlinks=False) and entry.name == "node_modules":
        farm(entry.path, at)
        done.append(path)
    elif entry.is_dir(follow_symlinks=False) and os.path.isdir(at) and not os.path.islink(at):
        bring(entry.path, path)
    elif not os.path.lexists(at):
        if entry.is_dir(follow_symlinks=False) and has_modules(entry.path):
            os.makedirs(at)
            bring(entry.path, path)
        elif entry.is_dir(follow_symlinks=False):
            done.append(path)
            shutil.copytree(entry.path, at, symlinks=True, copy_function=copy)
        else:
            done.append(path)
            copy(entry.path, at)

def has_modules(folder):
    return any("node_modules" in names for _, names, _ in os.walk(folder))

if os.path.isdir(tree):
    bring(tree, "")
if full:
    sys.exit(ascii(full[0]))
try:
    with open(note, "w", errors="surrogateescape", newline="") as file:
        file.write("\0".join([mark, *done]))
except (FileNotFoundError, NotADirectoryError) as error:
    # The task has removed .git; next time it is all brought once more.
    skipped.append(error)
if skipped:
    print(len(skipped), "left out, the first:", ascii(skipped[0])[:500])
"""
"""Arguments: checkout, tree, and a word that names what is given: a second time nothing is done."""

SIZE = 'du -sk -- "$1" | cut -f1'
"""Kilobytes of a folder."""
