//! What launchers of parallel programs tell a process in its environment.

/// A process among several that a launcher has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Who started it, as a user calls it.
    pub launcher: &'static str,
    pub rank: usize,
    /// At least 2.
    pub size: usize,
}

/// Variables with the number of processes and with this one's number. Not `SLURM_NTASKS`: that says what was asked for, and a shell
/// inside an allocation has it too. A step's own number of tasks is what `srun` has started.
const LAUNCHERS: [(&str, &str, &str); 5] = [
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("mpirun", "PMI_SIZE", "PMI_RANK"),
    ("mpirun", "PALS_NRANKS", "PALS_RANKID"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
];

/// Says that copies started side by side are meant to train a run each.
pub const ALONE: &str = "FT_ALONE";

/// What the environment says; none for a process of its own.
pub fn detect() -> Option<Launch> {
    detect_in(|name| std::env::var(name).ok())
}

fn detect_in(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    if variable(ALONE).is_some_and(|value| !value.is_empty() && value != "0") {
        return None;
    }
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    let told = |(launcher, size, rank): (&'static str, &str, &str)| {
        Some(Launch { launcher, size: number(size)?, rank: number(rank)? })
    };
    // The first that says anything: `mpirun` inside a step of `srun` has both.
    LAUNCHERS.into_iter().find_map(told).filter(|launch| launch.size > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Option<Launch> {
        detect_in(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn several_processes_of_a_launcher_are_found() {
        let open_mpi = with(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3")]).unwrap();
        assert_eq!((open_mpi.launcher, open_mpi.rank, open_mpi.size), ("mpirun", 3, 4));
        assert_eq!(with(&[("PMI_SIZE", "2"), ("PMI_RANK", "0")]).unwrap().size, 2);
        let slurm = with(&[("SLURM_NTASKS", "8"), ("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "5")]).unwrap();
        assert_eq!((slurm.launcher, slurm.rank, slurm.size), ("srun", 5, 8));
        // One daemon of mpirun on each of 2 machines, 4 ranks on each.
        let both = [
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_PROCID", "1"),
            ("OMPI_COMM_WORLD_SIZE", "8"),
            ("OMPI_COMM_WORLD_RANK", "6"),
        ];
        assert_eq!(with(&both).unwrap().size, 8);
    }

    #[test]
    fn one_process_is_none_whatever_was_asked_for() {
        assert_eq!(with(&[]), None);
        assert_eq!(
            with(&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")]),
            None,
            "a shell or batch script in an allocation"
        );
        assert_eq!(
            with(&[("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")]),
            None,
            "srun -n1"
        );
        assert_eq!(with(&[("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")]), None);
        assert_eq!(with(&[("OMPI_COMM_WORLD_SIZE", "many"), ("OMPI_COMM_WORLD_RANK", "0")]), None);
        assert_eq!(with(&[("PMI_SIZE", "4"), ("PMI_RANK", "1"), (ALONE, "1")]), None, "meant to be on its own");
    }
}
