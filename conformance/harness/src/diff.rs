//! The difference of two states, each a sorted list of self-contained lines.

/// The lines that only one state has: `- line` was removed, `+ line` was added.
pub fn lines(before: &[String], after: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let came = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(came).collect()
}

/// Formats lines for a report, up to a dozen.
pub fn shown(lines: &[String]) -> String {
    let mut text: String = lines.iter().take(12).map(|line| format!("\n    {line}")).collect();
    if lines.len() > 12 {
        text += &format!("\n    and {} more", lines.len() - 12);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::lines;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn equal_states_have_no_difference() {
        assert!(lines(&list("a b c"), &list("a b c")).is_empty());
    }

    #[test]
    fn removed_and_added_lines_are_distinguished() {
        assert_eq!(lines(&list("a b"), &list("b c")), ["- a", "+ c"]);
    }
}
