"""The toolchains of the operator's PATH, as folders and programs that a box may see: installations, never a home."""

from __future__ import annotations

import os
import pwd
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SYSTEM = tuple(Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib64"))
_MOST_PROGRAMS = 4000
# Never shown, whatever leads there.
_PRIVATE = (
    ".ssh", ".config", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store", ".mozilla", ".netrc",
    ".claude", ".codex",
)  # fmt: skip
# What makes a folder somebody's project.
_PROJECT = (".env", ".git", "pyproject.toml", "package.json")
# Files of an installation that hold tokens: in its top folder and in its `etc`.
_TOKENS = (
    "pip.conf", "npmrc", ".npmrc", ".yarnrc", ".yarnrc.yml", ".condarc", "condarc", ".netrc", ".pypirc", ".env",
    ".git-credentials", "credentials*.toml",
)  # fmt: skip
_SHARED = tuple(
    Path(name)
    for name in ("/", "/home", "/root", "/opt", "/var", "/tmp", "/mnt", "/srv", "/snap", "/nix", "/etc")  # noqa: S108
)


@dataclass
class _Survey:
    home: Path
    places: list[Path] = field(default_factory=list)
    path: list[str] = field(default_factory=list)

    def show(self, place: Path) -> None:
        if place not in self.places:
            self.places.append(place)

    def allowed(self, place: Path) -> bool:
        """Whether a folder or file may be shown whole."""
        if place in _SHARED or place in (self.home, *self.home.parents) or not place.is_absolute():
            return False
        if any(place == system or system in place.parents for system in map(Path, ("/proc", "/sys", "/dev", "/run"))):
            return False
        return not any(part in _PRIVATE for part in place.parts)

    def prefix(self, folder: Path) -> Path | None:
        """The installation that a program's folder belongs to; the folder itself when that is all that may be shown."""
        parent = folder.parent
        inside_project = self.home in parent.parent.parents and _is_project(parent.parent)
        if folder.name in ("bin", "sbin") and self.allowed(parent) and not inside_project and _is_installation(parent):
            return parent
        return folder if self.allowed(folder) and not _is_project(folder) else None


def _is_project(folder: Path) -> bool:
    return any((folder / name).exists() for name in _PROJECT)


def _is_installation(folder: Path) -> bool:
    """Whether it looks like something that was installed, and not like a project, or like ~/.local and ~/.cargo."""
    if _is_project(folder) or folder.name in (".local", ".cargo"):
        return False
    return any((folder / name).exists() for name in ("lib", "lib64", "libexec", "include", "pyvenv.cfg", "jre"))


def _within(place: Path, folders: Sequence[Path]) -> bool:
    return any(folder == place or folder in place.parents for folder in folders)


def _versions(shims: Path) -> list[Path]:
    """The folders behind a folder of shims (pyenv, rbenv, nodenv; asdf, mise), which are of no use in a box."""
    root = shims.parent
    if (root / "versions").is_dir():
        chosen = (root / "version").read_text().split() if (root / "version").is_file() else []
        return [root / "versions" / name / "bin" for name in chosen]
    if (root / "installs").is_dir():
        return [_newest(tool) / "bin" for tool in sorted((root / "installs").iterdir()) if tool.is_dir()]
    return []


def _newest(tool: Path) -> Path:
    if (tool / "latest").exists():
        return tool / "latest"
    versions = [folder for folder in tool.iterdir() if folder.is_dir()]
    return max(versions, key=lambda folder: folder.stat().st_mtime, default=tool)


def _rust(cargo_bin: Path, home: Path) -> list[Path]:
    """The default toolchain's own programs: rustup's stand-ins want its settings, and ~/.cargo holds a token."""
    if cargo_bin.name != "bin" or cargo_bin.parent.name != ".cargo":
        return []
    rustup = home / ".rustup"
    found = sorted((rustup / "toolchains").glob("*/bin"))
    try:
        default = tomllib.loads((rustup / "settings.toml").read_text()).get("default_toolchain", "")
    except (OSError, tomllib.TOMLDecodeError):
        default = ""
    chosen = [folder for folder in found if folder.parent.name == default]
    return chosen or found[:1]


def _folders(search_path: str, home: Path) -> Iterator[Path]:
    """Folders of the PATH in order, with folders of shims replaced by what they stand for."""
    for entry in search_path.split(":"):
        folder = Path(entry)
        if not entry or not folder.is_absolute() or not folder.is_dir():
            continue
        if folder.name == "shims":
            yield from _versions(folder)
            continue
        if (folder.parent / "versions").is_dir() and folder.name == "bin":
            continue  # pyenv's own programs
        yield from _rust(folder, home)
        yield folder


def _programs(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for _, entry in zip(range(_MOST_PROGRAMS), entries, strict=False):
            if entry.is_symlink():
                yield Path(entry.path)


def _behind(program: Path, survey: _Survey) -> None:
    """Show where a link leads: its installation, or under a home just that one file."""
    try:
        real = program.resolve(strict=True)
    except (OSError, RuntimeError):
        return
    if not real.is_file() or _within(real, [*_SYSTEM, *survey.places]):
        return
    if real.parent.name in ("bin", "sbin"):
        place = survey.prefix(real.parent)
        if place is not None and place != real.parent:
            survey.show(place)
            return
    if survey.allowed(real):
        survey.show(real)


def _own_home() -> Path:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user that only has a number, as in some containers
        return Path("/nonexistent")


def _survey(search_path: str, home: Path | None) -> _Survey:
    survey = _Survey((home or _own_home()).resolve())
    own = Path(sys.prefix)
    for folder in _folders(search_path, survey.home):
        real = folder.resolve()
        if _within(real, _SYSTEM) or _within(folder, _SYSTEM):
            survey.path.append(str(folder))
            continue
        # Our own environment is not the repository's business.
        if not real.is_dir() or (own != Path(sys.base_prefix) and _within(real, [own])):
            continue
        place = survey.prefix(real)
        if place is None or str(real) in survey.path:
            continue
        survey.path.append(str(real))
        if not _within(place, survey.places):
            survey.show(place)
        for program in _programs(real):
            _behind(program, survey)
    return survey


def toolchains(search_path: str, *, home: Path | None = None) -> list[Path]:
    """Folders and programs outside /usr that make the programs of `search_path` work; same path inside a box.

    `home`: the operator's home, None for that of this process's user. It is never shown, nor is anything in it that no
    program of the PATH is installed in.
    """
    return _survey(search_path, home).places


def box_path(search_path: str, shown: Sequence[Path], *, home: Path | None = None) -> str:
    """PATH inside a box that shows these toolchains; the system's folders are always on it."""
    kept = [entry for entry in _survey(search_path, home).path if _within(Path(entry), [*_SYSTEM, *shown])]
    system = ("/usr/local/bin", "/usr/bin", "/bin")
    return ":".join(dict.fromkeys([*kept, *(entry for entry in system if entry not in kept)]))


def token_files(place: Path) -> list[Path]:
    """Files of an installation that may hold an operator's tokens; a box shows them empty."""
    found = (path for folder in (place, place / "etc") for name in _TOKENS for path in folder.glob(name))
    # Also where a link leads, as long as that is shown at all.
    real = (path.resolve() for path in found if path.is_file())
    return sorted({path for path in real if place in path.parents})
