//! `countersign ready`: asks a program whether it should get traffic.
//!
//! It is the health check of an image that has no `curl`, and a script's way to wait for a program. One request of
//! HTTP/1.1 on a connection of its own needs no HTTP client.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Deserialize;

use crate::support::{human, print};

/// Shown under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign ready http://127.0.0.1:9090
  countersign ready http://127.0.0.1:9091/livez --timeout 500ms

Exit status: 0 it is ready, 1 it is not (standard error says why), 2 it does not answer.";

/// An answer of `/readyz` is a few hundred bytes.
const ANSWER_MOST: u64 = 64 * 1024;

/// What is asked if the URL names no path.
const PATH: &str = "/readyz";

/// Who is asked.
#[derive(Debug, Args)]
pub(crate) struct ReadyArgs {
    /// The admin address of a terminator or worker; /readyz is asked unless there is another path.
    #[arg(value_name = "URL", value_parser = parse_target)]
    url: Target,
    /// How long to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = human::parse_duration)]
    timeout: Duration,
}

/// Where a program answers its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host and port, as the URL has them.
    pub(crate) authority: String,
    pub(crate) path: String,
}

/// What `/readyz` says.
#[derive(Debug, Deserialize)]
struct Report {
    checks: std::collections::BTreeMap<String, String>,
}

/// Asks once.
///
/// # Errors
/// No one answers, or not in HTTP.
pub(crate) fn run(args: &ReadyArgs) -> anyhow::Result<ExitCode> {
    let Target { authority, path } = &args.url;
    let asked = || format!("cannot ask http://{authority}{path}");
    let answer = ask(&args.url, Instant::now() + args.timeout).with_context(asked)?;
    let (status, body) = read(&answer).with_context(asked)?;
    if status == 200 {
        print::line("ready");
        return Ok(ExitCode::SUCCESS);
    }
    match serde_json::from_str::<Report>(body) {
        Ok(report) => {
            for (check, reason) in report.checks.iter().filter(|(_, reason)| *reason != "ok") {
                print::note(&format!("not ready: {check}: {reason}"));
            }
        }
        Err(_) => print::note(&format!("not ready: status {status}")),
    }
    Ok(ExitCode::FAILURE)
}

/// Reads a URL of one; what has no path means `/readyz`.
///
/// # Errors
/// What is wanted.
pub(crate) fn parse_target(url: &str) -> Result<Target, String> {
    let want = "want http://HOST:PORT, or http://HOST:PORT/PATH";
    let rest = url.strip_prefix("http://").ok_or(want)?;
    let (authority, path) = match rest.find('/') {
        Some(slash) if rest.len() > slash + 1 => rest.split_at(slash),
        Some(slash) => (&rest[..slash], PATH),
        None => (rest, PATH),
    };
    let (host, port) = authority.rsplit_once(':').ok_or(want)?;
    let bare = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('@');
    if host.is_empty() || port.parse::<u16>().is_err() || !bare(authority) || !bare(path) {
        return Err(want.to_owned());
    }
    Ok(Target {
        authority: authority.to_owned(),
        path: path.to_owned(),
    })
}

/// The whole answer, from the first of the host's addresses that takes a connection.
///
/// # Errors
/// No one answers in time.
pub(crate) fn ask(target: &Target, deadline: Instant) -> anyhow::Result<Vec<u8>> {
    let mut failed = None;
    for address in target.authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return exchange(stream, target, deadline),
            Err(error) => failed = Some((address, error)),
        }
    }
    match failed {
        Some((address, error)) => Err(error).with_context(|| format!("no connection to {address}")),
        None => bail!("the host has no address"),
    }
}

fn exchange(mut stream: TcpStream, target: &Target, deadline: Instant) -> anyhow::Result<Vec<u8>> {
    let Target { authority, path } = target;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while (answer.len() as u64) < ANSWER_MOST {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => bail!("no answer in time"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answer)
}

/// What is left of the time, which is more than nothing.
fn left(deadline: Instant) -> anyhow::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => bail!("no answer in time"),
    }
}

/// Status and body of an answer that is as long as its connection.
///
/// # Errors
/// It is not HTTP.
pub(crate) fn read(answer: &[u8]) -> anyhow::Result<(u16, &str)> {
    let text = std::str::from_utf8(answer).context("the answer is not text")?;
    let (head, body) = text.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| status.parse().ok());
    Ok((status.context("the answer is not HTTP")?, body))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn target(url: &str) -> Target {
        parse_target(url).unwrap()
    }

    /// Asks someone who answers with these bytes, and then says no more.
    fn asked(answer: &'static str) -> anyhow::Result<ExitCode> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = target(&format!("http://{}", listener.local_addr().unwrap()));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let timeout = Duration::from_secs(30);
        let told = run(&ReadyArgs { url, timeout });
        server.join().unwrap();
        told
    }

    #[test]
    fn a_url_is_a_host_and_a_port_and_perhaps_a_path() {
        assert_eq!(target("http://a:9090").path, "/readyz");
        assert_eq!(target("http://a:9090/").path, "/readyz");
        assert_eq!(target("http://[::1]:9090/livez").authority, "[::1]:9090");
        for wrong in [
            "a:9090",
            "https://a:9090",
            "http://a",
            "http://:9090",
            "http://a:b",
            "http://u@a:9090",
            "http://a:9090/x y",
        ] {
            assert!(parse_target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_status_of_the_answer_is_the_status_of_the_tool() {
        let ready = asked("HTTP/1.1 200 OK\r\n\r\n{}").unwrap();
        assert_eq!(format!("{ready:?}"), format!("{:?}", ExitCode::SUCCESS));
        let not = asked("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"ready\":false,\"checks\":{\"broker\":\"away\"}}");
        assert_eq!(format!("{:?}", not.unwrap()), format!("{:?}", ExitCode::FAILURE));
        for wrong in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 \r\n\r\n"] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn whoever_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = target(&format!("http://{}", listener.local_addr().unwrap()));
        let timeout = Duration::from_millis(50);
        let error = run(&ReadyArgs { url, timeout }).unwrap_err();
        assert!(format!("{error:#}").ends_with("no answer in time"), "{error:#}");
    }
}
