//! Runs of sweeps: which sweep a run belongs to, and which run is the one that a sweep asks for.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::{RunInfo, Status, file, list};
use crate::recipe;

/// A line of `sweeps.jsonl`: a sweep that the run is part of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    /// Name of the sweep.
    pub sweep: String,
    /// Name of its point.
    pub point: String,
    pub seed: u64,
    /// What changes the recipe for it, as `--set` takes it.
    pub set: Vec<String>,
}

/// The sweeps that a run is part of, each with the latest point that it was; lines that cannot be read are left out.
pub fn read_memberships(folder: &Path) -> Vec<Membership> {
    let text = fs::read_to_string(folder.join(file::SWEEPS)).unwrap_or_default();
    let mut memberships: Vec<Membership> = Vec::new();
    for membership in text.lines().filter_map(|line| serde_json::from_str::<Membership>(line).ok()) {
        memberships.retain(|known| known.sweep != membership.sweep);
        memberships.push(membership);
    }
    memberships
}

/// Makes a run part of a sweep, if it is not yet.
///
/// # Errors
/// If that cannot be written.
pub fn join(folder: &Path, membership: &Membership) -> Result<()> {
    if read_memberships(folder).contains(membership) {
        return Ok(());
    }
    let path = folder.join(file::SWEEPS);
    let append = || -> Result<()> {
        let mut out = OpenOptions::new().create(true).append(true).open(&path)?;
        // The first byte ends a line that was cut short.
        let torn = fs::read(&path)?.last().is_some_and(|byte| *byte != b'\n');
        let end = if torn { "\n" } else { "" };
        out.write_all(format!("{end}{}\n", serde_json::to_string(membership)?).as_bytes())?;
        Ok(out.sync_data()?)
    };
    append().with_context(|| format!("cannot append to {}", path.display()))
}

/// Finds runs by what they are: by [`recipe::Recipe::identity`].
#[derive(Debug, Default)]
pub struct Index {
    /// Recipes never change, so each is read once.
    identities: HashMap<PathBuf, String>,
    /// Of each identity, newest first.
    runs: HashMap<String, Vec<RunInfo>>,
}

impl Index {
    /// Looks into the folder of runs.
    ///
    /// # Errors
    /// If it exists but cannot be read.
    pub fn read(&mut self, runs: &Path) -> Result<()> {
        self.runs.clear();
        // One that goes on with another run has trained otherwise than its recipe says by itself.
        for run in list(runs)?.into_iter().filter(|run| run.parent.is_none()) {
            let identity = match self.identities.get(&run.folder) {
                Some(identity) => identity.clone(),
                None => {
                    // What cannot be read, or not yet, is no run that anybody asked for.
                    let Some(identity) = identity(&run.folder) else { continue };
                    self.identities.insert(run.folder.clone(), identity.clone());
                    identity
                }
            };
            self.runs.entry(identity).or_default().push(run);
        }
        Ok(())
    }

    /// The run that decides what became of a recipe: one that has finished, else one that is going on, else the newest that can be
    /// resumed, else the newest.
    pub fn run(&self, identity: &str) -> Option<&RunInfo> {
        let rank = |run: &&RunInfo| match run.status {
            Status::Finished => 0,
            Status::Running => 1,
            Status::Interrupted => 2,
            Status::Failed => 3,
            Status::Damaged => 4,
        };
        // The first of equal ones is the newest.
        self.runs.get(identity)?.iter().min_by_key(rank)
    }
}

/// Folder beside the runs for what sweeps need. It is no run.
pub const FOLDER: &str = ".sweeps";

/// Who is at which run, for the sweeps in a folder of runs.
pub fn claims(runs: &Path) -> Claims {
    Claims::new(&runs.join(FOLDER).join("claims"))
}

/// What the claim of a run is called whose recipe has this identity.
pub fn claim_key(identity: &str) -> &str {
    identity.get(..32).unwrap_or(identity)
}

/// Whether the sweep of another process is at the run that a folder is of. Where two folders are of one recipe, the claim is of the one that has not ended.
pub(super) fn is_claimed(folder: &Path) -> bool {
    let Some(runs) = folder.parent() else { return false };
    let owner = identity(folder).map(|identity| claims(runs).owner(claim_key(&identity)));
    matches!(owner, Some(Ok(Some(owner))) if !owner.is_this_process()) && !folder.join(file::RESULT).exists()
}

fn identity(folder: &Path) -> Option<String> {
    let path = folder.join(file::RECIPE);
    recipe::load(path.to_str()?, &[]).ok()?.identity().ok()
}

#[cfg(test)]
mod tests {
    use super::super::claims::Taken;
    use super::*;

    #[test]
    fn without_locks_a_claim_tells_that_a_run_goes_on() {
        let runs = tempfile::TempDir::new().unwrap();
        let folder = runs.path().join("20250131-235959-cnn-basic-1a2b");
        fs::create_dir(&folder).unwrap();
        let recipe = recipe::load("cnn-basic", &[]).unwrap();
        fs::write(folder.join(file::RECIPE), recipe.to_toml().unwrap()).unwrap();
        assert!(!is_claimed(&folder));
        let taken = claims(runs.path()).take(claim_key(&recipe.identity().unwrap())).unwrap();
        let Taken::Mine(claim) = taken else { panic!("it is free") };
        assert!(!is_claimed(&folder), "its own claim keeps no process from anything");
        drop(claim);
        let claim =
            runs.path().join(FOLDER).join("claims").join(format!("{}.1", claim_key(&recipe.identity().unwrap())));
        fs::write(claim, r#"{"host":"node17","pid":1,"since":"","machine":"another","process_start":5,"nonce":1}"#)
            .unwrap();
        assert!(is_claimed(&folder));
        fs::write(folder.join(file::RESULT), "{}").unwrap();
        assert!(!is_claimed(&folder), "it has ended");
    }
}
