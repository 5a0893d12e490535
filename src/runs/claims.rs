//! Claims: which process is at which piece of work, among any number of processes and machines that share a folder.
//!
//! A claim is a file `KEY.GENERATION` that says who holds it. It is made by a hard link, which exactly one process succeeds in, also on
//! network file systems, and is not a lock of the system: those a network file system may not have. Its owner writes to it now and then;
//! what has not been written to for [`LEASE`] belongs to nobody any more, and so does what a process of this machine holds that is not
//! there any more. Whoever takes over makes the next generation, so that an owner who was only held up sees that the work is no longer
//! theirs. Nothing is ever renamed or removed that another process may rely on.
//!
//! Age is the difference of two times of the file system, that of the claim and that of a file made just now, so that clocks of machines
//! may differ.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::environment::host_name;

/// A claim that was not written to for so long is nobody's.
pub const LEASE: Duration = Duration::from_secs(120);

/// Owners write to their claims this often.
const REFRESH: Duration = Duration::from_secs(15);

/// A folder of claims.
#[derive(Clone, Debug)]
pub struct Claims {
    folder: PathBuf,
    owner: Owner,
}

/// Who holds a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the machine.
    pub host: String,
    pub pid: u32,
    /// UTC, RFC 3339.
    pub since: String,
    /// The machine since it was started, and the name space of its process ids: only within one can a process be looked up.
    machine: Option<String>,
    /// When the process was started, in ticks of its machine: process ids are used again.
    process_start: Option<u64>,
    /// Tells apart what one process makes.
    nonce: u64,
}

/// What became of asking for a claim.
#[derive(Debug)]
pub enum Taken {
    Mine(Claim),
    /// Somebody has it.
    Held(Owner),
}

/// A claim that this process holds.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    key: String,
    generation: u64,
    path: PathBuf,
    refreshed: Instant,
}

impl Claims {
    /// Claims in this folder, which is made when needed.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), owner: Owner::this_process() }
    }

    /// Asks for a claim. `key` is made of letters and digits.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub fn take(&self, key: &str) -> Result<Taken> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        for _ in 0..100 {
            let held = self.generations(key)?;
            if let Some(owner) = self.holder(&held)? {
                return Ok(Taken::Held(owner));
            }
            let generation = held.last().map_or(1, |(generation, _)| generation + 1);
            // Another process may be quicker.
            let Some(path) = self.create(key, generation)? else { continue };
            let claim =
                Claim { claims: self.clone(), key: key.to_owned(), generation, path, refreshed: Instant::now() };
            // Somebody may have come and gone, and somebody else have come, since the folder was read.
            let before: Vec<_> = self.generations(key)?.into_iter().filter(|(g, _)| *g < generation).collect();
            if let Some(owner) = self.holder(&before)? {
                let _ = fs::remove_file(&claim.path);
                return Ok(Taken::Held(owner));
            }
            return Ok(Taken::Mine(claim));
        }
        bail!("the claim {key} in {} changes hands without end", self.folder.display())
    }

    /// Who holds a claim now.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub fn owner(&self, key: &str) -> Result<Option<Owner>> {
        if self.folder.is_dir() { self.holder(&self.generations(key)?) } else { Ok(None) }
    }

    /// The files of a claim, newest last.
    fn generations(&self, key: &str) -> Result<Vec<(u64, PathBuf)>> {
        let cannot = || format!("cannot read {}", self.folder.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let generation = name.strip_prefix(key).and_then(|rest| rest.strip_prefix('.')).map(str::parse);
            if let Some(Ok(generation)) = generation {
                found.push((generation, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The owner of the newest of these, if they live.
    fn holder(&self, generations: &[(u64, PathBuf)]) -> Result<Option<Owner>> {
        let Some((_, path)) = generations.last() else { return Ok(None) };
        let cannot = || format!("cannot read the claim {}", path.display());
        // Opening asks the server of a network file system, looking at the name alone may not.
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(cannot),
        };
        let mut text = String::new();
        // What says nothing is nobody's once it is old.
        let owner = match file.read_to_string(&mut text) {
            Ok(_) => serde_json::from_str(&text).unwrap_or_else(|_| Owner::unknown()),
            Err(_) => Owner::unknown(),
        };
        if let Some(lives) = self.owner.sees(&owner) {
            return Ok(lives.then_some(owner));
        }
        let written = file.metadata().and_then(|metadata| metadata.modified()).with_context(cannot)?;
        let expired = self.now()?.duration_since(written).is_ok_and(|age| age > LEASE);
        Ok((!expired).then_some(owner))
    }

    /// The time of the file system.
    fn now(&self) -> Result<SystemTime> {
        let probe = self.temporary()?;
        probe.as_file().metadata().and_then(|metadata| metadata.modified()).context("cannot tell the time")
    }

    fn temporary(&self) -> Result<tempfile::NamedTempFile> {
        let mut file = tempfile::Builder::new()
            .prefix(".ft-")
            .suffix(".partial")
            .tempfile_in(&self.folder)
            .with_context(|| format!("cannot write in {}", self.folder.display()))?;
        let text = serde_json::to_string(&self.owner)? + "\n";
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).context("cannot write a claim")?;
        Ok(file)
    }

    /// Makes the file of a generation with its content, unless it is there.
    fn create(&self, key: &str, generation: u64) -> Result<Option<PathBuf>> {
        let path = self.folder.join(format!("{key}.{generation}"));
        let temporary = self.temporary()?;
        match fs::hard_link(temporary.path(), &path) {
            Ok(()) => Ok(Some(path)),
            // The answer of a server may be lost; the second attempt then fails although the first did not.
            Err(_) if names(temporary.path()) == 2 => Ok(Some(path)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(None),
            // A file system without hard links.
            Err(_) => match File::create_new(&path) {
                Ok(mut file) => {
                    let text = serde_json::to_string(&self.owner)? + "\n";
                    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
                    Ok(Some(path))
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(None),
                Err(e) => Err(e).with_context(|| format!("cannot write {}", path.display())),
            },
        }
    }
}

/// How many names a file has.
fn names(path: &Path) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map_or(1, |metadata| metadata.nlink())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        1
    }
}

impl Claim {
    /// Writes to the claim, if it is time. False if it is somebody else's now.
    ///
    /// # Errors
    /// If the folder cannot be read, or the claim not written.
    pub fn refresh(&mut self) -> Result<bool> {
        if self.refreshed.elapsed() < REFRESH {
            return Ok(true);
        }
        if self.claims.generations(&self.key)?.last() != Some(&(self.generation, self.path.clone())) {
            return Ok(false);
        }
        // A write, rather than setting the time, since only then it is the server's clock that counts.
        let written = OpenOptions::new().append(true).open(&self.path).and_then(|mut file| {
            file.write_all(b"\n")?;
            file.sync_all()
        });
        written.with_context(|| format!("cannot write to the claim {}", self.path.display()))?;
        self.refreshed = Instant::now();
        Ok(true)
    }
}

impl Drop for Claim {
    /// Gives the claim back, and clears away what dead owners before have left. Files that stay are nobody's soon.
    fn drop(&mut self) {
        let older = self.claims.generations(&self.key).unwrap_or_default();
        for (_, path) in older.iter().filter(|(generation, _)| *generation < self.generation) {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_file(&self.path);
    }
}

impl Owner {
    fn this_process() -> Self {
        let pid = std::process::id();
        Self {
            host: host_name().unwrap_or_else(|| "this machine".to_owned()),
            pid,
            since: jiff::Timestamp::now().to_string(),
            machine: machine(),
            process_start: process_start(pid),
            nonce: RandomState::new().hash_one(pid),
        }
    }

    /// Whether it is this process, whatever it asked with.
    pub fn is_this_process(&self) -> bool {
        let own = Self::this_process();
        (&own.host, own.pid, &own.machine, own.process_start)
            == (&self.host, self.pid, &self.machine, self.process_start)
    }

    fn unknown() -> Self {
        Self { host: "unknown".to_owned(), pid: 0, since: String::new(), machine: None, process_start: None, nonce: 0 }
    }

    /// Whether another owner lives, as far as this process can look it up.
    fn sees(&self, other: &Self) -> Option<bool> {
        let same_machine = self.machine.is_some() && self.machine == other.machine;
        (same_machine && other.process_start.is_some()).then(|| process_start(other.pid) == other.process_start)
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {} since {}", self.pid, self.host, self.since)
    }
}

/// Linux only; elsewhere processes of the same machine are told by their lease too.
fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let processes = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), processes.display()))
}

/// When a process was started, in ticks since the machine was; `None` if there is no such process. One that has ended and that nobody
/// has asked about yet (a zombie) is none.
fn process_start(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the state follows it, and the time is the 20th word from there.
    let mut words = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = words.next()?;
    (state != "Z" && state != "X").then(|| words.nth(18)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn another_machine() -> Owner {
        Owner { machine: Some("another".to_owned()), host: "elsewhere".to_owned(), ..Owner::this_process() }
    }

    fn aged(path: &Path, age: Duration) {
        OpenOptions::new().append(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn a_claim_has_one_owner_and_is_free_when_it_is_given_back() {
        let folder = tempfile::TempDir::new().unwrap();
        let claims = Claims::new(&folder.path().join("claims"));
        assert!(claims.owner("a").unwrap().is_none());
        let Taken::Mine(claim) = claims.take("a").unwrap() else { panic!("it is free") };
        let Taken::Held(owner) = Claims::new(&folder.path().join("claims")).take("a").unwrap() else { panic!("held") };
        assert_eq!((owner.pid, &owner), (std::process::id(), &claims.owner));
        assert!(matches!(claims.take("ab").unwrap(), Taken::Mine(_)), "another key that begins alike");
        drop(claim);
        assert!(matches!(claims.take("a").unwrap(), Taken::Mine(_)));
        assert_eq!(fs::read_dir(folder.path().join("claims")).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn many_at_once_have_one_owner() {
        let folder = tempfile::TempDir::new().unwrap();
        for round in 0..20 {
            let key = format!("k{round}");
            // A dead owner to take over from, in half of the rounds.
            if round % 2 == 0 {
                let claims = Claims { owner: another_machine(), ..Claims::new(folder.path()) };
                let path = claims.create(&key, 1).unwrap().unwrap();
                aged(&path, LEASE * 2);
            }
            let barrier = std::sync::Barrier::new(8);
            let taken: Vec<Taken> = std::thread::scope(|scope| {
                let ask = || {
                    let claims = Claims::new(folder.path());
                    barrier.wait();
                    claims.take(&key).unwrap()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(taken.iter().filter(|taken| matches!(taken, Taken::Mine(_))).count(), 1, "round {round}");
        }
    }

    #[test]
    fn the_claim_of_a_process_that_is_gone_is_free_at_once() {
        let folder = tempfile::TempDir::new().unwrap();
        let claims = Claims::new(folder.path());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead =
            Owner { pid: child.id(), process_start: process_start(child.id()).or(Some(1)), ..claims.owner.clone() };
        child.wait().unwrap();
        if claims.owner.machine.is_none() {
            return; // no Linux: only the lease tells
        }
        Claims { owner: dead, ..claims.clone() }.create("a", 1).unwrap().unwrap();
        assert!(matches!(claims.take("a").unwrap(), Taken::Mine(_)));
    }

    #[test]
    fn the_claim_of_another_machine_lasts_as_long_as_it_is_written_to() {
        let folder = tempfile::TempDir::new().unwrap();
        let claims = Claims::new(folder.path());
        let elsewhere = Claims { owner: another_machine(), ..claims.clone() };
        let Taken::Mine(mut theirs) = elsewhere.take("a").unwrap() else { panic!("it is free") };
        assert!(matches!(claims.take("a").unwrap(), Taken::Held(owner) if owner.host == "elsewhere"));
        aged(&theirs.path, LEASE * 2);
        theirs.refreshed = Instant::now().checked_sub(REFRESH * 2).unwrap();
        assert!(theirs.refresh().unwrap());
        assert!(matches!(claims.take("a").unwrap(), Taken::Held(_)), "it was written to");
        aged(&theirs.path, LEASE * 2);
        let Taken::Mine(mine) = claims.take("a").unwrap() else { panic!("it has expired") };
        theirs.refreshed = Instant::now().checked_sub(REFRESH * 2).unwrap();
        assert!(!theirs.refresh().unwrap(), "who comes back sees that it is lost");
        drop(theirs);
        assert_eq!(claims.owner("a").unwrap(), Some(claims.owner.clone()), "and takes nothing from the new owner");
        drop(mine);
        assert!(claims.owner("a").unwrap().is_none());
    }

    #[test]
    fn a_claim_that_says_nothing_expires_too() {
        let folder = tempfile::TempDir::new().unwrap();
        let claims = Claims::new(folder.path());
        let path = folder.path().join("a.7");
        fs::write(&path, "").unwrap();
        assert!(matches!(claims.take("a").unwrap(), Taken::Held(_)));
        aged(&path, LEASE * 2);
        assert!(matches!(claims.take("a").unwrap(), Taken::Mine(claim) if claim.generation == 8));
    }
}
