//! Makes the built web UI part of the binary. Without it the server still builds, and says how to have it.

use std::{env, fs, io, path::Path};

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts so")]
fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=static/dist");
    println!("cargo::rerun-if-changed=build.rs");
    let out_dir = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let ui = Path::new(&out_dir).join("ui");
    if ui.exists() {
        fs::remove_dir_all(&ui)?;
    }
    fs::create_dir_all(&ui)?;
    let built = Path::new("static/dist");
    if built.join("index.html").exists() { copy(built, &ui) } else { Ok(()) }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
