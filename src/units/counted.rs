//! Numbers of things, as people write them.

/// `1 mouse`, `2 mice`.
pub fn counted(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_none_are_several() {
        let mice = |number| counted(number, "mouse", "mice");
        assert_eq!([mice(0), mice(1), mice(2)], ["0 mice", "1 mouse", "2 mice"]);
    }
}
