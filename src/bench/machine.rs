//! What the system tells of this process and this processor.

/// The most memory that this process has had at any time so far, in bytes; none where the system does not tell (Linux does).
pub fn peak_memory() -> Option<u64> {
    let kilobytes = line("/proc/self/status", "VmHWM")?.split_whitespace().next()?.parse::<u64>().ok()?;
    Some(kilobytes * 1024)
}

/// Bytes of the largest cache of the first processor; none where the system does not tell (Linux does).
pub fn largest_cache() -> Option<u64> {
    let size = |index: u32| {
        let text = std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).ok()?;
        Some(text.trim().strip_suffix('K')?.parse::<u64>().ok()? * 1024)
    };
    (0..8).filter_map(size).max()
}

/// What stands behind `name:` in a file of Linux.
fn line(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}
