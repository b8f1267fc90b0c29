//! What tests use of other people's: packages of npm and PyPI, put where tests find them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The folder of an npm package that the tests need; all of them are fetched if it is not there.
pub fn npm_package(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let package = tests.join("node_modules").join(name);
    if !package.exists() {
        let lock = File::create(tests.join(".npm.lock")).expect("a lock file");
        lock.lock().expect("the lock");
        if !package.exists() {
            npm_ci(&tests);
        }
    }
    package
}

pub fn npm_ci(folder: &Path) {
    let npm = ["ci", "--no-audit", "--no-fund", "--prefix"];
    must(Command::new("npm").args(npm).arg(folder).stdout(Stdio::null()));
}

/// A Python of this name that has what a file asks for.
pub fn venv(name: &str, requirements: &Path) -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
    install(requirements, &venv, || {
        must(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        must(Command::new(venv.join("bin/python")).args(pip).arg(requirements));
    });
    venv
}

/// Has a folder filled with what a file asks for, unless it is. Other tests may want it at the same moment.
pub fn install(wanted: &Path, folder: &Path, fill: impl FnOnce()) {
    let wanted = fs::read_to_string(wanted).expect("a file that says what is wanted");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    // Written last, so it is there only if all else is.
    let mark = folder.join(".installed");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return;
    }
    fill();
    fs::write(mark, wanted).expect("a mark");
}

fn must(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
