//! Photos named on the command line: files, folders, patterns, lists.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use glob::{MatchOptions, glob_with};

use crate::data::photos_below;
use crate::error::usage;

/// As in a shell: a star matches neither hidden files nor the `/` between folders.
const AS_IN_A_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The photos that arguments name, each once, in the order of the arguments: a file is itself; a folder is everything below
/// it that looks like a photo, sorted; a pattern such as `garden/*.jpg` or `**/*.png`, for shells that leave it alone, is what it
/// matches, sorted. What exists under a name with stars in it is no pattern.
///
/// # Errors
/// A usage error for an argument that names nothing; any other if a folder cannot be listed.
pub fn find(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut photos = Photos::default();
    arguments.iter().try_for_each(|argument| photos.argument(argument))?;
    Ok(photos.paths)
}

/// As [`find`], with `-` for a list of files and folders, one a line. A name in the list that does not exist is kept, for
/// whoever reads the photos to report: the others should not wait for it.
///
/// # Errors
/// As [`find`]; if the list names nothing, cannot be read, or is asked for twice.
pub fn find_with_list(arguments: &[PathBuf], list: &mut dyn BufRead) -> Result<Vec<PathBuf>> {
    let mut photos = Photos::default();
    let is_list = |argument: &&PathBuf| argument.as_os_str() == "-";
    if arguments.iter().filter(is_list).count() > 1 {
        return Err(usage("- stands for the paths on stdin, which can be read only once"));
    }
    for argument in arguments {
        if is_list(&argument) { photos.list(list)? } else { photos.argument(argument)? }
    }
    Ok(photos.paths)
}

#[derive(Default)]
struct Photos {
    paths: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
}

impl Photos {
    fn push(&mut self, path: PathBuf) {
        if self.seen.insert(path.clone()) {
            self.paths.push(path);
        }
    }

    fn folder(&mut self, folder: &Path) -> Result<usize> {
        let photos = photos_below(folder)?;
        let count = photos.len();
        photos.into_iter().for_each(|path| self.push(path));
        Ok(count)
    }

    fn argument(&mut self, argument: &Path) -> Result<()> {
        if argument.is_dir() {
            if self.folder(argument)? == 0 {
                return Err(usage(format!("there are no photos in {}", argument.display())));
            }
            return Ok(());
        }
        match argument.to_str() {
            Some(pattern) if !argument.exists() && pattern.contains(['*', '?', '[']) => self.pattern(pattern),
            _ if argument.exists() => {
                self.push(argument.to_owned());
                Ok(())
            }
            _ => Err(usage(format!("{}: there is no such file or folder", argument.display()))),
        }
    }

    fn pattern(&mut self, pattern: &str) -> Result<()> {
        let matches = glob_with(pattern, AS_IN_A_SHELL)
            .map_err(|e| usage(format!("{pattern}: there is no such file, and it is no pattern either: {e}")))?;
        let mut count = 0;
        for path in matches {
            let path = path.with_context(|| format!("cannot look for {pattern}"))?;
            if path.is_dir() {
                count += self.folder(&path)?;
            } else {
                self.push(path);
                count += 1;
            }
        }
        if count == 0 {
            return Err(usage(format!("no photo matches {pattern}")));
        }
        Ok(())
    }

    fn list(&mut self, list: &mut dyn BufRead) -> Result<()> {
        let mut count = 0;
        for line in list.split(b'\n') {
            let line = line.context("cannot read the paths on stdin")?;
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                continue;
            }
            let path = path(line);
            count += 1;
            if path.is_dir() {
                self.folder(&path)?;
            } else {
                self.push(path);
            }
        }
        if count == 0 {
            return Err(usage("there are no paths on stdin; - expects one a line"));
        }
        Ok(())
    }
}

/// A path of any bytes, where the system has such.
fn path(bytes: &[u8]) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
    }
    #[cfg(not(unix))]
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}
