//! Makes the library that is loaded before all others.

use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "preload.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    let out =
        PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where")).join("preload.so");
    // Only the compiler: what it makes here is no archive to link with.
    let mut build = cc::Build::new();
    let mut command: Command = build.cargo_metadata(false).get_compiler().to_command();
    // Fortified headers would give some of these functions other names.
    command.args(["-std=gnu11", "-O2", "-Wall", "-Werror", "-U_FORTIFY_SOURCE"]);
    command
        .args(["-shared", "-fPIC", SOURCE, "-ldl", "-o"])
        .arg(&out);
    let status = command
        .status()
        .expect("a C compiler, as RocksDB needs one too");
    assert!(status.success(), "{command:?}: {status}");
    println!("cargo:rustc-env=POWER_PRELOAD={}", out.display());
}
