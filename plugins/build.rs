//! Links a static executable without the tables for unwinding: a tenth of it. A panic ends the process (Cargo.toml,
//! `panic = "abort"`), so that nobody walks the stack but a backtrace, which a stripped executable has no names for.

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/static.ld");

fn main() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{SCRIPT}");
    }
}
