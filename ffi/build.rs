//! Compiles the programs that run in the kernel.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::Command;

/// In `bpf/`: the XDP program, the programs of an uplink that is received otherwise, what leads the host to frontends at its own
/// addresses, what carries connections past the data path, and what sends frames by the batch.
const PROGRAMS: [&str; 5] = ["steer", "take", "lead", "shortcut", "batch"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    PROGRAMS.into_iter().try_for_each(compile)
}

fn compile(program: &str) -> Result<(), Box<dyn Error>> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let source = format!("bpf/{program}.c");
    let object = Path::new(&env::var("OUT_DIR")?).join(format!("{program}.o"));
    // The kernel's headers include <asm/types.h>, which distributions with multiarch keep in a folder of its own.
    let multiarch = format!("/usr/include/{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    let status = Command::new(&clang)
        .args([
            "-target",
            "bpf",
            "-O2",
            "-g",
            "-Wall",
            "-Werror",
            "-idirafter",
            &multiarch,
            "-c",
            &source,
            "-o",
        ])
        .arg(&object)
        .status()
        .map_err(|error| format!("{clang} cannot be started: {error}"))?;
    if !status.success() {
        return Err(
            format!("{clang} could not compile {source} ({status}); it needs libbpf's headers").into()
        );
    }
    Ok(())
}
