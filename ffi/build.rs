//! Compiles the XDP program.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "bpf/steer.c";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = Path::new(&env::var("OUT_DIR")?).join("steer.o");
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
            SOURCE,
            "-o",
        ])
        .arg(&object)
        .status()
        .map_err(|error| format!("{clang} cannot be started: {error}"))?;
    if !status.success() {
        return Err(
            format!("{clang} could not compile {SOURCE} ({status}); it needs libbpf's headers").into()
        );
    }
    Ok(())
}
