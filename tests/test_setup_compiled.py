"""Go modules and Rust crates through a set-up phase: the real tools, and registries of our own on loopback."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from doorstubs import Answer
from publicly import Checkout, registries

# No part of `make test`: what tools a machine has is not for it to say.
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(300)]

MODULE = "example.com/shouting"
GO_MOD = f"module {MODULE}\n\ngo 1.19\n"
GO_SOURCE = 'package shouting\n\nimport "strings"\n\nfunc Shout(s string) string { return strings.ToUpper(s) }\n'
GO_APP = {
    "go.mod": f"module example.com/app\n\ngo 1.19\n\nrequire {MODULE} v1.0.0\n",
    "main.go": f'package main\n\nimport "{MODULE}"\n\nfunc main() {{ println(shouting.Shout("fine")) }}\n',
}
CRATE_TOML = '[package]\nname = "shouting"\nversion = "1.0.0"\nedition = "2021"\n'
CRATE_SOURCE = "pub fn shout(s: &str) -> String { s.to_uppercase() }\n"
RUST_APP = {
    "Cargo.toml": CRATE_TOML.replace("shouting", "app") + '\n[dependencies]\nshouting = "1"\n',
    "src/lib.rs": 'pub fn fine() -> String { shouting::shout("fine") }\n',
}


def go_sum() -> str:
    """The lines that `go` checks a module by."""
    named = {f"{MODULE}@v1.0.0/go.mod": GO_MOD, f"{MODULE}@v1.0.0/shouting.go": GO_SOURCE}
    return f"{MODULE} v1.0.0 {_h1(named)}\n{MODULE} v1.0.0/go.mod {_h1({'go.mod': GO_MOD})}\n"


def _h1(files: dict[str, str]) -> str:
    lines = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in sorted(files.items()))
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def module_proxy() -> dict[str, Answer]:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{MODULE}@v1.0.0/go.mod", GO_MOD)
        archive.writestr(f"{MODULE}@v1.0.0/shouting.go", GO_SOURCE)
    at = f"/{MODULE}/@v/v1.0.0"
    return {
        f"{at}.info": Answer(b'{"Version": "v1.0.0", "Time": "2024-01-01T00:00:00Z"}'),
        f"{at}.mod": Answer(GO_MOD.encode()),
        f"{at}.zip": Answer(made.getvalue()),
    }


def crate() -> bytes:
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in (("Cargo.toml", CRATE_TOML), ("src/lib.rs", CRATE_SOURCE)):
            entry = tarfile.TarInfo(f"shouting-1.0.0/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


def crate_index(packed: bytes) -> dict[str, Answer]:
    """The sparse index of crates.io, and what it says is to be had."""
    about = {
        "name": "shouting", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False,
        "cksum": hashlib.sha256(packed).hexdigest(),
    }  # fmt: skip
    config = {"dl": "https://static.crates.io/crates", "api": "https://crates.io"}
    return {
        "/config.json": Answer(json.dumps(config).encode()),
        "/sh/ou/shouting": Answer(json.dumps(about).encode() + b"\n"),
        "/crates/shouting/1.0.0/download": Answer(packed),
    }


def cargo_lock(packed: bytes) -> str:
    return (
        'version = 3\n\n[[package]]\nname = "app"\nversion = "1.0.0"\ndependencies = [\n "shouting",\n]\n\n'
        '[[package]]\nname = "shouting"\nversion = "1.0.0"\n'
        'source = "registry+https://github.com/rust-lang/crates.io-index"\n'
        f'checksum = "{hashlib.sha256(packed).hexdigest()}"\n'
    )


def folder_of(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"this needs {program}: install it (Debian: apt-get install golang-go cargo)")
    return str(Path(found).parent)


def test_a_go_project_has_its_modules_and_builds_without_a_network(tmp_path: Path) -> None:
    app = Checkout(tmp_path / "app", {**GO_APP, "go.sum": go_sum()}, folder_of("go"))
    with registries(module_proxy()):
        app.set_up("go.sum")
    assert f"proxy.golang.org/{MODULE}/@v/v1.0.0.zip" in app.fetched()
    assert app.run("go run . 2>&1") == "FINE\n"


def test_a_go_module_that_is_not_what_was_locked_is_not_installed(tmp_path: Path) -> None:
    app = Checkout(tmp_path / "app", {**GO_APP, "go.sum": go_sum().replace("h1:", "h1:AAAA", 1)}, folder_of("go"))
    with registries(module_proxy()), pytest.raises(AssertionError, match=r"(?s)go mod download.*SECURITY ERROR"):
        app.set_up("go.sum")


def test_a_rust_project_has_its_crates_and_is_checked_without_a_network(tmp_path: Path) -> None:
    packed = crate()
    app = Checkout(tmp_path / "app", {**RUST_APP, "Cargo.lock": cargo_lock(packed)}, folder_of("cargo"))
    with registries(crate_index(packed)):
        app.set_up("Cargo.lock")
    assert {"index.crates.io/config.json", "static.crates.io/crates/shouting/1.0.0/download"} <= app.fetched()
    assert "Finished" in app.run("cargo check --locked 2>&1")


def test_a_rust_project_whose_manifest_changed_is_locked_anew(tmp_path: Path) -> None:
    packed = crate()
    app = Checkout(tmp_path / "app", RUST_APP, folder_of("cargo"))
    with registries(crate_index(packed)):
        lock = app.set_up("Cargo.lock", refresh=True)
    assert hashlib.sha256(packed).hexdigest() in lock
