//! Links a static executable without the tables for unwinding, which are a tenth of it. A panic
//! ends the process (Cargo.toml, `panic = "abort"`), so only a backtrace would walk the stack, and
//! a stripped executable has no names for that.

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/static.ld");

fn main() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        // In these words a linker takes it as well as a C compiler does.
        println!("cargo::rustc-link-arg-bins=-T{SCRIPT}");
    }
}
