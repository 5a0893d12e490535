//! Downloads survive cuts, are verified, land atomically and may run twice at once; sources are resolved. No network:
//! all against a server in the test.

mod sources;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ft::download::{Hash, Patience, Progress, Quiet, Request, fetch};
use ft::error::UsageError;
use ft::files::sha256;
use ft::hub::Hub;
use ft::weights::{Manifest, Resolved, Resolver};
use support::{Reply, Server};

/// A body longer than any buffer on the way.
fn body() -> Vec<u8> {
    (0..300_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

const FAST: Patience = Patience {
    attempts: 3,
    first_pause: Duration::from_millis(1),
    connect: Duration::from_secs(5),
    silence: Duration::from_secs(5),
};

fn request<'a>(urls: &'a [String], destination: &'a Path, content: Option<&[u8]>) -> Request<'a> {
    let hash = content.map(|c| Hash::Sha256(sha256(c)));
    Request { hash, patience: FAST, ..Request::new(urls, destination) }
}

/// The names in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Fails unless `file` is all that lies in its folder, with the right content.
#[track_caller]
fn assert_landed(file: &Path, content: &[u8]) {
    assert!(fs::read(file).expect("the file") == content, "content");
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(names(file.parent().expect("a folder")), BTreeSet::from([name]));
}

/// Remembers how far each try began.
#[derive(Default)]
struct Starts(Mutex<Vec<u64>>);

impl Progress for Starts {
    fn start(&self, _: &str, done: u64, _: Option<u64>) {
        self.0.lock().expect("starts").push(done);
    }
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn note(&self, _: &str) {}
}

#[test]
fn a_file_is_fetched_verified_and_left_alone_the_second_time() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("deep/weights.bin");
    let server = Server::start({
        let body = body.clone();
        move |asked, _| Reply::of(&body, asked)
    });
    let urls = [server.url("/weights.bin")];
    for _ in 0..2 {
        fetch(&request(&urls, &file, Some(&body)), &Quiet).expect("fetched");
        assert_landed(&file, &body);
    }
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_cut_connection_goes_on_where_it_stopped() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let server = Server::start({
        let body = body.clone();
        // More cuts than tries without progress are allowed: each brings new bytes.
        move |asked, earlier| {
            let reply = Reply::of(&body, asked).header("ETag", "\"v1\"");
            if earlier < 5 { reply.cut_after(200_000) } else { reply }
        }
    });
    let (urls, starts) = ([server.url("/weights.bin")], Starts::default());
    fetch(&request(&urls, &file, None), &starts).expect("fetched");
    assert_landed(&file, &body);
    assert_eq!(*starts.0.lock().expect("starts"), [0, 200_000, 400_000, 600_000, 800_000, 1_000_000]);
    for asked in &server.asked()[1..] {
        assert_eq!(asked.header("if-range"), Some("\"v1\""));
    }
}

#[test]
fn a_later_run_goes_on_with_what_an_earlier_one_left() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let server = Server::start({
        let body = body.clone();
        move |asked, earlier| match earlier {
            0 => Reply::of(&body, asked).cut_after(500_000),
            1..=3 => Reply::status(503),
            _ => Reply::of(&body, asked),
        }
    });
    let urls = [server.url("/weights.bin")];
    let error = format!("{:#}", fetch(&request(&urls, &file, Some(&body)), &Quiet).expect_err("broken"));
    assert!(error.contains("500000 bytes) is kept") && error.contains("503"), "{error}");
    assert!(!file.exists());
    let starts = Starts::default();
    fetch(&request(&urls, &file, Some(&body)), &starts).expect("fetched");
    assert_landed(&file, &body);
    assert_eq!(*starts.0.lock().expect("starts"), [500_000]);
}

#[test]
fn a_server_without_ranges_starts_over() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let server = Server::start({
        let body = body.clone();
        move |_, earlier| {
            let reply = Reply::whole(&body);
            if earlier == 0 { reply.cut_after(700_000) } else { reply }
        }
    });
    let (urls, starts) = ([server.url("/weights.bin")], Starts::default());
    fetch(&request(&urls, &file, Some(&body)), &starts).expect("fetched");
    assert_landed(&file, &body);
    assert_eq!(server.asked()[1].range(), Some(700_000));
    assert_eq!(*starts.0.lock().expect("starts"), [0, 0]);
}

#[test]
fn a_server_that_always_cuts_at_one_point_is_given_up() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let server = Server::start(move |_, _| Reply::whole(&body).cut_after(100_000));
    let urls = [server.url("/weights.bin")];
    let error = format!("{:#}", fetch(&request(&urls, &file, None), &Quiet).expect_err("given up"));
    assert!(error.contains("gave up") && error.contains("cut"), "{error}");
    assert_eq!(server.asked().len(), FAST.attempts as usize);
}

#[test]
fn a_file_that_changed_between_two_tries_is_not_mixed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.bin");
    let (old, new) = (vec![1u8; 400_000], vec![2u8; 500_000]);
    let server = Server::start({
        let new = new.clone();
        move |asked, earlier| match earlier {
            0 => Reply::of(&old, asked).header("ETag", "\"old\"").cut_after(100_000),
            // RFC 9110: a range is only for the version that If-Range names.
            _ if asked.header("if-range") == Some("\"new\"") => Reply::of(&new, asked).header("ETag", "\"new\""),
            _ => Reply::whole(&new).header("ETag", "\"new\""),
        }
    });
    let urls = [server.url("/weights.bin")];
    fetch(&request(&urls, &file, None), &Quiet).expect("fetched");
    assert_landed(&file, &new);
}

#[test]
fn without_etag_and_hash_a_cut_download_starts_over() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let server = Server::start({
        let body = body.clone();
        move |asked, earlier| {
            let reply = Reply::of(&body, asked).header("ETag", "W/\"weak\"");
            if earlier == 0 { reply.cut_after(100_000) } else { reply }
        }
    });
    let urls = [server.url("/weights.bin")];
    fetch(&request(&urls, &file, None), &Quiet).expect("fetched");
    assert_landed(&file, &body);
    assert_eq!(server.asked()[1].range(), None);
}

#[test]
fn a_complete_partial_file_is_verified_and_landed() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let server = Server::start({
        let body = body.clone();
        move |asked, _| Reply::of(&body, asked)
    });
    let urls = [server.url("/weights.bin")];
    // As a process leaves it that is killed between the last byte and the new name.
    fs::write(folder.path().join("weights.bin.partial"), &body).expect("written");
    fs::write(folder.path().join("weights.bin.partial.from"), format!("{{\"url\":\"{}\",\"etag\":null}}", urls[0]))
        .expect("written");
    fetch(&request(&urls, &file, Some(&body)), &Quiet).expect("fetched");
    assert_landed(&file, &body);
    assert_eq!(server.asked()[0].range(), Some(body.len()));
}

#[test]
fn a_wrong_hash_names_both_and_leaves_nothing() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let served = b"something else".to_vec();
    let server = Server::start({
        let served = served.clone();
        move |asked, _| Reply::of(&served, asked)
    });
    let urls = [server.url("/weights.bin")];
    let error = format!("{:#}", fetch(&request(&urls, &file, Some(&body)), &Quiet).expect_err("wrong hash"));
    for part in [sha256(&served), sha256(&body), urls[0].clone(), "run the command again".into()] {
        assert!(error.contains(&part), "{part} is not in: {error}");
    }
    assert!(!names(folder.path()).iter().any(|n| n == "weights.bin" || n.contains(".partial")));
}

#[test]
fn leftovers_of_another_version_cost_one_more_try_only() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let server = Server::start({
        let body = body.clone();
        move |asked, _| Reply::of(&body, asked)
    });
    let urls = [server.url("/weights.bin")];
    fs::write(folder.path().join("weights.bin.partial"), [7u8; 1000]).expect("written");
    fs::write(folder.path().join("weights.bin.partial.from"), "{\"url\":\"http://elsewhere/\",\"etag\":null}")
        .expect("written");
    fetch(&request(&urls, &file, Some(&body)), &Quiet).expect("fetched");
    assert_landed(&file, &body);
    assert_eq!(server.asked().iter().map(support::Asked::range).collect::<Vec<_>>(), [Some(1000), None]);
}

#[test]
fn md5_sums_are_verified_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.bin");
    let server = Server::start(|asked, _| Reply::of(b"abc", asked));
    let urls = [server.url("/weights.bin")];
    let good = Hash::parse("md5:900150983cd24fb0d6963f7d28e17f72").expect("a hash");
    let bad = Hash::parse("md5:000150983cd24fb0d6963f7d28e17f72").expect("a hash");
    let with = |hash| Request { hash: Some(hash), ..request(&urls, &file, None) };
    assert!(fetch(&with(bad.clone()), &Quiet).is_err());
    fetch(&with(good), &Quiet).expect("fetched");
    // A finished file with other content than expected is never overwritten.
    let error = format!("{:#}", fetch(&with(bad), &Quiet).expect_err("wrong hash"));
    assert!(error.contains("delete or move it"), "{error}");
    assert_landed(&file, b"abc");
}

#[test]
fn statuses_have_clear_messages_and_only_passing_ones_are_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.bin");
    for (status, said, tries) in [
        (404, "no such file", 1),
        (403, "access is denied", 1),
        (401, "HF_TOKEN", 1),
        (418, "418", 1),
        (500, "busy or broken", 3),
    ] {
        let server = Server::start(move |_, _| Reply::status(status));
        let urls = [server.url("/weights.bin")];
        let error = format!("{:#}", fetch(&request(&urls, &file, None), &Quiet).expect_err("refused"));
        assert!(error.contains(said) && error.contains(&urls[0]), "{status}: {error}");
        assert_eq!(server.asked().len(), tries, "{status}");
    }
}

#[test]
fn redirects_are_followed_and_loops_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.bin");
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/loop" => Reply::status(302).header("Location", "/loop"),
        "/old" => Reply::status(301).header("Location", "/new"),
        "/new" => Reply::of(b"content", asked),
        _ => Reply::status(404),
    });
    let looping = [server.url("/loop")];
    let error = format!("{:#}", fetch(&request(&looping, &file, None), &Quiet).expect_err("a loop"));
    assert!(error.contains("redirects without end"), "{error}");
    let old = [server.url("/old")];
    fetch(&request(&old, &file, None), &Quiet).expect("fetched");
    assert_landed(&file, b"content");
}

#[test]
fn a_mirror_helps_where_the_source_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.bin");
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/source" => Reply::of(b"damaged", asked),
        "/mirror" => Reply::of(b"content", asked),
        _ => Reply::status(404),
    });
    let urls = [server.url("/gone"), server.url("/source"), server.url("/mirror")];
    fetch(&request(&urls, &file, Some(b"content")), &Quiet).expect("fetched");
    assert_landed(&file, b"content");

    let error = fetch(&request(&urls[..2], &folder.path().join("other"), Some(b"content")), &Quiet);
    let error = format!("{:#}", error.expect_err("no good source"));
    assert!(error.contains("/gone") && error.contains("/source"), "{error}");
}

#[test]
fn a_silent_server_is_a_timeout() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.bin");
    let server = Server::start(|_, _| {
        thread::sleep(Duration::from_millis(600));
        Reply::whole(b"late")
    });
    let urls = [server.url("/weights.bin")];
    let patience = Patience { silence: Duration::from_millis(100), attempts: 2, ..FAST };
    let error = fetch(&Request { patience, ..request(&urls, &file, None) }, &Quiet).expect_err("late");
    assert!(format!("{error:#}").contains("no answer in time"), "{error:#}");
}

#[test]
fn a_refused_connection_says_which_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = Server::start(|_, _| Reply::status(200)).url("/weights.bin"); // closed again at once
    let error =
        fetch(&request(std::slice::from_ref(&url), &folder.path().join("x"), None), &Quiet).expect_err("refused");
    assert!(format!("{error:#}").contains(&url), "{error:#}");
}

#[test]
fn a_file_of_another_size_than_expected_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.bin");
    let server = Server::start(|asked, _| Reply::of(b"content", asked));
    let urls = [server.url("/weights.bin")];
    let error = fetch(&Request { size: Some(8), ..request(&urls, &file, None) }, &Quiet).expect_err("size");
    assert!(format!("{error:#}").contains("has 7 bytes, expected 8"), "{error:#}");
    assert!(!file.exists());
}

#[test]
fn two_fetchers_at_once_share_one_download() {
    let (folder, body) = (tempfile::tempdir().expect("a folder"), body());
    let file = folder.path().join("weights.bin");
    let server = Server::start({
        let body = body.clone();
        move |asked, _| {
            thread::sleep(Duration::from_millis(100)); // so that the others come while it runs
            Reply::of(&body, asked)
        }
    });
    let urls = [server.url("/weights.bin")];
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetch(&request(&urls, &file, Some(&body)), &Quiet).expect("fetched"));
        }
    });
    assert_landed(&file, &body);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn offline_says_which_file_to_put_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.bin");
    let urls = ["http://127.0.0.1:9/weights.bin".to_owned()];
    let offline = Request { offline: true, ..request(&urls, &file, Some(b"content")) };
    let error = format!("{:#}", fetch(&offline, &Quiet).expect_err("offline"));
    for part in [file.display().to_string(), urls[0].clone(), sha256(b"content"), "put it at that path".into()] {
        assert!(error.contains(&part), "{part} is not in: {error}");
    }
    fs::write(&file, b"content").expect("written");
    fetch(&offline, &Quiet).expect("found");
}
