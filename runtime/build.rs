//! Where the command looks for MLX when it is installed: `tools/install.py` puts the library there.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib/fuseline/mlx/lib");
    }
}
