//! One transfer over HTTP: ranges, retries, and what each answer of a server means.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use ureq::config::{AutoHeaderValue, RedirectAuthHeaders};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use super::{Patience, Progress, Request, beside};

/// Longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a try failed: whether another one may help.
enum Failure {
    Transient { error: anyhow::Error, pause: Option<Duration> },
    Final(anyhow::Error),
}

impl Failure {
    fn transient(error: anyhow::Error) -> Self {
        Self::Transient { error, pause: None }
    }
}

/// Errors of the local disk are final: another try would meet the same disk.
fn on_disk(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |e| Failure::Final(anyhow::Error::new(e).context(format!("cannot write {}", path.display())))
}

/// What a partial file came from, kept beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Origin {
    url: String,
    /// The server's strong validator of this version of the file.
    etag: Option<String>,
}

fn agent(patience: &Patience, redirects: u32) -> Agent {
    Agent::config_builder()
        .user_agent(concat!("ft/", env!("CARGO_PKG_VERSION")))
        // The bytes on the disk must be the file's own, so that ranges and hashes hold.
        .accept_encoding(AutoHeaderValue::Provided(std::sync::Arc::new("identity".to_owned())))
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(redirects > 0)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.silence))
        .timeout_per_read(Some(patience.silence))
        .build()
        .into()
}

/// Removes a partial file and its origin, if they are there.
pub(super) fn forget(partial: &Path) -> Result<()> {
    for path in [partial.to_path_buf(), beside(partial, ".from")] {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot delete {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Downloads `url` into `partial`, going on where an earlier try stopped. Whether bytes of an earlier call were kept.
pub(super) fn download(request: &Request, url: &str, partial: &Path, progress: &dyn Progress) -> Result<bool> {
    let agent = agent(&request.patience, 10);
    let mut resumed = length(partial) > 0;
    let mut furthest = length(partial);
    let mut failures = 0;
    loop {
        let result = attempt(&agent, request, url, partial, progress, &mut resumed);
        let (error, pause) = match result {
            Ok(()) => {
                progress.finish();
                return Ok(resumed);
            }
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Transient { error, pause }) => (error, pause),
        };
        // New bytes mean that the connection works, if badly; a server that always cuts at one point does not count.
        let reached = length(partial);
        failures = if reached > furthest { 1 } else { failures + 1 };
        furthest = furthest.max(reached);
        if failures >= request.patience.attempts {
            return Err(error.context(format!(
                "gave up on {url} after {failures} tries; what has arrived ({reached} bytes) is kept, \
                 run the command again to go on"
            )));
        }
        progress.note(&format!("{error:#}; trying again"));
        sleep(pause.unwrap_or(request.patience.first_pause * 2u32.saturating_pow(failures - 1)).min(LONGEST_PAUSE));
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// The origin of the partial file, if it may be continued from `url`: the same version of the same URL, or any source
/// where the hash will tell.
fn resumable(request: &Request, url: &str, partial: &Path) -> Option<Origin> {
    if length(partial) == 0 {
        return None;
    }
    let text = fs::read_to_string(beside(partial, ".from")).ok()?;
    let origin: Origin = serde_json::from_str(&text).ok()?;
    let same = origin.url == url;
    if same && origin.etag.is_some() {
        return Some(origin);
    }
    request.hash.is_some().then(|| Origin { url: url.to_owned(), etag: None })
}

/// One request and its body.
fn attempt(
    agent: &Agent,
    request: &Request,
    url: &str,
    partial: &Path,
    progress: &dyn Progress,
    resumed: &mut bool,
) -> Result<(), Failure> {
    let origin = resumable(request, url, partial);
    let start = if origin.is_some() { length(partial) } else { 0 };
    let mut get = agent.get(url);
    for (name, value) in &request.headers {
        get = get.header(name, value);
    }
    if start > 0 {
        get = get.header("Range", format!("bytes={start}-"));
        if let Some(etag) = origin.and_then(|o| o.etag) {
            get = get.header("If-Range", etag);
        }
    }
    let mut response = get.call().map_err(|e| explain(url, e))?;
    match response.status() {
        StatusCode::OK => {
            *resumed = false;
            receive(request, url, partial, 0, content_length(&response), &mut response, progress)
        }
        StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
            Some((first, total)) if first == start => {
                receive(request, url, partial, start, total, &mut response, progress)
            }
            _ => Err(restart(partial, url, "the server sent another range than asked for")),
        },
        StatusCode::RANGE_NOT_SATISFIABLE if start > 0 => match unsatisfied_range(response.headers()) {
            Some(total) if total == start => Ok(()),
            _ => Err(restart(partial, url, "the file is shorter than what was kept of it")),
        },
        status => Err(refused(url, status, response.headers())),
    }
}

/// Throws the partial file away and asks for another try.
fn restart(partial: &Path, url: &str, why: &str) -> Failure {
    match forget(partial) {
        Ok(()) => Failure::transient(anyhow!("{url}: {why}")),
        Err(error) => Failure::Final(error),
    }
}

/// Writes the body behind the first `start` bytes of the partial file.
fn receive(
    request: &Request,
    url: &str,
    partial: &Path,
    start: u64,
    total: Option<u64>,
    response: &mut Response<Body>,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    if let (Some(expected), Some(total)) = (request.size, total)
        && expected != total
    {
        return Err(Failure::Final(anyhow!("the file at {url} has {total} bytes, expected {expected}")));
    }
    let total = total.or(request.size);
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(partial)
        .and_then(|mut f| f.set_len(start).and_then(|()| f.seek(SeekFrom::Start(start))).map(|_| f))
        .map_err(on_disk(partial))?;
    remember(url, response.headers(), partial)?;
    let own = request.destination.file_name().unwrap_or_default().to_string_lossy();
    progress.start(request.name.unwrap_or(&own), start, total);
    let received = start + copy(url, response, &mut file, partial, progress)?;
    match total {
        Some(total) if received < total => {
            Err(Failure::transient(anyhow!("the connection to {url} was cut after {received} of {total} bytes")))
        }
        Some(total) if received > total => Err(restart(partial, url, "the server sent more than the whole file")),
        _ => Ok(()),
    }
}

/// Notes where the partial file comes from.
fn remember(url: &str, headers: &HeaderMap, partial: &Path) -> Result<(), Failure> {
    // Weak validators do not promise equal bytes (RFC 9110, section 13.1.5).
    let etag = text(headers, "etag").filter(|e| !e.starts_with("W/")).map(str::to_owned);
    let origin = Origin { url: url.to_owned(), etag };
    let path = beside(partial, ".from");
    serde_json::to_vec(&origin)
        .map_err(io::Error::other)
        .and_then(|bytes| fs::write(&path, bytes))
        .map_err(on_disk(&path))
}

/// Moves the body to the file; the number of bytes.
fn copy(
    url: &str,
    response: &mut Response<Body>,
    file: &mut File,
    partial: &Path,
    progress: &dyn Progress,
) -> Result<u64, Failure> {
    // No limit of ureq's own: the file may be of any size.
    let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0u8; 1 << 16];
    let mut received = 0u64;
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => return Ok(received),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                let error = anyhow::Error::new(e);
                return Err(Failure::transient(error.context(format!("the connection to {url} was cut"))));
            }
        };
        file.write_all(buffer.get(..n).unwrap_or_default()).map_err(on_disk(partial))?;
        received += n as u64;
        progress.advance(n as u64);
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn content_length(response: &Response<Body>) -> Option<u64> {
    text(response.headers(), "content-length").and_then(|v| v.trim().parse().ok())
}

/// First byte and total length of `Content-Range: bytes FIRST-LAST/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = text(headers, "content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    Some((first, total.trim().parse().ok()))
}

/// The length in `Content-Range: bytes */TOTAL`.
fn unsatisfied_range(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-range")?.trim().strip_prefix("bytes */")?.trim().parse().ok()
}

/// What a status means that is not a success.
fn refused(url: &str, status: StatusCode, headers: &HeaderMap) -> Failure {
    let code = status.as_u16();
    let said = text(headers, "x-error-message").map(|m| format!(" ({m})")).unwrap_or_default();
    match code {
        408 | 425 | 429 | 500..=599 => {
            let pause = text(headers, "retry-after").and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
            Failure::Transient { error: anyhow!("{url}: the server is busy or broken, status {status}{said}"), pause }
        }
        404 | 410 => Failure::Final(anyhow!(
            "{url}: there is no such file, status {status}{said}; check the address, or give a local file instead"
        )),
        401 | 403 => Failure::Final(anyhow!(
            "{url}: access is denied, status {status}{said}; for a private or gated repository set HF_TOKEN"
        )),
        _ => Failure::Final(anyhow!("{url}: unexpected answer, status {status}{said}")),
    }
}

/// What an error of the transport means.
fn explain(url: &str, error: ureq::Error) -> Failure {
    match error {
        ureq::Error::HostNotFound => Failure::Final(anyhow!(
            "{url}: the host was not found; check the network, or give a local file and --offline"
        )),
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => Failure::Final(anyhow!(
            "{url}: the server redirects without end; the address is wrong or the server broken"
        )),
        ureq::Error::BadUri(why) => Failure::Final(anyhow!("{url} is no valid address: {why}")),
        ureq::Error::Http(why) => Failure::Final(anyhow!("{url} cannot be asked for: {why}")),
        ureq::Error::Timeout(what) => Failure::transient(anyhow!("{url}: no answer in time ({what})")),
        other => Failure::transient(anyhow::Error::new(other).context(format!("cannot reach {url}"))),
    }
}

/// Status and headers of a page, without its body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
}

impl Answer {
    /// A header's value, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The answer as an error, for a status that is not a success.
    pub fn error(&self, url: &str) -> anyhow::Error {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match refused(url, status, &self.headers) {
            Failure::Final(error) | Failure::Transient { error, .. } => error,
        }
    }
}

/// Asks for the headers of `url` (`HEAD`), without following redirects; busy servers are asked again.
pub fn ask(url: &str, headers: &[(String, String)], patience: &Patience) -> Result<Answer> {
    let agent = agent(patience, 0);
    let mut failures = 0;
    loop {
        let mut head = agent.head(url);
        for (name, value) in headers {
            head = head.header(name, value);
        }
        let failure = match head.call() {
            Ok(response) if matches!(response.status().as_u16(), 408 | 425 | 429 | 500..=599) => {
                refused(url, response.status(), response.headers())
            }
            Ok(response) => {
                return Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone() });
            }
            Err(error) => explain(url, error),
        };
        let (error, pause) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Transient { error, pause } => (error, pause),
        };
        failures += 1;
        if failures >= patience.attempts {
            return Err(error.context(format!("gave up after {failures} tries")));
        }
        sleep(pause.unwrap_or(patience.first_pause * 2u32.saturating_pow(failures - 1)).min(LONGEST_PAUSE));
    }
}
