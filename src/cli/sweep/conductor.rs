//! Runs what is missing. What that is follows from the folder of runs alone: whichever process made a run, and whatever became of that
//! process, a run of the same recipe that has finished is done, and one that was stopped is resumed.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::super::prepare::{open_dataset, warnings};
use super::super::{DeviceChoice, interrupt};
use super::arguments::Args;
use super::child::ChildRun;
use super::counted;
use super::progress::Progress;
use crate::recipe::Recipe;
use crate::recipe::sweep::{Point, Sweep, Trial};
use crate::runs::claims::{Claim, Claims, Owner, Taken};
use crate::runs::sweeps::{self, Index, Membership, claim_key, join};
use crate::runs::{RunInfo, Status};

/// Between two looks at what goes on here.
const TICK: Duration = Duration::from_millis(50);

/// Between two looks at what other processes have done.
const LOOK: Duration = Duration::from_secs(2);

/// A run that the sweep asks for.
#[derive(Clone, Copy)]
pub struct Wanted<'s> {
    pub point: &'s Point,
    pub trial: &'s Trial,
}

impl Wanted<'_> {
    /// `train.lr=0.001 seed=0`.
    pub fn name(&self) -> String {
        format!("{} seed={}", self.point.name, self.trial.seed)
    }
}

/// What is to be done about a run.
enum State {
    Done,
    /// It goes on: another process has it, or one that has just been told to stop.
    Busy,
    /// It was stopped.
    Resumable(PathBuf),
    Failed(String),
    Missing,
}

/// Conducts the runs of a sweep.
pub struct Conductor<'s> {
    sweep: &'s Sweep,
    args: &'s Args,
    runs: PathBuf,
    index: Index,
    claims: Claims,
    going: Vec<Going<'s>>,
    /// Identities of runs of which nothing more is expected of this process.
    settled: HashSet<String>,
    /// Why runs failed, by name.
    failed: Vec<(String, String)>,
    /// What failed before and was tried again here.
    retried: HashSet<String>,
    told: HashMap<String, Owner>,
    /// Photos and batches that have been looked at, and what was said of them.
    looked_at: HashSet<String>,
    warned: HashSet<String>,
    progress: Progress,
}

/// A run that this process has started.
struct Going<'s> {
    wanted: Wanted<'s>,
    child: ChildRun,
    claim: Claim,
    since: Instant,
    /// Somebody else has taken it over.
    lost: bool,
}

impl<'s> Conductor<'s> {
    /// For a sweep in the folder of runs that the arguments name.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub fn new(args: &'s Args, sweep: &'s Sweep) -> Result<Self> {
        let runs = args.runs.runs.clone();
        let claims = sweeps::claims(&runs);
        Ok(Self {
            sweep,
            args,
            runs,
            index: Index::default(),
            claims,
            going: Vec::new(),
            settled: HashSet::new(),
            failed: Vec::new(),
            retried: HashSet::new(),
            told: HashMap::new(),
            looked_at: HashSet::new(),
            warned: HashSet::new(),
            progress: Progress::new(usize::from(args.jobs)),
        })
    }

    /// Runs what is missing of these and returns when all of them have ended, here or elsewhere.
    ///
    /// # Errors
    /// If the user stops it, or the folder of runs cannot be read or written. Runs that fail are no error here, see
    /// [`Self::verdict`].
    pub fn conduct(&mut self, wanted: &[Wanted<'s>]) -> Result<()> {
        let ended = self.conduct_all(wanted);
        if ended.is_err() {
            self.stop_all();
        }
        self.progress.end();
        ended
    }

    fn conduct_all(&mut self, wanted: &[Wanted<'s>]) -> Result<()> {
        self.progress.begin(wanted.len());
        let mut looked: Option<Instant> = None;
        loop {
            if interrupt::requested() {
                return self.stopped(wanted);
            }
            let ended = self.reap()?;
            self.refresh_claims()?;
            let due = looked.is_none_or(|looked| looked.elapsed() >= LOOK);
            if ended || (due && self.going.len() < usize::from(self.args.jobs)) {
                let left = self.start_what_is_missing(wanted)?;
                looked = Some(Instant::now());
                if left == 0 && self.going.is_empty() {
                    return Ok(());
                }
            }
            self.show();
            sleep(TICK);
        }
    }

    /// Starts as many runs as there is room for. Returns how many have not ended yet.
    fn start_what_is_missing(&mut self, wanted: &[Wanted<'s>]) -> Result<usize> {
        self.index.read(&self.runs)?;
        let mut left = 0;
        for &wanted in wanted {
            let identity = &wanted.trial.identity;
            if self.settled.contains(identity) {
                continue;
            }
            left += 1;
            if self.going.iter().any(|going| going.wanted.trial.identity == *identity) {
                continue;
            }
            match self.state(wanted) {
                State::Done => {
                    self.settle_done(wanted)?;
                    left -= 1;
                }
                State::Failed(why) => {
                    self.settle_failed(wanted, &why);
                    left -= 1;
                }
                State::Busy => {}
                State::Resumable(_) | State::Missing if self.going.len() < usize::from(self.args.jobs) => {
                    self.claim_and_start(wanted)?;
                }
                State::Resumable(_) | State::Missing => {}
            }
        }
        self.progress.count(wanted.len() - left, wanted.len());
        Ok(left)
    }

    fn state(&self, wanted: Wanted<'_>) -> State {
        let identity = &wanted.trial.identity;
        match self.index.run(identity) {
            None => State::Missing,
            Some(run) => match run.status {
                Status::Finished => State::Done,
                Status::Running => State::Busy,
                Status::Interrupted => State::Resumable(run.folder.clone()),
                Status::Failed if self.args.retry_failed && !self.retried.contains(identity) => {
                    State::Resumable(run.folder.clone())
                }
                Status::Failed => State::Failed(run.problem.clone().unwrap_or_default()),
                // It is left as it is; another run takes its place.
                Status::Damaged => State::Missing,
            },
        }
    }

    fn claim_and_start(&mut self, wanted: Wanted<'s>) -> Result<()> {
        let identity = &wanted.trial.identity;
        let claim = match self.claims.take(claim_key(identity))? {
            Taken::Mine(claim) => claim,
            Taken::Held(owner) => {
                if self.told.insert(identity.clone(), owner.clone()).as_ref() != Some(&owner) {
                    self.progress.say(&format!("{}: {owner} is at it", wanted.name()));
                }
                return Ok(());
            }
        };
        // What was true when the folder was read may not be any more: the claim may have been given back since.
        self.index.read(&self.runs)?;
        let resumed = match self.state(wanted) {
            State::Missing => None,
            State::Resumable(folder) => Some(folder),
            State::Done | State::Busy | State::Failed(_) => return Ok(()),
        };
        if self.args.retry_failed {
            self.retried.insert(identity.clone());
        }
        if resumed.is_none() {
            self.warn_of_photos(&wanted.trial.recipe)?;
        }
        let arguments = match &resumed {
            None => self.recipe_arguments(wanted),
            Some(folder) => self.resume_arguments(folder),
        };
        let log = self.runs.join(sweeps::FOLDER).join("logs");
        let log = log.join(format!("{}-{}.log", self.sweep.name, identity.get(..16).unwrap_or(identity)));
        let membership = self.membership(wanted);
        if let Some(folder) = &resumed {
            join(folder, &membership)?;
        }
        let child = ChildRun::start(&arguments, &membership, &log)?;
        let verb = if resumed.is_some() { "resumed" } else { "started" };
        self.progress.say(&format!("{}: {verb}, log {}", wanted.name(), log.display()));
        self.going.push(Going { wanted, child, claim, since: Instant::now(), lost: false });
        Ok(())
    }

    /// Says what should be known of photos before a run with them is started, once. What keeps them from being opened the run itself
    /// will say.
    fn warn_of_photos(&mut self, recipe: &Recipe) -> Result<()> {
        let copies = recipe.augmentation.copies;
        let asked = format!("{}{copies} {}", toml::to_string(&recipe.data)?, recipe.train.batch_size);
        if !self.looked_at.insert(asked) {
            return Ok(());
        }
        let Ok(dataset) = open_dataset(&recipe.data, true) else { return Ok(()) };
        for line in dataset.notes.iter().cloned().chain(warnings(&dataset, recipe)) {
            if self.warned.insert(line.clone()) {
                self.progress.say(&line);
            }
        }
        Ok(())
    }

    fn membership(&self, wanted: Wanted<'_>) -> Membership {
        Membership {
            sweep: self.sweep.name.clone(),
            point: wanted.point.name.clone(),
            seed: wanted.trial.seed,
            set: wanted.trial.overrides.clone(),
        }
    }

    /// A command that the user could give as well.
    fn recipe_arguments(&self, wanted: Wanted<'_>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["recipe".into(), self.sweep.recipe.clone().into()];
        if let Some(preset) = &self.sweep.preset {
            arguments.extend(["--preset".into(), preset.into()]);
        }
        for change in &wanted.trial.overrides {
            arguments.extend(["--set".into(), change.into()]);
        }
        arguments.extend(self.machine_arguments());
        arguments
    }

    fn resume_arguments(&self, folder: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["resume".into(), folder.into()];
        arguments.extend(self.machine_arguments());
        arguments
    }

    /// The machine, divided among the jobs.
    fn machine_arguments(&self) -> Vec<OsString> {
        let machine = &self.args.machine;
        let all =
            machine.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
        let each = (all / usize::from(self.args.jobs)).max(1);
        let mut arguments: Vec<OsString> = vec!["--runs".into(), self.runs.clone().into()];
        arguments.extend(["--threads".into(), each.to_string().into()]);
        let device = Some(machine.device).filter(|device| *device != DeviceChoice::Auto);
        if let Some(device) = device {
            arguments.extend(["--device".into(), device.to_string().into()]);
        }
        if machine.offline {
            arguments.push("--offline".into());
        }
        arguments
    }

    /// Takes note of runs that have ended. True if there were any.
    fn reap(&mut self) -> Result<bool> {
        let mut ended = Vec::new();
        let mut still = Vec::new();
        for mut going in std::mem::take(&mut self.going) {
            match going.child.ended()? {
                Some(status) => ended.push((going, status)),
                None => still.push(going),
            }
        }
        self.going = still;
        if ended.is_empty() {
            return Ok(false);
        }
        self.index.read(&self.runs)?;
        for (going, status) in ended {
            let wanted = going.wanted;
            match self.state(wanted) {
                State::Done => {
                    let run = self.index.run(&wanted.trial.identity);
                    self.progress.done(&wanted.name(), run, going.since.elapsed());
                    self.settle_done(wanted)?;
                }
                // Whoever has taken it over goes on with it.
                _ if going.lost => {}
                _ => {
                    let log = going.child.log().display();
                    let why = match going.child.error() {
                        Some(error) => format!("{error}\n    log {log}"),
                        None if status.success() => {
                            format!("somebody stopped it; the next `ft sweep` goes on with it\n    log {log}")
                        }
                        None => format!(
                            "it ended without a word ({status}); the next `ft sweep` goes on with it\n    log {log}"
                        ),
                    };
                    self.settle_failed(wanted, &why);
                }
            }
        }
        Ok(true)
    }

    fn settle_done(&mut self, wanted: Wanted<'s>) -> Result<()> {
        if self.settled.insert(wanted.trial.identity.clone())
            && let Some(run) = self.index.run(&wanted.trial.identity)
        {
            join(&run.folder, &self.membership(wanted))?;
        }
        Ok(())
    }

    fn settle_failed(&mut self, wanted: Wanted<'_>, why: &str) {
        if self.settled.insert(wanted.trial.identity.clone()) {
            self.progress.say(&format!("{}: failed: {why}", wanted.name()));
            self.failed.push((wanted.name(), why.to_owned()));
        }
    }

    /// Keeps the claims, and stops what is somebody else's now.
    fn refresh_claims(&mut self) -> Result<()> {
        for going in self.going.iter_mut().filter(|going| !going.lost) {
            if !going.claim.refresh()? {
                going.lost = true;
                going.child.ask_to_stop();
                self.progress.say(&format!(
                    "{}: this process was held up for so long that another one has taken it over; it is left to that one",
                    going.wanted.name()
                ));
            }
        }
        Ok(())
    }

    fn show(&mut self) {
        if self.progress.is_due() {
            let lines = self.going.iter_mut().map(|going| {
                let epochs = going.wanted.trial.recipe.train.epochs;
                (going.wanted.name(), going.child.folder().map(Path::to_owned), epochs)
            });
            let lines: Vec<_> = lines.collect();
            self.progress.show(&lines);
        }
    }

    /// Ends after a request to stop.
    fn stopped(&mut self, wanted: &[Wanted<'s>]) -> Result<()> {
        let going = self.going.len();
        if going > 0 {
            self.progress.say(&format!("stopping {}; what was reached is kept", counted(going, "run")));
        }
        self.stop_all();
        self.index.read(&self.runs)?;
        let done = wanted.iter().filter(|wanted| matches!(self.state(**wanted), State::Done)).count();
        bail!(
            "stopped: {done} of {} done; the same command goes on with the others: ft sweep {}",
            counted(wanted.len(), "run"),
            self.args.file.display()
        )
    }

    /// Stops all runs in order and waits for them. One that has made no folder yet has nothing to keep.
    fn stop_all(&mut self) {
        for going in &mut self.going {
            going.child.ask_to_stop();
            if going.child.folder().is_none() {
                going.child.kill();
            }
        }
        for mut going in self.going.drain(..) {
            // Until it has ended its claim must not look forsaken.
            while matches!(going.child.ended(), Ok(None)) {
                let _ = going.claim.refresh();
                sleep(TICK);
            }
        }
    }

    /// Runs that ended well, by identity, as [`Self::conduct`] has left them.
    pub fn finished(&self, identity: &str) -> Option<&RunInfo> {
        self.index.run(identity).filter(|run| run.status == Status::Finished)
    }

    /// Whether it is on record how a run ended, as [`Self::conduct`] has left it.
    pub fn has_ended(&self, identity: &str) -> bool {
        self.index.run(identity).is_some_and(|run| matches!(run.status, Status::Finished | Status::Failed))
    }

    /// A line for the user.
    pub fn say(&self, line: &str) {
        self.progress.say(line);
    }

    /// An error if runs have failed.
    ///
    /// # Errors
    /// That one.
    pub fn verdict(&self) -> Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let list: String = self.failed.iter().map(|(name, why)| format!("\n  {name}: {why}")).collect();
        let again = format!("\n  try them again: ft sweep {} --retry-failed", self.args.file.display());
        bail!("{} failed:{list}{again}", counted(self.failed.len(), "run"))
    }
}
