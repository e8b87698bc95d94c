//! Processors of a lab host, as a test writes them.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// A regular arrangement of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpus {
    /// Packages.
    pub sockets: u32,
    /// Cores of a package.
    pub cores: u32,
    /// Threads of a core. Debian 12's kernel does not see them: the emulated AMD models lack topoext.
    pub threads: u32,
    /// NUMA nodes, the processors in equal parts on them in order.
    pub nodes: u32,
}

impl Cpus {
    /// How many there are.
    pub fn count(self) -> u32 {
        self.sockets * self.cores * self.threads
    }
}

impl std::str::FromStr for Cpus {
    type Err = anyhow::Error;

    /// Reads `2 sockets × 2 cores × 2 threads on 2 nodes`. What is not named is 1.
    fn from_str(text: &str) -> Result<Self> {
        let mut cpus = Self { sockets: 1, cores: 1, threads: 1, nodes: 1 };
        let (shape, nodes) = text.split_once(" on ").map_or((text, None), |(shape, nodes)| (shape, Some(nodes)));
        for part in shape.split(['×', 'x', '*']).chain(nodes) {
            let (number, unit) =
                part.trim().split_once(' ').with_context(|| format!("`{part}` is no number and unit"))?;
            let number: u32 = number.parse().with_context(|| format!("`{number}` is no number"))?;
            match unit.trim().trim_end_matches('s') {
                "socket" => cpus.sockets = number,
                "core" => cpus.cores = number,
                "thread" => cpus.threads = number,
                "node" => cpus.nodes = number,
                _ => bail!("`{unit}` is none of sockets, cores, threads, nodes"),
            }
        }
        if cpus.count() == 0 || cpus.nodes == 0 || !cpus.count().is_multiple_of(cpus.nodes) {
            bail!("`{text}` cannot be spread evenly over its nodes");
        }
        Ok(cpus)
    }
}

#[test]
fn cpus_are_read_as_a_test_writes_them() {
    let read: Cpus = "2 sockets × 2 cores × 2 threads on 2 nodes".parse().unwrap();
    assert_eq!(read, Cpus { sockets: 2, cores: 2, threads: 2, nodes: 2 });
    assert_eq!("4 cores".parse::<Cpus>().unwrap().count(), 4);
    assert!("3 cores on 2 nodes".parse::<Cpus>().is_err());
    assert!("many cores".parse::<Cpus>().is_err());
}
