//! "Did you mean": the nearest word of a list.

/// Longer words are not compared: a name of 100 KB is no typo.
const MAX_WORD: usize = 64;

/// The candidate most like `word`, when it is alike enough to be a slip of the hand: about one edit in three letters,
/// ignoring case and whether `_` or `-` joins words.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_WORD {
        return None;
    }
    let wanted = fold(word);
    let most = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_WORD)
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&wanted, &fold(candidate)),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= most && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn finds_slips_and_nothing_else() {
        let words = ["health-check", "header", "proxy", "tls", "by"];
        assert_eq!(did_you_mean("helth-check", words), Some("health-check"));
        assert_eq!(did_you_mean("health_check", words), Some("health-check"));
        assert_eq!(did_you_mean("Proxy", words), Some("proxy"));
        assert_eq!(did_you_mean("porxy", words), Some("proxy"));
        assert_eq!(did_you_mean("tsl", words), Some("tls"));
        assert_eq!(did_you_mean("compress", words), None);
        assert_eq!(did_you_mean("", words), None);
        assert_eq!(did_you_mean(&"x".repeat(1000), words), None);
    }
}
