//! The program `terminator`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    terminator::program::run(std::env::args_os().skip(1))
}
