//! The name that was meant by one that was mistyped.

/// The known name that was most likely meant, if one is near: a third of it may differ, letter case aside.
pub fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase();
    // Nobody mistypes a name into something this long, and the distance costs its square.
    if found.len() > 64 {
        return None;
    }
    let distance = |name: &str| strsim::damerau_levenshtein(&found, &name.to_lowercase());
    let near = known.iter().min_by_key(|name| distance(name))?;
    let longest = near.chars().count().max(found.chars().count());
    // Of names of one character that differ, none was meant.
    let allowed = (longest / 3).max(1).min(longest.saturating_sub(1));
    (distance(near) <= allowed).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_must_be_near() {
        let known = ["vcpus", "pin", "emulator"];
        for (found, near) in [
            ("vcpu", Some("vcpus")),
            ("VCPUS", Some("vcpus")),
            ("emulater", Some("emulator")),
            ("pni", Some("pin")),
            ("memory", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, &known), near, "{found}");
        }
    }
}
