//! How long a plan takes on hosts from 2 to 512 CPUs. Every start makes one, and nobody should notice.

#[path = "../tests/golden/input.rs"]
mod input;

fn main() {
    divan::main();
}

/// Planning alone: the inputs are read before.
#[divan::bench(args = ["container-2c", "ryzen-7950x3d", "xeon-2numa", "epyc-9754x2-512"])]
fn windows11(bencher: divan::Bencher, host: &str) {
    let inputs = input::Inputs::new("windows11-auto", host, "7.2");
    bencher.bench(|| inputs.plan());
}

/// The largest guest that the host can pin.
#[divan::bench]
fn all_but_two_of_512_cpus(bencher: divan::Bencher) {
    let inputs = input::Inputs::new("largest", "epyc-9754x2-512", "7.2");
    bencher.bench(|| inputs.plan());
}
