//! `pack-image`: the same directory gives the same bytes, and what a guest cannot use is refused.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "the directory to pack is written as the test needs it")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, SystemTime};

fn pack(root: &Path, out: &Path) -> ExitStatus {
    let mut pack = Command::new(env!("CARGO_BIN_EXE_pack-image"));
    pack.arg("--root").arg(root).arg("--out").arg(out);
    pack.args(["--name", "example/image:test", "--entrypoint", "sh", "--env", "A=b"]);
    pack.status().unwrap()
}

fn root(dir: &Path, names: [&str; 2]) {
    fs::create_dir_all(dir.join("bin")).unwrap();
    for name in names {
        fs::write(dir.join("bin").join(name), name).unwrap();
    }
    symlink(names[0], dir.join("bin/link")).unwrap();
    fs::set_permissions(dir.join("bin"), fs::Permissions::from_mode(0o1777)).unwrap();
}

#[test]
fn the_same_directory_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    root(&one, ["a", "b"]);
    let old = fs::File::options().write(true).open(one.join("bin/a")).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7)).unwrap();
    fs::create_dir_all(two.join("bin")).unwrap();
    fs::write(two.join("bin/b"), "b").unwrap();
    root(&two, ["a", "b"]);
    assert!(pack(&one, &dir.path().join("1.tar")).success());
    assert!(pack(&two, &dir.path().join("2.tar")).success());
    assert_eq!(fs::read(dir.path().join("1.tar")).unwrap(), fs::read(dir.path().join("2.tar")).unwrap());
}

#[test]
fn a_socket_is_refused_and_no_scratch_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("root");
    root(&from, ["a", "b"]);
    let _socket = UnixListener::bind(from.join("socket")).unwrap();
    assert!(!pack(&from, &dir.path().join("x.tar")).success());
    assert!(!dir.path().join("x.layer").exists());
}
