//! The program `worker`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    worker::app::program::run(std::env::args_os().skip(1))
}
