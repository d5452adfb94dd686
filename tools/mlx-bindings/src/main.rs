//! Writes the Rust declarations of mlx-c that mlx-sys includes.
//!
//! usage: `mlx-bindings OUT.rs MLX_C_ROOT [CLANG_ARG…]`
//!
//! Every header of `MLX_C_ROOT/mlx/c` is read, in the order of their names, with
//! the settings that mlx-sys's own build script has. libclang is found as
//! bindgen finds it: `LIBCLANG_PATH` first.

use std::{env, error::Error, fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mlx-bindings: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(out), Some(root)) = (args.next(), args.next()) else {
        return Err("usage: mlx-bindings OUT.rs MLX_C_ROOT [CLANG_ARG…]".into());
    };
    let mut headers = fs::read_dir(PathBuf::from(&root).join("mlx/c"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?;
    headers.retain(|path| path.extension().is_some_and(|extension| extension == "h"));
    headers.sort();

    let mut builder = bindgen::builder()
        .rust_target("1.73.0".parse::<bindgen::RustTarget>()?)
        .clang_arg(format!("-I{root}"))
        .clang_args(args)
        .formatter(bindgen::Formatter::None)
        .blocklist_function("malloc")
        .blocklist_function("realloc");
    for header in headers {
        builder = builder.header(header.to_string_lossy());
    }
    builder.generate()?.write_to_file(out)?;
    Ok(())
}
