"""What set-up commands left in ignored folders of their checkout: taken out of it, and given to later checkouts.

Python programs that run inside boxes, where what they touch is nobody's but the box's.
"""

from __future__ import annotations

COLLECT = r"""
import os, shutil, subprocess, sys
checkout, tree, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(checkout)
listed = subprocess.run(
    ["git", "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"],
    stdout=subprocess.PIPE, check=True).stdout
droppings = {b"__pycache__", b".pytest_cache", b".mypy_cache", b".ruff_cache"}

def size(path):
    if os.path.islink(path) or not os.path.isdir(path):
        return os.lstat(path).st_size
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(path) for name in names)

left, room = [], limit
for name in sorted(listed.split(b"\0")):
    path = name.rstrip(b"/")
    base = os.path.basename(path)
    if not path or base in droppings or base.endswith(b".pyc") or not os.path.lexists(path):
        continue
    if base != b"node_modules":
        # It is copied into every checkout.
        room -= size(path)
        if room < 0:
            left.append(path)
            continue
    target = os.path.join(os.fsencode(tree), path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(path, target)
sys.stdout.buffer.write(b"\n".join(left))
"""
"""Arguments: checkout, where to, and how many bytes at most (`node_modules` not counted). Prints what was left out."""

APPLY = r"""
import os, shutil, sys
checkout, tree, mark = sys.argv[1], sys.argv[2], sys.argv[3]
note = os.path.join(checkout, ".git", "threadwright-installed")

def read():
    try:
        with open(note) as file:
            return file.read().split("\0")
    except OSError:
        return [""]

before = read()
if before[0] == mark:
    sys.exit(0)

def remove(path):
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)

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

def bring(folder, inside):
    for entry in os.scandir(folder):
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
                shutil.copytree(entry.path, at, symlinks=True)
                done.append(path)
            else:
                shutil.copy2(entry.path, at, follow_symlinks=False)
                done.append(path)

def has_modules(folder):
    return any("node_modules" in names for _, names, _ in os.walk(folder))

if os.path.isdir(tree):
    bring(tree, "")
with open(note, "w") as file:
    file.write("\0".join([mark, *done]))
"""
"""Arguments: checkout, tree, and a word that names what is given: a second time nothing is done."""

SIZE = 'du -sk -- "$1" | cut -f1'
"""Kilobytes of a folder."""
