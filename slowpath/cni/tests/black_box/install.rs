//! The program puts itself in its place.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_millrace-cni");

fn install(program: &Path, directory: &Path) -> Output {
    Command::new(program).arg("--install").arg(directory).output().unwrap()
}

#[test]
fn it_is_there_whole_and_again_while_it_runs() {
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("opt/cni/bin");
    assert!(install(Path::new(PROGRAM), &directory).status.success());
    let place = directory.join("millrace-cni");
    assert_eq!(std::fs::read(&place).unwrap(), std::fs::read(PROGRAM).unwrap());
    assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o755);
    // It replaces itself, and so a file that is being run.
    assert!(install(&place, &directory).status.success());
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn a_place_that_cannot_be_is_named() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = install(Path::new(PROGRAM), &file);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains(&file.display().to_string()));
}
