//! What `ft doctor` checks: whether this machine computes what it should.
//!
//! Every operation runs forwards and backwards on the device, in each form that it has there, at the shapes that real networks
//! call it with ([`networks`], [`cases`]), and is compared with a plain `f64` reference ([`reference`]) within limits that follow
//! from the arithmetic ([`verdict`]). Then a training step of each recipe's network is compared with the same step on the CPU
//! ([`step`]). Results are kept by device, driver and version ([`history`]), so that a GPU is checked before it is first used.

pub mod cases;
mod check;
pub mod facts;
pub mod history;
pub mod lab;
pub mod networks;
pub mod reference;
pub mod step;
pub mod values;
pub mod verdict;

use std::time::Instant;

use anyhow::{Result, anyhow};
use candle_core::Device;
use serde::Serialize;

use facts::DeviceFacts;
use history::{Identity, Outcome};
use lab::{Check, Form, Hook, Lab, NAMES};
use networks::Experiment;
use step::StepReport;
use verdict::Worst;

/// Multiplications that the reference may spend on one result, in the long and in the short form.
const BUDGETS: [usize; 2] = [1 << 21, 1 << 18];

/// Timed steps of each network.
const REPETITIONS: usize = 2;

/// Recipes whose steps are tried in the short form: residual networks with and without a frozen part, in little time.
const SHORT: [&str; 2] = ["petals-transfer", "resnet20-cifar10"];

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct Examination {
    pub device: Device,
    /// The short form: every operation over small maps, and two steps.
    pub quick: bool,
    pub hook: Hook,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    pub device: DeviceFacts,
    /// `full` or `quick`.
    pub form: &'static str,
    /// The check that was broken on purpose, if one was.
    pub broken: Option<&'static str>,
    pub seconds: f64,
    pub ok: bool,
    /// Checks that are off, in the order of the table.
    pub off: Vec<String>,
    /// Each operation in each form, at its worst.
    pub operations: Vec<Row>,
    pub steps: Vec<StepReport>,
    /// What the device would not do at all.
    pub refused: Vec<Refused>,
    /// Every result that was compared.
    pub checks: Vec<Check>,
}

/// All cases of an operation in one form.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub op: &'static str,
    pub form: Form,
    pub cases: usize,
    /// Values that were compared.
    pub compared: usize,
    /// Of the case that came nearest to its limit, or went farthest beyond it.
    pub worst: Worst,
    /// That case.
    pub case: String,
    /// Whether all cases are.
    pub ok: bool,
}

/// An error in place of a result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refused {
    pub what: String,
    pub error: String,
}

impl Examination {
    /// Runs all checks. `tell` hears what is going on. What is off, and what the device refuses, is in the findings.
    ///
    /// # Errors
    /// If a built-in recipe is wrong.
    pub fn run(&self, tell: &mut dyn FnMut(&str)) -> Result<Findings> {
        let started = Instant::now();
        let experiments = networks::experiments()?;
        let (mut checks, mut refused) = (Vec::new(), Vec::new());
        for &form in Form::of(&self.device) {
            tell(&format!("operations: {} …", form.title()));
            let mut lab = Lab::new(&self.device, form, BUDGETS[usize::from(self.quick)], self.hook);
            refused.extend(self.operations(&mut lab, &experiments)?);
            checks.append(&mut lab.checks);
        }
        let steps = self.steps(&experiments, tell, &mut refused);
        let operations = rows(&checks);
        let off = off(&operations, &steps, &refused);
        Ok(Findings {
            device: facts::of_device(&self.device),
            form: if self.quick { "quick" } else { "full" },
            broken: self.hook.name(),
            seconds: started.elapsed().as_secs_f64(),
            ok: off.is_empty(),
            off,
            operations,
            steps,
            refused,
            checks,
        })
    }

    fn operations(&self, lab: &mut Lab, experiments: &[Experiment]) -> Result<Vec<Refused>> {
        let mut refused = Vec::new();
        let mut note = |what: String, result: Result<()>| {
            if let Err(error) = result {
                refused.push(Refused { what, error: format!("{error:#}") });
            }
        };
        for found in networks::calls(experiments, self.quick)? {
            let result = check::run(lab, &found.case);
            note(format!("{} at {} ({})", found.case.work.name(), lab.case, lab.form.title()), result);
        }
        let result = check::beside(lab);
        note(format!("{} ({})", lab.case, lab.form.title()), result);
        Ok(refused)
    }

    fn steps(
        &self,
        experiments: &[Experiment],
        tell: &mut dyn FnMut(&str),
        refused: &mut Vec<Refused>,
    ) -> Vec<StepReport> {
        let mut groups: Vec<Vec<&Experiment>> = Vec::new();
        for experiment in experiments {
            match groups.iter_mut().find(|group| group.iter().any(|known| known.computes_as(experiment))) {
                Some(group) => group.push(experiment),
                None => groups.push(vec![experiment]),
            }
        }
        let wanted = |group: &&Vec<&Experiment>| {
            !self.quick || group.iter().any(|experiment| SHORT.contains(&experiment.recipe.name.as_str()))
        };
        let mut reports = Vec::new();
        for group in groups.iter().filter(wanted) {
            let name = group.first().map(|experiment| experiment.recipe.name.clone()).unwrap_or_default();
            tell(&format!("a training step of {name} …"));
            match step::compare(group, &self.device, self.hook, REPETITIONS) {
                Ok(report) => reports.push(report),
                Err(error) => refused.push(Refused { what: format!("a step of {name}"), error: format!("{error:#}") }),
            }
        }
        reports
    }
}

impl Findings {
    /// What is kept of them.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            identity: Identity::of(&self.device),
            form: self.form.to_owned(),
            ok: self.ok,
            off: self.off.clone(),
            checked: jiff::Timestamp::now().to_string(),
            seconds: self.seconds,
        }
    }

    /// None if all is well; else what is off.
    ///
    /// # Errors
    /// Always that.
    pub fn verdict(&self) -> Result<()> {
        if self.ok {
            return Ok(());
        }
        let broken = self.broken.map(|name| format!("; {name} was broken on purpose")).unwrap_or_default();
        Err(anyhow!("off: {}{broken}", self.off.join(", ")))
    }
}

/// The checks of each operation and form together, in the order of [`NAMES`].
fn rows(checks: &[Check]) -> Vec<Row> {
    let forms = Form::ALL;
    let row = |form: Form, op: &'static str| {
        let of: Vec<&Check> = checks.iter().filter(|check| check.op == op && check.form == form).collect();
        let worst = of.iter().max_by(|a, b| a.worst.ratio().total_cmp(&b.worst.ratio()))?;
        Some(Row {
            op,
            form,
            cases: of.len(),
            compared: of.iter().map(|check| check.compared).sum(),
            worst: worst.worst,
            case: worst.case.clone(),
            ok: of.iter().all(|check| check.ok),
        })
    };
    forms.into_iter().flat_map(|form| NAMES.iter().filter_map(move |op| row(form, op))).collect()
}

/// What is not as it should be, each once.
fn off(operations: &[Row], steps: &[StepReport], refused: &[Refused]) -> Vec<String> {
    let operations = operations.iter().filter(|row| !row.ok).map(|row| format!("{} ({})", row.op, row.form.title()));
    let steps = steps.iter().flat_map(|step| {
        let name = step.recipes.first().map(String::as_str).unwrap_or_default();
        step.figures.iter().filter(|figure| !figure.ok).map(move |figure| format!("{} of {name}", figure.op))
    });
    let refused = refused.iter().map(|refused| format!("{} failed", refused.what));
    operations.chain(steps).chain(refused).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The hook's names, the checks, and nothing else; and the processor at hand computes what it should.
    #[test]
    fn every_name_is_checked_and_every_check_has_a_name() {
        let hook = Hook::breaking("subsample").unwrap();
        let examination = Examination { device: Device::Cpu, quick: true, hook };
        let findings = examination.run(&mut |_| {}).unwrap();
        let operations = findings.checks.iter().map(|check| check.op);
        let steps = findings.steps.iter().flat_map(|step| step.figures.iter().map(|figure| figure.op));
        let found: BTreeSet<&str> = operations.chain(steps).collect();
        assert_eq!(found, NAMES.iter().copied().collect());
        assert_eq!(findings.refused, []);
        // All but what was broken, in every form.
        let titles = Form::of(&Device::Cpu).iter().map(|form| format!("subsample ({})", form.title()));
        assert_eq!(findings.off, titles.collect::<Vec<_>>());
        let error = findings.verdict().unwrap_err().to_string();
        assert!(error.contains("subsample") && error.contains("on purpose"), "{error}");
    }
}
